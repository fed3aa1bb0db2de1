"""What a change of hands does to the arm, measured on the arbiter alone with a clock of its own.

`python -m inril_bringup.takeover_benchmark` writes these numbers, and the times measured on running nodes, to a page.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from inril_core.contract import Contract, load_contract
from inril_core.safety.arbiter import Arbiter
from inril_core.safety.takeover import Mode, TakeoverConfig
from inril_core.safety.ticks import (
    ArbiterConfig,
    Closed,
    HumanAnswer,
    Phase,
    PolicyAnswer,
    Purpose,
    RobotSample,
    Source,
    Tick,
)
from inril_core.transforms import quat_difference

POLL_S = 0.02
"""Between two readings of the device."""
SETTLE_TICKS = 3
"""After a change of hands, of which the velocities are looked at."""


@dataclass
class Measured:
    """Of many takeovers, each with its hand-back."""

    contract: Contract
    count: int = 0
    step_m: float = 0.0
    """Largest, from one Target to the next, in the ticks around a change of hands."""
    turn_rad: float = 0.0
    velocity_step_m: float = 0.0
    """Largest change of the step from one tick to the next, in m per period."""
    velocity_turn_rad: float = 0.0
    ticks_until_effect: list[int] = field(default_factory=list)
    """Of each takeover: ticks that closed after the reading and were still the policy's, plus the one that is not."""
    recorded_late_n: int = 0
    """Takeovers whose first tick was not recorded as the person's."""

    def against_limits(self) -> list[tuple[float, float]]:
        """Each largest value, with what the contract allows."""
        limits = self.contract.limits
        most_m, most_rad = limits.max_translation_step_m, limits.max_rotation_step_rad
        return [
            (self.step_m, most_m),
            (self.turn_rad, most_rad),
            (self.velocity_step_m, most_m),
            (self.velocity_turn_rad, most_rad),
        ]


class _Bench:
    """An arbiter in real time, an arm that follows, a policy, and a person with a device that is polled."""

    def __init__(self, contract: Contract, rng: random.Random, mode: Mode) -> None:
        self.contract, self.rng, self.mode = contract, rng, mode
        period_ns = contract.period_ns
        config = ArbiterConfig(
            lockstep=False,
            period_ns=period_ns,
            deadline_ns=period_ns,
            policy_timeout_ns=3 * period_ns,
            robot_timeout_ns=3 * period_ns,
            observation_timeout_ns=5 * period_ns,
            takeover=TakeoverConfig(mode),
        )
        self.arbiter = Arbiter(contract, config)
        self.now_ns = 10**18
        limits = contract.limits
        middle = [0.5 * (a + b) for a, b in zip(limits.position_min_m, limits.position_max_m, strict=True)]
        self.pose: tuple[float, ...] = (*middle, 1.0, 0.0, 0.0, 0.0)
        self.k = -1
        self.policy = self._action()
        self.person = self._action()
        self.grab = self.released = False
        self.next_tick_ns = self.now_ns + period_ns
        self.next_poll_ns = self.now_ns
        self._say_robot()
        armed, why = self.arbiter.arm("measurement", self.now_ns, self.now_ns)
        assert armed, why

    def _action(self) -> list[float]:
        """Anything from rest to full speed, mostly fast."""
        scale = self.rng.choice((0.0, 0.3, 1.0, 1.0))
        return [
            scale * self.rng.choice((-1.0, 1.0, self.rng.uniform(-1.0, 1.0))) for _ in range(self.contract.action_size)
        ]

    def _say_robot(self) -> None:
        sample = RobotSample("arm", self.now_ns, self.pose, False, self.contract.base_frame)
        self.arbiter.on_robot_state(sample, self.now_ns)

    def until_tick(self) -> Closed:
        """Let time pass, with the device's readings, until a tick is closed."""
        while self.next_poll_ns <= self.next_tick_ns:
            self.now_ns = self.next_poll_ns
            self.poll()
            self.next_poll_ns += round(POLL_S * 1e9)
        self.now_ns = self.next_tick_ns
        self.next_tick_ns += self.contract.period_ns
        self.k += 1
        self._say_robot()
        base = self.contract.base_frame
        ages_s = (0.0,) * len(self.contract.links)
        tick = Tick("boot", self.k, self.now_ns, "e", self.k, Phase.RUN, Purpose.TRAIN, False, self.pose, ages_s, base)
        said = self.arbiter.on_observation(tick, self.now_ns, self.now_ns)
        said += self.arbiter.on_policy_action(
            PolicyAnswer("boot", self.k, "run", 1, self.policy), self.now_ns, self.now_ns
        )
        (closed,) = said
        if closed.target is not None:
            self.pose = tuple(closed.target.pose)
        return closed

    def poll(self) -> None:
        """One reading of the device."""
        still = [0.0] * self.contract.action_size
        moving = self.grab or (self.mode is not Mode.DEAD_MAN and self.arbiter.in_control is Source.HUMAN)
        action = self.person if moving else still
        answer = HumanAnswer(0, False, self.grab, self.released, action, self.contract.base_frame)
        self.arbiter.on_teleop_action(answer, self.now_ns, self.now_ns)


