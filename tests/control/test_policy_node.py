"""Pins: weights that a library would refuse or swap rightly, and a node over DDS does not."""

import json
import signal
import time

import numpy as np
import pytest
import torch
from inril_common.convert import float32_array
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import Observation, PolicyAction, PolicyStatus, PolicyWeights
from inril_msgs.srv import RollBack

from inril_core.blobs import BlobServer
from inril_core.contract import load_contract
from inril_core.evaluation.headline import summary
from inril_core.policies import GaussianPolicy, save_policy
from inril_core.run import open_run
from inril_core.weights import Offer, load_or_create_key, write_pack

CONTRACT = load_contract("insert_leg")
STATE = np.linspace(-0.3, 0.3, CONTRACT.observation_size).astype(np.float32)


def policy(bias: float = 0.0) -> GaussianPolicy:
    torch.manual_seed(0)
    made = GaussianPolicy(CONTRACT.observation_size, 6)
    with torch.no_grad():
        made.head.bias[:6] = bias
    return made


class Learner:
    """What the learner's side does: packs, offers, and serves."""

    def __init__(self, bench, folder) -> None:
        self.run_id = open_run(folder / "run").run_id
        self.key = load_or_create_key(folder / "weights.key")
        self.blobs, self._folder = BlobServer(self.key), folder
        self._publisher = bench.node.create_publisher(PolicyWeights, "/policy_weights", LATCHED)

    def push(self, n: int, bias: float = 0.0, key: bytes | None = None) -> None:
        made = policy(bias)
        manifest = {
            "run_id": self.run_id,
            "n": n,
            "parent": n - 1,
            "interface_digest": CONTRACT.interface_digest,
            "contract_text": CONTRACT.text,
            "policy": made.manifest(),
            "created_ns": time.time_ns(),
        }
        path = self._folder / f"push-{n}-{bias}.pack"
        size, digest = write_pack(path, made.state_dict(), manifest)
        self.blobs.put(digest, path)
        offer = Offer.signed(self.key if key is None else key, self.run_id, n, size, digest)
        message = PolicyWeights(run_id=offer.run_id, n=n, size_bytes=size, address=self.blobs.address)
        message.digest, message.mac = (np.frombuffer(field, np.uint8) for field in (offer.digest, offer.mac))
        now_ns = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
        self._publisher.publish(message)


class Robot:
    """Opens ticks and hears the answers."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.answers = bench.hear(PolicyAction, "/policy_action", TICK)
        self.publisher = bench.node.create_publisher(Observation, "/observation", TICK)
        self.k = -1

    def tick(self, step: int, explore: bool = False) -> PolicyAction:
        """An answered tick. A node that was killed seems to listen for a while, so it may take several."""
        first, deadline = self.k + 1, 0.0

        def heard() -> PolicyAction | None:
            nonlocal deadline
            if time.monotonic() > deadline:
                self.observe(step, explore)
                deadline = time.monotonic() + 2.0
            return next((answer for answer in self.answers if answer.k >= first), None)

        return self.bench.until(heard, f"answer to tick {first}")

    def observe(self, step: int, explore: bool = False, last: bool = False) -> None:
        self.bench.until(self.publisher.get_subscription_count, "policy_node's subscription")
        self.k += 1
        message = Observation(boot_id="o", k=self.k, episode_id="e", step=step, seed=5, explore=explore, last=last)
        message.phase, message.purpose = Observation.PHASE_RUN, Observation.PURPOSE_TRAIN
        message.state = float32_array(STATE)
        self.publisher.publish(message)


@pytest.fixture
def start(bench, tmp_path):
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(tmp_path / "initial.inril", policy(), facts)

    def run():
        return bench.start(
            "inril_control.policy_node",
            run_dir=tmp_path / "run",
            initial_weights=tmp_path / "initial.inril",
        )

    return run


def test_it_acts_swaps_refuses_rolls_back_and_survives_a_kill(bench, tmp_path, start):
    statuses = bench.hear(PolicyStatus, "/policy_status", LATCHED)
    robot, learner = (
        Robot(
            bench,
        ),
        Learner(bench, tmp_path),
    )
    process = start()

    first = robot.tick(0)
    assert (first.run_id, first.n, first.boot_id) == (learner.run_id, 0, "o")
    expected = policy().act(STATE, False, np.random.default_rng(0)).action
    np.testing.assert_allclose(np.array(first.action), expected, atol=1e-6)
    noisy = robot.tick(1, explore=True)
    assert list(noisy.raw) == list(robot.tick(1, explore=True).raw) != list(first.raw)

    learner.push(1, bias=0.3)
    bench.until(lambda: statuses[-1].pending_n == 1, "pending version")
    assert robot.tick(2).n == 0
    assert robot.tick(0).n == 1
    bench.until(lambda: statuses[-1].active_n == 1, "active version")
    assert statuses[-1].push_to_acting_ms > 0

    for n, changes, reason in ((2, {"key": bytes(32)}, "bad_signature"), (1, {"bias": 0.1}, "old_version")):
        rejected = statuses[-1].rejected
        learner.push(n, **changes)
        bench.until(lambda before=rejected: statuses[-1].rejected > before, reason)
        assert statuses[-1].last_rejection.startswith(reason) and statuses[-1].last_rejected_n == n
    learner.push(3, bias=3.0)
    bench.until(lambda: statuses[-1].last_rejection.startswith("wild_action"), "refusal of wild weights")
    assert robot.tick(0).n == 1
    numbers = summary(tmp_path / "run")
    assert (numbers["weights_pushed"], numbers["weights_rejected"]) == (1, 3)
    assert numbers["push_to_acting_ms_p50"] > 0

    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    process = start()
    assert robot.tick(7).n == 1

    learner.push(4, bias=0.4)
    bench.until(lambda: statuses[-1].pending_n == 4, "pulled version")
    assert robot.tick(0).n == 4
    reply = bench.ask(RollBack, "/policy/roll_back", RollBack.Request(run_id=learner.run_id, n=1))
    assert reply.success, reply.message
    assert robot.tick(0).n == 1
    bench.until(lambda: statuses[-1].pinned, "pin")
    assert not bench.ask(RollBack, "/policy/roll_back", RollBack.Request(run_id="x", n=1)).success
    assert bench.end(process) == 0

    lines = [json.loads(line) for line in (tmp_path / "run" / "weights" / "log.jsonl").read_text().splitlines()]
    assert [line["n"] for line in lines if line["event"] == "acting"] == [1, 4]  # not the roll-back to 1


def test_a_log_that_cannot_be_written_stops_no_weights(bench, tmp_path, start):
    robot, learner = Robot(bench), Learner(bench, tmp_path)
    (tmp_path / "run" / "weights" / "log.jsonl").mkdir(parents=True)
    statuses = bench.hear(PolicyStatus, "/policy_status", LATCHED)
    process = start()
    learner.push(1, bias=0.3)
    bench.until(lambda: statuses and statuses[-1].pending_n == 1, "pending version")
    assert [robot.tick(0).n, robot.tick(1).n] == [1, 1]
    assert bench.end(process) == 0
