"""Pins: a measured state outside the contract that lets the arm go on, and a stop that undoes itself at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.contract import Contract, load_contract
from inril_core.contract.schema import Monitor
from inril_core.safety.monitor import NOT_HEARD, MeasuredState, SafetyMonitor

CONTRACT = load_contract("insert_leg")
PERIOD_NS = 100_000_000
COOL_DOWN_N = round(CONTRACT.monitor.cool_down_s * 1e9) // PERIOD_NS
GOOD = MeasuredState(
    boot_id="a",
    stamp_ns=0,
    frame=CONTRACT.base_frame,
    pose=(0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0),
    speed=(0.1, 0.0, 0.0),
    turn=(0.0, 0.0, 0.5),
    joint_position_rad=(0.0, 0.2, 0.0, -1.8, 0.0, 2.0, 0.7),
    joint_velocity_radps=(0.1,) * 7,
    joint_torque_nm=(5.0,) * 7,
    simulated=True,  # may jump
)


class Arm:
    """A monitor, and an arm that tells it a state per control period."""

    def __init__(self, contract: Contract = CONTRACT, checks_age: bool = True) -> None:
        self.monitor = SafetyMonitor(contract, checks_age)
        self.now_ns = PERIOD_NS

    def says(self, **changes: Any) -> tuple[str, ...]:
        """One period later the arm says this; the monitor's reasons then."""
        self.now_ns += PERIOD_NS
        state = GOOD._replace(stamp_ns=self.now_ns)._replace(**changes)
        self.monitor.on_state(state, self.now_ns, self.now_ns)
        return self.monitor.reasons(self.now_ns)

    def periods_until_permitted(self) -> int:
        """States within all limits that it takes."""
        return next(n for n in range(1, 1000) if not self.says())


def test_it_denies_until_it_has_heard_the_arm() -> None:
    arm = Arm()
    assert arm.monitor.reasons(0) == (NOT_HEARD,)
    assert arm.says() == ()


def joint(values: tuple[float, ...], index: int, value: float) -> tuple[float, ...]:
    """The tuple with one number changed."""
    return (*values[:index], value, *values[index + 1 :])


BOX = list(zip(CONTRACT.limits.position_min_m, CONTRACT.limits.position_max_m, strict=True))
MARGIN_M = CONTRACT.monitor.position_margin_m
LIMITS = CONTRACT.monitor
BEYOND = [
    *(
        ({"pose": joint(GOOD.pose, axis, value)}, f"tool {'xyz'[axis]}")
        for axis, (low, high) in enumerate(BOX)
        for value in (low - MARGIN_M - 1e-6, high + MARGIN_M + 1e-6)
    ),
    ({"speed": (0.0, 0.0, -LIMITS.max_tool_speed_mps * 1.001)}, "tool speed"),
    ({"speed": (math.nan, 0.0, 0.0)}, "tool speed"),
    ({"turn": (LIMITS.max_tool_turn_radps * 1.001, 0.0, 0.0)}, "tool turn rate"),
    *(
        ({name: joint(getattr(GOOD, name), index, value)}, f"joint {index + 1} {what}")
        for index in range(7)
        for name, what, value in (
            ("joint_position_rad", "position", LIMITS.joint_position_min_rad[index] - 1e-6),
            ("joint_position_rad", "position", LIMITS.joint_position_max_rad[index] + 1e-6),
            ("joint_velocity_radps", "velocity", -1.001 * LIMITS.max_joint_speed_radps[index]),
            ("joint_torque_nm", "torque", 1.001 * (LIMITS.max_joint_torque_nm or ())[index]),
            ("joint_torque_nm", "torque", math.inf),
            ("joint_position_rad", "position", math.nan),
        )
    ),
    ({"joint_velocity_radps": (0.0,) * 6}, "6 joint numbers"),
    ({"pose": (0.0,) * 7}, "none"),
    ({"pose": (math.nan,) * 7}, "nan"),
    ({"pose": (0.5, 0.0, 0.2, 2.0, 0.0, 0.0, 0.0)}, "length 2"),
    ({"frame": "world"}, "frame_id"),
    ({"pose": (0.5, 0.0, 0.35, 1.0, 0.0, 0.0, 0.0), "simulated": False}, "the tool moved 0.15 m"),
    ({"boot_id": "b"}, "started again"),
]


@pytest.mark.parametrize(("changes", "says"), BEYOND, ids=[f"{n}-{says}" for n, (_, says) in enumerate(BEYOND)])
def test_one_state_beyond_a_limit_denies_for_the_cool_down(changes: dict[str, Any], says: str) -> None:
    """Red: any of the limits taken out of the monitor."""
    arm = Arm()
    assert arm.says() == ()
    reasons = arm.says(**changes)
    assert len(reasons) == 1 and says in reasons[0], reasons
    if "started" in says:
        assert arm.says(boot_id="b"), "a new boot is no reason to be trusted at once"
        return
    assert arm.periods_until_permitted() == COOL_DOWN_N + 1