def takeovers(count: int, rng: random.Random, mode: Mode = Mode.DEAD_MAN, task: str = "insert_leg") -> Measured:
    """Takeovers at random moments from a policy by a person, both moving in random directions, each handed back."""
    contract = load_contract(task)
    measured = Measured(contract)
    bench = _Bench(contract, rng, mode)
    while measured.count < count:
        _middle(bench)
        bench.policy, bench.person = bench._action(), bench._action()
        before = [bench.until_tick() for _ in range(2)]
        # the press comes anywhere between two ticks, and is seen at the next reading
        bench.grab = True
        taken = [bench.until_tick() for _ in range(SETTLE_TICKS)]
        bench.grab, bench.released = False, True
        handed = [bench.until_tick() for _ in range(SETTLE_TICKS)]
        bench.released = False
        first = next((n for n, closed in enumerate(taken, 1) if closed.handover), SETTLE_TICKS + 1)
        measured.ticks_until_effect.append(first)
        measured.recorded_late_n += taken[0].source is not Source.HUMAN
        _note(measured, [*before, *taken, *handed])
        measured.count += 1
    return measured


def _middle(bench: _Bench) -> None:
    """Back to the middle of the box, so that its walls stop nothing: what is measured is the change of hands."""
    limits, action = bench.contract.limits, bench.contract.action
    middle = [0.5 * (a + b) for a, b in zip(limits.position_min_m, limits.position_max_m, strict=True)]
    for _ in range(1000):
        away_m = [a - b for a, b in zip(middle, bench.pose[:3], strict=True)]
        turn_rad = quat_difference((1.0, 0.0, 0.0, 0.0), bench.pose[3:])
        if math.hypot(*away_m) < 1e-3 and math.hypot(*turn_rad) < 1e-3:
            return
        step = [a / action.translation_scale_m for a in away_m] + [a / action.rotation_scale_rad for a in turn_rad]
        longest = max(1.0, *map(abs, step))
        rest = [0.0] * (bench.contract.action_size - 6)
        bench.policy = [part / longest for part in step] + rest
        bench.until_tick()
    raise RuntimeError("the arm does not come back to the middle of its box")


def _note(measured: Measured, ticks: list[Closed]) -> None:
    poses = [closed.target.pose for closed in ticks if closed.target is not None]
    steps = [[b - a for a, b in zip(old[:3], new[:3], strict=True)] for old, new in zip(poses, poses[1:], strict=False)]
    turns = [quat_difference(new[3:], old[3:]) for old, new in zip(poses, poses[1:], strict=False)]
    measured.step_m = max(measured.step_m, *(math.hypot(*step) for step in steps))
    measured.turn_rad = max(measured.turn_rad, *(math.hypot(*turn) for turn in turns))
    for old, new in zip(steps, steps[1:], strict=False):
        measured.velocity_step_m = max(measured.velocity_step_m, math.dist(old, new))
    for before, after in zip(turns, turns[1:], strict=False):
        measured.velocity_turn_rad = max(measured.velocity_turn_rad, math.dist(before, after))
