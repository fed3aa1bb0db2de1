"""Pins: a learner node that never hears that its weights were refused, and an on-policy run that then stalls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inril_common.qos import LATCHED
from inril_msgs.msg import PolicyStatus

from inril_core.finetune.config import load_config
from inril_core.finetune.demos import read_demos
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import save_policy
from inril_core.run import open_run
from tests.data.synthetic import CONTRACT, Synthetic
from tests.finetune.test_learner_node import LearnerBench, record

ON_POLICY = """
base: residual_ppo
name: small
policy: {hidden: [16], base: {kind: gaussian, hidden: [16]}}
pretrain: {updates: 20}
schedule: {rewards_before_actor: 0, budget_steps: 1000}
rl: {hidden: [16], rollout_steps: 10, epochs: 1, minibatches: 2, critic_warmup_iterations: 0, kl_stop: null}
metrics_every_updates: 2
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LearnerBench]:
    root = tmp_path_factory.mktemp("learner")
    (root / "small.yaml").write_text(ON_POLICY)
    record(root / "demos", Synthetic(steps=8, episode_id="demo-0", purpose="demo", human_from=0))
    policy = pretrain(load_config(root / "small.yaml"), CONTRACT, read_demos(root / "demos", CONTRACT, print))
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(root / "initial.inril", policy, facts)
    with LearnerBench(root) as bench:
        bench.start("inril_session.store_node", label_timeout_s=0.1)
        bench.start_learner()
        yield bench


def test_a_refusal_and_a_foreign_run_are_heard_and_learning_goes_on(bench: LearnerBench) -> None:
    said = bench.node.create_publisher(PolicyStatus, "/policy_status", LATCHED)
    run_id = open_run(bench.run_dir).run_id

    def rollout(name: str, acting: int, wanted_n: int) -> None:
        """Steps of the version that acts; the learner trains on them and pushes."""
        record(bench.run_dir, Synthetic(steps=12, episode_id=name, seed=len(name) + acting, policy_n=acting))
        bench.until(lambda: any(pack.n == wanted_n for pack in bench.packs), f"push of version {wanted_n}")

    rollout("train-0", acting=0, wanted_n=1)
    refusal = {"last_rejected_n": 1, "last_rejection": "wild_action: actions change by 0.9", "pending_n": -1}
    said.publish(PolicyStatus(active_run_id=run_id, active_n=0, highest_n=0, **refusal))
    bench.until(lambda: "version 1 was refused: wild_action" in bench.statuses[-1].reason, "word of the refusal")
    rollout("train-1", acting=0, wanted_n=2)  # without going back, these steps are of another version
    said.publish(PolicyStatus(active_run_id=run_id, active_n=0, pending_n=2, highest_n=2, last_rejected_n=1))
    bench.until(lambda: "refused" not in bench.statuses[-1].reason, "the refusal to be over")
    rollout("train-2", acting=2, wanted_n=3)

    foreign = {"last_rejected_n": 3, "last_rejection": "unknown_run: run 'a' is not 'b'; run_id:=b", "pending_n": -1}
    said.publish(PolicyStatus(active_run_id="another run", active_n=0, highest_n=0, **foreign))
    bench.until(lambda: "run_id:=b" in bench.statuses[-1].reason, "the cure")
