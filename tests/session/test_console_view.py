"""Pins: a page that shows the tick before a reset, or numbers that JSON cannot hold."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("rclpy")

from inril_msgs.msg import Observation
from inril_session.console_view import observed


def observation(**changes: object) -> Observation:
    values = {"episode_id": "run-1-000001", "step": 7, "phase": Observation.PHASE_RUN, "state": [0.25, math.nan]}
    return Observation(**(values | {"purpose": Observation.PURPOSE_TRAIN} | changes))


def test_a_page_is_told_what_the_policy_is_given() -> None:
    said = observed(observation())
    assert said is not None
    told = json.loads(said.encode())
    assert told == {
        "kind": "observed",
        "episode_id": "run-1-000001",
        "purpose": "train",
        "step": 7,
        "values": [0.25, None],
    }


@pytest.mark.parametrize(
    "changes", [{"phase": Observation.PHASE_RESET}, {"last": True}, {"purpose": Observation.PURPOSE_NONE}]
)
def test_what_belongs_to_no_running_episode_is_not_shown(changes: dict[str, object]) -> None:
    assert observed(observation(**changes)) is None
    assert observed(None) is None
