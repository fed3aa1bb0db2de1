"""Pins: an episode that counts though a restart, a disarming or the recorder's death cut it; a second arming."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inril_msgs.msg import ArbiterStatus, LearnerStatus, PolicyStatus, RecorderStatus
from inril_session.arm_marker import armed_by_this_launch, note_armed
from inril_session.long_wait import LongWait
from inril_session.readiness import Readiness

from inril_core.contract import load_contract


class FakeNode:
    """Parameters at their defaults, a clock that stands still, and subscriptions to speak into."""

    def __init__(self) -> None:
        self.say: dict[str, Any] = {}

    def param(self, name: str, default: Any, description: str) -> Any:
        return default

    def mono_ns(self) -> int:
        return 0

    def create_subscription(self, kind: Any, topic: str, callback: Any, qos: Any) -> None:
        self.say[topic] = callback


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def ready(node: FakeNode) -> Readiness:
    """An armed arbiter and an idle recorder, and an episode that begins."""
    events = SimpleNamespace(get_subscription_count=lambda: 1)
    ready = Readiness(node, events, load_contract("insert_leg"), lockstep=False)  # type: ignore[arg-type]
    node.say["/arbiter_status"](ArbiterStatus(boot_id="a", armed=True))
    node.say["/recorder_status"](RecorderStatus(boot_id="r", last_step_on_disk=-1))
    ready.note_begin()
    return ready


def test_an_undisturbed_episode_runs_on(ready: Readiness) -> None:
    assert ready.trouble_while_running() == ""


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (ArbiterStatus(boot_id="a", armed=False), "disarmed"),
        (ArbiterStatus(boot_id="b", armed=True), "arbiter_node restarted"),
        (ArbiterStatus(boot_id="a", armed=True, faults=["observation_stale"]), "observation_stale"),
    ],
)
def test_an_arbiter_that_no_longer_drives_spoils_the_episode(
    ready: Readiness, node: FakeNode, status: ArbiterStatus, word: str
) -> None:
    node.say["/arbiter_status"](status)
    assert word in ready.trouble_while_running()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (RecorderStatus(boot_id="r", episode_id="e", state=RecorderStatus.RECORDING, last_step_on_disk=9), None),
        (RecorderStatus(boot_id="r", episode_id="before", last_step_on_disk=9), None),
        (RecorderStatus(boot_id="r", episode_id="e", last_step_on_disk=9), ""),
        (RecorderStatus(boot_id="r", episode_id="e", last_step_on_disk=8), "recorder_node has 9 of 10 steps"),
        (RecorderStatus(boot_id="s", last_step_on_disk=-1), "recorder_node restarted"),
    ],
)
def test_an_episode_counts_only_when_it_is_whole_on_disk(
    ready: Readiness, node: FakeNode, status: RecorderStatus, answer: str | None
) -> None:
    node.say["/recorder_status"](status)
    assert ready.not_recorded("e", 10) == answer


def test_no_episode_begins_before_the_arbiter_has_heard_the_restarted_recorder(
    ready: Readiness, node: FakeNode
) -> None:
    node.say["/policy_status"](PolicyStatus(active_n=0))
    node.say["/learner_status"](LearnerStatus())
    node.say["/arbiter_status"](ArbiterStatus(boot_id="a", armed=True, recorder_boot_id="r"))
    assert ready.blocked_by("train") == ""
    node.say["/recorder_status"](RecorderStatus(boot_id="s", last_step_on_disk=-1))
    assert "arbiter_node to hear" in ready.blocked_by("train")
    node.say["/arbiter_status"](ArbiterStatus(boot_id="a", armed=True, recorder_boot_id="s"))
    assert ready.blocked_by("train") == ""


def test_arm_at_start_arms_once_per_launch(tmp_path: Path) -> None:
    marker = tmp_path / "armed_at_start"
    assert not armed_by_this_launch(marker)
    note_armed(marker)
    assert armed_by_this_launch(marker)
    marker.write_text(marker.read_text().replace("launch ", "launch 1"))
    assert not armed_by_this_launch(marker), "another launch may arm its own simulated cell"


def test_a_wait_that_lasts_is_told_now_and_then() -> None:
    """Pins: a console that stands still while a person is waited for, and one full of the same line."""
    told: list[str] = []
    wait = LongWait(told.append)
    for second in range(41):
        wait.update("" if second == 4 else "faults, then `inril arm`", second * 1_000_000_000)
        assert len(told) == (second >= 10) + (second >= 25) + (second >= 40)
    assert told[0] == "waiting for: faults, then `inril arm`"
