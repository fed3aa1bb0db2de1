"""Pins: with a lag, weights that act sooner or later depending on how fast the learner is, or are lost in a restart."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from inril_common.qos import LATCHED
from inril_msgs.msg import PolicyWeights, SessionStatus

from inril_core.finetune.config import load_config
from inril_core.finetune.demos import read_demos
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import save_policy
from tests.data.synthetic import CONTRACT, Synthetic
from tests.finetune.test_learner_node import SMALL, LearnerBench, record


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LearnerBench]:
    (tmp_path / "small.yaml").write_text(SMALL.replace("utd: 1.0", "utd: 1.0, lag_episodes: 1"))
    record(tmp_path / "demos", Synthetic(steps=8, episode_id="demo-0", purpose="demo", human_from=0))
    policy = pretrain(load_config(tmp_path / "small.yaml"), CONTRACT, read_demos(tmp_path / "demos", CONTRACT, print))
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(tmp_path / "initial.inril", policy, facts)
    with LearnerBench(tmp_path) as bench:
        bench.start("inril_session.store_node", label_timeout_s=0.1)
        bench.start_learner(lockstep="true")
        yield bench


def updates_of(bench: LearnerBench, pack: PolicyWeights) -> int:
    """After how many updates the policy of a pack was pushed."""
    (bench.root / "pulled.pack").unlink(missing_ok=True)  # it may be a link to a file that is offered again
    return int(bench.pulled(pack)[1]["updates"])


def test_what_was_trained_acts_when_the_next_episode_has_come_and_at_the_end(bench: LearnerBench) -> None:
    session = bench.node.create_publisher(SessionStatus, "session_status", LATCHED)
    session.publish(SessionStatus(segment="train"))
    for number, steps in enumerate((12, 24, 36)):
        record(bench.run_dir, Synthetic(steps=12, episode_id=f"train-{number}", seed=number))
        status = bench.caught_up(steps)
        assert status.unpublished and status.lag_episodes == 1
        assert bench.kernel_helpers() == 0, "the nodes that drive the next episode need the other core"
        assert status.published_n == (number or -1), "those of the episode before, when this one has come"
    updates = [updates_of(bench, pack) for pack in bench.packs]
    assert updates == [7, 19], "5 of the critic, one per step after 10"

    bench.end("inril_learner.learner_node", signal.SIGTERM)
    bench.packs.clear()
    bench.start_learner(lockstep="true")
    again = bench.until(lambda: bench.packs, "the newest version, which may not have arrived")[0]
    assert (again.n, updates_of(bench, again)) == (2, 19)
    assert bench.caught_up(36).unpublished, "what was trained since acts when the next episode has come"

    session.publish(SessionStatus(segment="eval"))
    last = bench.until(lambda: bench.packs[1:], "the version that is evaluated")[0]
    assert (last.n, updates_of(bench, last)) == (3, 31)
    bench.until(lambda: not bench.statuses[-1].unpublished, "a status that says so")


def test_in_real_time_nothing_is_held_back(bench: LearnerBench) -> None:
    bench.end("inril_learner.learner_node", signal.SIGTERM)
    bench.start_learner()
    record(bench.run_dir, Synthetic(steps=12, episode_id="train-0", seed=0))
    status = bench.until(lambda: bench.statuses and bench.statuses[-1].updates == 7 and bench.statuses[-1], "updates")
    assert status.lag_episodes == 0
    bench.until(lambda: bench.packs, "a push at once")
