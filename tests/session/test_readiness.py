"""Pins: an episode that counts though a restart, a disarming or the recorder's death cut it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from inril_core.contract import load_contract
from inril_core.session.long_wait import LongWait
from inril_core.session.readiness import Expected, Readiness
from inril_core.session.statuses import ArbiterNews, LearnerNews, News, PolicyNews, RecorderNews, RecorderState


@pytest.fixture
def ready() -> Readiness:
    """An armed arbiter and an idle recorder, and an episode that begins."""
    ready = Readiness(load_contract("insert_leg"), Expected(), lockstep=False, now_ns=0)
    ready.hear(ArbiterNews(boot_id="a", armed=True), 0)
    ready.hear(RecorderNews(boot_id="r"), 0)
    ready.note_begin()
    return ready


def test_an_undisturbed_episode_runs_on(ready: Readiness) -> None:
    assert ready.trouble_while_running(0) == ""


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (ArbiterNews(boot_id="a", armed=False), "disarmed"),
        (ArbiterNews(boot_id="b", armed=True), "arbiter_node restarted"),
        (ArbiterNews(boot_id="a", armed=True, faults=["observation_stale"]), "observation_stale"),
    ],
)
def test_an_arbiter_that_no_longer_drives_spoils_the_episode(ready: Readiness, status: ArbiterNews, word: str) -> None:
    ready.hear(status, 0)
    assert word in ready.trouble_while_running(0)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (RecorderNews(boot_id="r", episode_id="e", state=RecorderState.RECORDING, last_step_on_disk=9), None),
        (RecorderNews(boot_id="r", episode_id="before", last_step_on_disk=9), None),
        (RecorderNews(boot_id="r", episode_id="e", last_step_on_disk=9), ""),
        (RecorderNews(boot_id="r", episode_id="e", last_step_on_disk=8), "recorder_node has 9 of 10 steps"),
        (RecorderNews(boot_id="s", last_step_on_disk=-1), "recorder_node restarted"),
    ],
)
def test_an_episode_counts_only_when_it_is_whole_on_disk(
    ready: Readiness, status: RecorderNews, answer: str | None
) -> None:
    ready.hear(status, 0)
    assert ready.not_recorded("e", 10) == answer


def test_no_episode_begins_before_the_arbiter_has_heard_the_restarted_recorder(ready: Readiness) -> None:
    ready.hear(PolicyNews(active_n=0), 0)
    ready.hear(LearnerNews(), 0)
    ready.hear(ArbiterNews(boot_id="a", armed=True, recorder_boot_id="r"), 0)
    assert not ready.blocked_by("train", 0)
    ready.hear(RecorderNews(boot_id="s", last_step_on_disk=-1), 0)
    assert "arbiter_node to hear" in ready.blocked_by("train", 0).text
    ready.hear(ArbiterNews(boot_id="a", armed=True, recorder_boot_id="s"), 0)
    assert not ready.blocked_by("train", 0)


def test_in_lockstep_nothing_is_trained_on_while_the_guard_looks_at_what_acts() -> None:
    ready = Readiness(load_contract("insert_leg"), Expected(), lockstep=True, now_ns=0)
    ready.hear(RecorderNews(boot_id="r"), 0)
    ready.hear(PolicyNews(active_n=0), 0)
    ready.hear(ArbiterNews(boot_id="a", armed=True, recorder_boot_id="r"), 0)
    ready.hear(LearnerNews(state="checking", reason="guard: trials of version 4"), 0)
    assert ready.blocked_by("train", 0).text == "learner_node: guard: trials of version 4"
    ready.hear(LearnerNews(state="waiting", reason="for the next episode"), 0)
    assert not ready.blocked_by("train", 0)


def test_the_news_are_fields_of_the_messages() -> None:
    """Pins: a field that is renamed in the message and stays at its default in the session for ever."""
    messages = pytest.importorskip("inril_msgs.msg")
    pairs: dict[type[News], Any] = {
        ArbiterNews: messages.ArbiterStatus,
        PolicyNews: messages.PolicyStatus,
        LearnerNews: messages.LearnerStatus,
        RecorderNews: messages.RecorderStatus,
    }
    for news, message in pairs.items():
        assert {field.name for field in fields(news)} <= message.get_fields_and_field_types().keys()
    for state in RecorderState:
        assert getattr(messages.RecorderStatus, state.name) == state


def test_a_wait_that_lasts_is_told_now_and_then() -> None:
    """Pins: a console that stands still while a person is waited for, and one full of the same line."""
    told: list[str] = []
    wait = LongWait(told.append)
    for second in range(41):
        wait.update("" if second == 4 else "faults, then `inril arm`", second * 1_000_000_000)
        assert len(told) == (second >= 10) + (second >= 25) + (second >= 40)
    assert told[0] == "waiting for: faults, then `inril arm`"


def test_before_the_first_update_the_progress_line_says_what_the_learner_waits_for(ready: Readiness) -> None:
    """Pins a session that ends with 0 updates, and nobody was told why."""
    ready.hear(LearnerNews(state="waiting", reason="7 of 2000 warm-up steps"), 0)
    assert "0 updates (7 of 2000 warm-up steps), version" in ready.learner_summary()
    ready.hear(LearnerNews(state="waiting", reason="for the next episode", updates=3), 0)
    assert "(" not in ready.learner_summary()
