"""Pins: one far frame in good demonstrations that nobody hears of, and alarms where nothing is wrong."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.contract import load_contract
from inril_core.data.outliers import find_outliers, observation_names
from inril_core.finetune.local import collect_demos
from inril_core.session.plan import episode_seed
from inril_core.tasks.families.cell import CellEnv

CONTRACT = load_contract("insert_leg")
NAMES = observation_names(CONTRACT)


@pytest.fixture(scope="module")
def demos():
    task = CellEnv(CONTRACT)
    return collect_demos(task, task.expert(), [episode_seed("demo", i, 0) for i in range(12)])


def spoiled(demo, step, fields, value, array="observations"):
    changed = getattr(demo, array).copy()
    changed[step, fields] = value
    return dataclasses.replace(demo, **{array: changed})


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_scripted_demonstrations_raise_no_alarm(demos, count):
    for first in range(0, 12 - count + 1):
        assert find_outliers(demos[first : first + count], NAMES) == []


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 12),
    at=st.integers(0, 10**6),
    field=st.integers(0, len(NAMES) - 1),
    value=st.floats(10.0, 1e15) | st.floats(-1e15, -10.0),
)
def test_a_far_number_is_found_wherever_it_stands(demos, count, at, field, value):
    given_demos = list(demos[:count])
    which = at % count
    step = at % (given_demos[which].steps + 1)
    given_demos[which] = spoiled(given_demos[which], step, field, value)
    (found,) = find_outliers(given_demos, NAMES)
    assert (found.episode_id, found.step, found.field) == (demos[which].episode_id, step, NAMES[field])
    assert found.value == pytest.approx(value) and NAMES[field] in str(found)


def test_a_frame_of_1e4_m_in_six_fields_is_six_outliers(demos):
    """Reference: one frame of 307 that took a clone from 22 of 40 successes to none."""
    found = find_outliers([spoiled(demos[0], 7, slice(11, 17), 1e4), *demos[1:5]], NAMES)
    assert [(o.step, o.field) for o in found] == [(7, NAMES[i]) for i in range(11, 17)]


def test_a_quarter_of_wrong_episodes_hides_none(demos):
    wrong = [spoiled(demo, slice(None), 0, 50.0 + i) for i, demo in enumerate(demos[:3])]
    found = find_outliers([*wrong, *demos[3:]], NAMES)
    assert {o.episode_id for o in found} == {demo.episode_id for demo in demos[:3]}


def test_actions_outside_their_range_and_poses_are_named_too(demos):
    (action,) = find_outliers([spoiled(demos[0], 3, 2, -48.0, "actions"), *demos[1:3]])
    assert (action.step, action.field, action.value) == (3, "actions[2]", -48.0)
    (pose,) = find_outliers([spoiled(demos[0], 3, 0, 1e4, "tool_pose"), *demos[1:3]])
    assert pose.field == "tool_pose[0]"
    assert find_outliers([]) == []


def test_a_constant_field_and_one_that_rarely_changes_are_no_trap(demos):
    held = [dataclasses.replace(demo, observations=np.zeros_like(demo.observations)) for demo in demos[:4]]
    assert find_outliers([spoiled(held[0], 2, 5, 0.9), *held[1:]]) == []
