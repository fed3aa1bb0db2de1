"""Pins: curves of interventions that count wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from inril_core.console.tally import SHOWN_EPISODES, DisagreementTrace, EpisodeTally
from inril_core.session.ledger import EpisodeResult
from inril_core.vocabulary import Source

RESULT = EpisodeResult(0, "train:9:episodes", 0, "e0", "train", 1, 4, True, True, "cell", "", 0, 0, 1.0, 1.0, True)


def test_interventions_and_share_of_an_episode() -> None:
    tally = EpisodeTally()
    for source, takeover in ((Source.POLICY, False), (Source.HUMAN, True), (Source.HUMAN, False), (Source.HUMAN, True)):
        tally.on_step("e0", source, takeover)
    tally.on_step("", Source.HUMAN, True)  # outside episodes
    (known, unknown) = tally.curves([RESULT, replace(RESULT, episode_id="e1")], {}).points
    assert (known.interventions, known.human_share, known.success) == (2, 0.75, True)
    assert unknown.interventions == -1 and math.isnan(unknown.human_share)


def test_the_newest_episodes_are_kept() -> None:
    tally = EpisodeTally()
    for i in range(SHOWN_EPISODES + 50):
        tally.on_step(f"e{i}", Source.HUMAN, True)
    results = [replace(RESULT, episode_id=f"e{i}") for i in range(SHOWN_EPISODES + 50)]
    points = tally.curves(results, {}).points
    assert len(points) == SHOWN_EPISODES and {point.interventions for point in points} == {1}


def test_the_trace_is_of_one_episode_and_of_a_persons_steps() -> None:
    trace = DisagreementTrace()
    trace.on_step("e0", 0, 0.5)
    trace.on_step("e1", 0, math.nan)
    trace.on_step("e1", 1, 0.25)
    assert trace.changed
    assert (trace.message().steps, trace.message().distance, trace.message().episode_id) == ((1,), (0.25,), "e1")
    assert not trace.changed


@dataclass(frozen=True)
class Word:
    success: bool | None
    tag: str
    by: str


def test_what_counts_who_says_so_and_what_the_task_said() -> None:
    failed = replace(RESULT, episode_id="e1", success=False, source="episode_length")
    stopped = replace(RESULT, episode_id="e2", success=False, source="safety", reason="safety stop: limit_stop")
    given = replace(RESULT, episode_id="e3", success=False, source="Ada")
    results = [RESULT, failed, stopped, given]
    points = EpisodeTally().curves(results, {}).points
    assert [(p.success, p.by, p.tag, p.task_says) for p in points] == [
        (True, "cell", "", "success"),
        (False, "episode_length", "", "failure"),
        (False, "safety", "safety stop", ""),
        (False, "Ada", "", ""),
    ]
    said = {"e0": Word(False, "dropped", "Bob"), "e1": Word(True, "", "Bob"), "e2": Word(False, "", "Bob")}
    points = EpisodeTally().curves(results, said | {"e3": Word(False, "stuck", "Bob")}).points
    assert [(p.success, p.by, p.tag, p.task_says) for p in points] == [
        (False, "Bob", "dropped", "success"),
        (True, "Bob", "", "failure"),
        (False, "Bob", "safety stop", ""),
        (False, "Bob", "stuck", ""),
    ]