def test_at_the_limits_it_permits() -> None:
    low, high = zip(*BOX, strict=True)
    arm = Arm(checks_age=True)
    for corner in (tuple(x - MARGIN_M for x in low), tuple(x + MARGIN_M for x in high)):
        assert (
            arm.says(
                pose=(*corner, 1.0, 0.0, 0.0, 0.0),
                speed=(LIMITS.max_tool_speed_mps, 0.0, 0.0),
                joint_position_rad=LIMITS.joint_position_max_rad,
                joint_velocity_radps=LIMITS.max_joint_speed_radps,
            )
            == ()
        )


def test_a_simulated_cell_may_be_laid_out_anew() -> None:
    arm = Arm()
    arm.says()
    assert arm.says(pose=(0.7, 0.3, 0.4, 1.0, 0.0, 0.0, 0.0)) == ()


def test_silence_and_a_stamp_that_stands_still_deny() -> None:
    arm = Arm()
    arm.says()
    frozen_ns = arm.now_ns
    limit_ns = round(CONTRACT.staleness.robot_state_s * 1e9)
    assert arm.monitor.reasons(frozen_ns + limit_ns) == ()
    while arm.now_ns <= frozen_ns + limit_ns:
        reasons = arm.says(stamp_ns=frozen_ns)
    assert "silent" in reasons[0]
    assert arm.says(), "one good state after it is not enough"
    assert arm.periods_until_permitted() == COOL_DOWN_N


def test_in_lockstep_the_arm_waits_for_its_target_as_long_as_that_takes() -> None:
    arm = Arm(checks_age=False)
    arm.says()
    assert arm.monitor.reasons(arm.now_ns + 10**12) == ()
    assert "tool z" in arm.says(pose=(0.5, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0))[0]


def test_old_states_and_a_clock_that_was_set_back_deny() -> None:
    arm = Arm()
    arm.says()
    old_ns = round(CONTRACT.staleness.robot_state_s * 1e9) + 1
    assert "old" in arm.says(stamp_ns=arm.now_ns + 2 * PERIOD_NS + old_ns)[0], "a stamp ahead is no better"
    arm = Arm()
    for _ in range(10):
        arm.says()
    assert "set back" in arm.says(stamp_ns=1)[0]
    assert arm.periods_until_permitted() > COOL_DOWN_N


def test_the_cool_down_begins_anew_with_every_bad_state() -> None:
    arm = Arm()
    arm.says()
    for _ in range(3):
        arm.says(speed=(9.0, 0.0, 0.0))
        for _ in range(COOL_DOWN_N - 1):
            assert arm.says()
    assert arm.says(speed=(9.0, 0.0, 0.0))
    assert arm.periods_until_permitted() == COOL_DOWN_N + 1


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-3.0, 3.0)
STATES = st.builds(
    MeasuredState,
    boot_id=st.sampled_from("aab"),
    stamp_ns=st.integers(0, 10 * PERIOD_NS) | st.integers(-(2**62), 2**62),
    frame=st.sampled_from([CONTRACT.base_frame, CONTRACT.base_frame, ""]),
    pose=st.lists(NUMBERS, min_size=7, max_size=7) | st.just(GOOD.pose),
    speed=st.lists(NUMBERS, min_size=3, max_size=3) | st.just(GOOD.speed),
    turn=st.lists(NUMBERS, min_size=3, max_size=3) | st.just(GOOD.turn),
    joint_position_rad=st.lists(NUMBERS, min_size=7, max_size=7) | st.just(GOOD.joint_position_rad),
    joint_velocity_radps=st.just(GOOD.joint_velocity_radps),
    joint_torque_nm=st.lists(NUMBERS, max_size=8) | st.just(GOOD.joint_torque_nm),
    simulated=st.booleans(),
)


@given(st.lists(st.tuples(STATES, st.integers(0, 5 * PERIOD_NS)), max_size=30))
def test_whatever_comes_a_permit_follows_good_states_alone(said: list[tuple[MeasuredState, int]]) -> None:
    """No exception, and no permit while the newest state that counts is wrong or old.

    What is wrong is judged here anew, by the contract alone.
    """
    monitor, mono_ns = SafetyMonitor(CONTRACT), 0
    bad_mono_ns: int | None = None
    for state, later_ns in said:
        mono_ns += later_ns
        monitor.on_state(state, mono_ns, mono_ns)
        inside = (
            all(low - MARGIN_M <= value <= high + MARGIN_M for value, (low, high) in zip(state.pose, BOX, strict=False))
            and math.hypot(*state.speed) <= LIMITS.max_tool_speed_mps
            and len(state.joint_torque_nm) == 7
            and state.frame == CONTRACT.base_frame
        )
        permitted = monitor.reasons(mono_ns) == ()
        if not inside and not permitted:
            bad_mono_ns = mono_ns
        if permitted and bad_mono_ns is not None:
            assert mono_ns - bad_mono_ns >= CONTRACT.monitor.cool_down_s * 1e9


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("max_joint_speed_radps", [1.0] * 6, "give each 7"),
        ("joint_position_min_rad", [3.5] * 7, "not below"),
        ("max_joint_torque_nm", [0.0] * 7, "above 0"),
        ("max_tool_speed_mps", math.inf, "max_tool_speed_mps"),
    ],
)
def test_a_section_that_cannot_be_is_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Monitor.model_validate({field: value})
