"""The arbiter alone under random inputs: `python -m inril_core.safety.torture --steps 1000000 --seed 0`.

Whatever comes, in whatever order: observations, answers of both kinds, measurements that jump, NaN and huge numbers,
k repeated, reordered and skipped, clocks that jump, arming at any moment, episodes that end anywhere. Each run of some
hundred inputs begins with an arbiter and a contract of its own, drawn from (seed, number of the run), so that a
violation is met again with `--seed S --first N --steps 1`.

Over 400 lines: the inputs and the model of what each allows are read side by side.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from inril_core.contract import Contract, load_contract
from inril_core.safety.arbiter import Arbiter
from inril_core.safety.faults import Blocks
from inril_core.safety.takeover import HandBack, Mode, TakeoverConfig
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
from inril_core.safety.torture_rules import Rules, Violation

INPUTS_PER_RUN = 500
NEVER_FILLED = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
WRONG_NUMBERS = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e150, 1e39)
S = 1_000_000_000


INPUTS = {
    "observe": 10,
    "policy": 8,
    "human": 8,
    "robot": 6,
    "timer": 10,
    "clock": 2,
    "alive": 3,
    "arm": 4,
    "disarm": 1,
    "end": 3,
    "boot": 1,
    "publishers": 1,
}
"""How often each comes, besides `calm` periods."""

TAKEOVERS = [
    (Mode.DEAD_MAN, HandBack.BUTTON),
    (Mode.DEAD_MAN, HandBack.LET_GO),
    (Mode.TOGGLE, HandBack.BUTTON),
    (Mode.MOTION, HandBack.BUTTON),
    (Mode.MOTION, HandBack.LET_GO),
]

CALM = (20, 100, 500, 3000)
"""How often a calm period comes: a run is anything from hostile to mostly orderly."""


def contracts() -> list[Contract]:
    """insert_leg and one_leg as shipped, and variants of their rules."""
    leg, gripper = load_contract("insert_leg"), load_contract("one_leg_low")
    measured = leg.action.model_copy(update={"delta_reference": "measured"})
    stops = leg.limits.model_copy(update={"on_violation": dict.fromkeys(leg.limits.on_violation, "stop")})
    tight = leg.limits.model_copy(
        update={"max_translation_step_m": 0.004, "max_rotation_step_rad": 0.05, "max_tilt_rad": 0.2}
    )
    return [
        leg,
        gripper,
        leg.model_copy(update={"action": measured}),
        leg.model_copy(update={"limits": stops}),
        leg.model_copy(update={"limits": tight, "action": measured}),
        gripper.model_copy(update={"limits": gripper.limits.model_copy(update={"max_tilt_rad": 3.0})}),
        *guarded(leg, gripper),
    ]


def guarded(leg: Contract, gripper: Contract) -> list[Contract]:
    """Walls, a box in the way, speeds and accelerations: alone, together, and with measured references."""
    corners_m = [[x, y, -0.05] for x in (0.3, 0.7) for y in (-0.3, 0.3)] + [[0.5, 0.0, 0.8]]
    post = {"name": "post", "center_m": [0.5, 0.0, 0.1], "size_m": [0.06, 0.2, 0.2], "quat_xyzw": [0, 0, 0.6, 0.8]}
    space = {"tool_radius_m": 0.03, "floor_m": 0.0, "keep_in": [{"name": "cell", "corners_m": corners_m}]}
    space["keep_out"] = [post]
    motion = {
        "max_speed_mps": 0.12,
        "max_turn_radps": 0.8,
        "max_acceleration_mps2": 0.4,
        "max_turn_acceleration_radps2": 4.0,
    }
    return [
        _with(leg, "commanded", space=space),
        _with(gripper, "commanded", motion=motion),
        _with(leg, "commanded", space=space, motion=motion),
        _with(leg, "measured", space=space, motion=motion),
    ]


def _with(contract: Contract, reference: str, **sections: Any) -> Contract:
    whole = contract.model_dump(mode="json")
    whole["limits"].update(sections)
    whole["action"]["delta_reference"] = reference
    return Contract.model_validate(whole)


class Run:
    """An arbiter, the arm that follows its Targets, and everybody who speaks to it, well or badly."""

    def __init__(self, seed: int, number: int, known: list[Contract], counts: Counter[str]) -> None:
        self.rng = random.Random(f"{seed}/{number}")
        rng = self.rng
        self.contract = rng.choice(known)
        self.counts = counts
        self.lockstep = rng.random() < 0.5
        period_ns = self.contract.period_ns
        self.config = ArbiterConfig(
            lockstep=self.lockstep,
            period_ns=period_ns,
            deadline_ns=S // 2 if self.lockstep else period_ns,
            policy_timeout_ns=2 * period_ns,
            robot_timeout_ns=3 * period_ns,
            observation_timeout_ns=5 * S if self.lockstep else 3 * period_ns,
            expects_policy=rng.random() < 0.8,
            expects_teleop=rng.random() < 0.3,
            expects_recorder=rng.random() < 0.3,
            expects_session=rng.random() < 0.3,
            takeover=TakeoverConfig(*rng.choice(TAKEOVERS)),
            drive_in=rng.random() < 0.2,
        )
        self.arbiter = Arbiter(self.contract, self.config)
        self.rules = Rules(self.contract, self.config)
        self.now_ns, self.mono_ns = 1_700_000_000 * S, 5 * S
        self.boot, self.k, self.step, self.episode = "boot0", -1, 0, 0
        self.phase, self.purpose = Phase.RUN, Purpose.TRAIN
        self.robot_boot = "arm0"
        self.pose = self._laid_out()
        self.frozen: Sequence[float] | None = None  # a driver that repeats a wrong pose
        self.device_is_synchronous = rng.random() < 0.5
        self.grabs = rng.random() < 0.3
        self.sizes = self.contract.action.size
        self.way = 1.0
        self.inputs = [getattr(self, f"_{name}") for name in ("calm", *INPUTS)]
        self.weights = [*itertools.accumulate((rng.choice(CALM), *INPUTS.values()))]

    def play(self) -> None:
        """One input, and the rules on what the arbiter said to it."""
        self.rng.choices(self.inputs, cum_weights=self.weights)[0]()

    # -- inputs -------------------------------------------------------------------------------------------------

    def _calm(self) -> None:
        """A period in which everybody does what they should, and somebody arms again after a fault."""
        if not self.arbiter.armed or self.arbiter.faults.count:
            self._arm()
        self._pass(self.contract.period_ns / S)
        self._say_robot(self.pose)
        self.step += 1
        self.k += 1
        self._say_observation(self._tick(self.pose))
        if self.rng.random() < 0.8:
            self._say_human(self._human_answer(self.k, self._action()))
        self._say_policy(PolicyAnswer(self.boot, self.k, "run", 3, self._action()))
        if self.rng.random() < 0.5:
            self._timer()

    def _observe(self) -> None:
        rng = self.rng
        self.k = max(0, self.k + rng.choice((-2, -1, 0, 1, 1, 1, 1, 2, 5)))
        self.step = rng.choice((self.step, self.step + 1, self.step + 1, 0))
        tick = self._tick(self._wrong_pose() if rng.random() < 0.5 else self.pose)
        if rng.random() < 0.3:
            tick = tick._replace(phase=rng.choice((0, 1, 2, 7, 255)))
        if rng.random() < 0.1:
            tick = tick._replace(frame=rng.choice(("", "tool", "world")))
        if rng.random() < 0.2:
            tick = tick._replace(link_age_s=rng.choice(((), (math.nan,) * 3, (0.0, 0.4, 0.0), (9.0, 0.0, 0.0))))
        if rng.random() < 0.1:
            tick = tick._replace(stamp_ns=rng.choice((0, -(10**18), 2**62, self.now_ns - S)))
        if rng.random() < 0.1:
            tick = tick._replace(episode_id=rng.choice(("", "another", "e0")))
        self._say_observation(tick)

    def _policy(self) -> None:
        rng = self.rng
        k = max(0, self.k + rng.choice((-2, -1, 0, 0, 0, 1, 1, 3)))
        boot = self.boot if rng.random() < 0.9 else rng.choice(("boot0", "boot1", "nobody"))
        self._say_policy(PolicyAnswer(boot, k, "run", rng.choice((3, -1, 2**62)), self._wrong_action()))

    def _human(self) -> None:
        rng = self.rng
        if rng.random() < 0.1:
            self.device_is_synchronous = not self.device_is_synchronous
        if rng.random() < 0.3:
            self.grabs = not self.grabs
        answer = self._human_answer(max(0, self.k + rng.choice((-1, 0, 0, 0, 1, 2))), self._wrong_action())
        if rng.random() < 0.05:
            answer = answer._replace(frame=rng.choice(("", "tool")))
        self._say_human(answer)

    def _robot(self) -> None:
        rng = self.rng
        if rng.random() < 0.05:
            self.robot_boot += "+"
        sample = RobotSample(
            self.robot_boot,
            self.now_ns + rng.choice((0, 0, 0, 0, -S, S, 2**61)),
            self._wrong_pose() if rng.random() < 0.5 else self.pose,
            rng.random() < 0.03,
            "base" if rng.random() < 0.95 else rng.choice(("", "tool")),
        )
        self.rules.measured(sample.tool_pose, sample.frame)
        self.arbiter.on_robot_state(sample, self.mono_ns)

    def _timer(self) -> None:
        self._pass(self.rng.choice((0.0, 0.01, 0.02, 0.05, 0.1, 0.3)))
        if not self.lockstep and self.rng.random() < 0.7:
            self._say_robot(self.pose)
        self._hear(self.arbiter.on_timer(self.now_ns, self.mono_ns))

    def _clock(self) -> None:
        """The system's clock jumps; the monotonic one, like the process, may stall."""
        self.now_ns += round(self.rng.choice((-20.0, -0.5, 0.5, 20.0, 1e6)) * S)
        self.mono_ns += round(self.rng.choice((0.0, 0.0, 0.5, 6.0)) * S)

    def _alive(self) -> None:
        self._everybody_lives()
        if self.rng.random() < 0.1:
            self.arbiter.on_recorder_alive("another", self.mono_ns)

    def _arm(self) -> None:
        """At any moment, and often after a fault with what it needs."""
        rng = self.rng
        if rng.random() < 0.8:
            self.frozen = None
            self._everybody_lives()
            self._say_robot(self.pose)
            self._say_robot(self.pose)
            self.k += 1
            self._say_observation(self._tick(self.pose))
        armed, _ = self.arbiter.arm(rng.choice(("person", "person", "person", " ")), self.now_ns, self.mono_ns)
        self.rules.asked_to_arm(armed)
        self.counts["armings" if armed else "armings refused"] += 1

    def _disarm(self) -> None:
        self.arbiter.disarm()
        self.rules.disarmed()

    def _end(self) -> None:
        """The episode ends, orderly or not, and the cell may be laid out anew."""
        rng = self.rng
        if rng.random() < 0.7:
            self.k += 1
            self._say_observation(self._tick(self.pose)._replace(last=True))
        if rng.random() < 0.3:
            return
        if rng.random() < 0.7:
            self.pose = self._laid_out()
        self.purpose = rng.choice((Purpose.TRAIN, Purpose.EVAL, Purpose.DEMO))
        # what is pushed since the episode before moves nothing: let go once
        self._say_human(HumanAnswer(self.k, self.device_is_synchronous, self.grabs, False, [0.0] * self.sizes, "base"))
        for _ in range(rng.choice((0, 1, 5))):
            self._pass(0.1)
            self._say_robot(self.pose)
            self._say_human(self._human_answer(self.k, self._action()))
            self._hear(self.arbiter.on_timer(self.now_ns, self.mono_ns))
        self.episode += 1
        self.step = 0
        self.k += 1
        self._say_observation(self._tick(self.pose if rng.random() < 0.8 else self._wrong_pose()))

    def _boot(self) -> None:
        self.boot = f"boot{self.rng.choice((0, 1, 2, 3))}"
        self.k = self.rng.choice((-1, self.k))

    def _publishers(self) -> None:
        there = self.rng.random() < 0.5
        self.arbiter.on_publishers("target is published by /x too" if there else None, Blocks.TARGETS)

    # -- what they consist of -----------------------------------------------------------------------------------

    def _pass(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)
        self.mono_ns += round(seconds * S)

    def _everybody_lives(self) -> None:
        self.arbiter.on_policy_alive(self.mono_ns)
        self.arbiter.on_session_alive(self.mono_ns)
        self.arbiter.on_recorder_alive("recorder", self.mono_ns)
        self.arbiter.on_publishers(None, Blocks.NOTHING)

    def _laid_out(self) -> tuple[float, ...]:
        limits, rng = self.contract.limits, self.rng
        low, high = limits.position_min_m, limits.position_max_m
        out_m = rng.choice((0.0, 0.0, 0.0, 0.1))
        position = [rng.uniform(a - out_m, b + out_m) for a, b in zip(low, high, strict=True)]
        return (*position, *self._turned((1.0, 0.0, 0.0, 0.0), rng.choice((0.1, 0.5, 1.5))))

    def _turned(self, quat: Sequence[float], most_rad: float) -> tuple[float, ...]:
        moved = [part + self.rng.uniform(-0.5, 0.5) * most_rad for part in quat]
        norm = math.hypot(*moved)
        return tuple(part / norm for part in moved)

    def _wrong_pose(self) -> Sequence[float]:
        """What a broken driver says; some repeat it."""
        rng = self.rng
        if self.frozen is not None and rng.random() < 0.7:
            return self.frozen
        kind = rng.randrange(8)
        if kind == 0:
            wrong: Sequence[float] = NEVER_FILLED
        elif kind == 1:
            wrong = (*self.pose[:3], 0.0, 0.0, 0.0, 0.0)
        elif kind == 2:
            wrong = [rng.choice(WRONG_NUMBERS) if rng.random() < 0.3 else part for part in self.pose]
        elif kind == 3:
            wrong = (*self.pose[:3], *self._turned(self.pose[3:], 3.0))
        else:
            size_m = rng.choice((0.02, 0.05, 0.3, 0.5, 1000.0, 1e150))
            wrong = (*(part + rng.uniform(-1, 1) * size_m for part in self.pose[:3]), *self.pose[3:])
        self.frozen = wrong if rng.random() < 0.3 else None
        return wrong

    def _action(self) -> list[float]:
        """As a policy that goes somewhere: mostly one way, so that walls, tilt and leash are met."""
        rng = self.rng
        if rng.random() < 0.1:
            self.way = rng.choice((-1.0, 1.0))
        return [self.way * rng.uniform(-0.3, 1.2) for _ in range(self.sizes)]

    def _wrong_action(self) -> list[float]:
        rng = self.rng
        action = self._action()
        if rng.random() < 0.3:
            action[rng.randrange(len(action))] = rng.choice(WRONG_NUMBERS)
        return action[: rng.choice((0, 3))] if rng.random() < 0.05 else action

    def _tick(self, pose: Sequence[float]) -> Tick:
        return Tick(
            self.boot,
            self.k,
            self.now_ns,
            f"e{self.episode}",
            self.step,
            self.phase,
            self.purpose,
            False,
            pose,
            (0.0, 0.0, 0.0),
            "base",
        )

    def _human_answer(self, k: int, action: Sequence[float]) -> HumanAnswer:
        released = self.rng.random() < 0.05
        return HumanAnswer(k, self.device_is_synchronous, self.grabs, released, action, "base")

    def _say_robot(self, pose: Sequence[float]) -> None:
        self.rules.measured(pose, "base")
        self.arbiter.on_robot_state(RobotSample(self.robot_boot, self.now_ns, pose, False, "base"), self.mono_ns)

    def _say_observation(self, tick: Tick) -> None:
        self.rules.observed(tick)
        self._hear(self.arbiter.on_observation(tick, self.now_ns, self.mono_ns))

    def _say_policy(self, answer: PolicyAnswer) -> None:
        self.rules.policy_answered(answer)
        self._hear(self.arbiter.on_policy_action(answer, self.now_ns, self.mono_ns))

    def _say_human(self, answer: HumanAnswer) -> None:
        self.rules.human_answered(answer, self.mono_ns)
        self._hear(self.arbiter.on_teleop_action(answer, self.now_ns, self.mono_ns))

    def _hear(self, said: list[Closed]) -> None:
        for closed in said:
            moved = self.rules.check(closed, self.arbiter.armed, self.mono_ns)
            self._count(closed, moved)
            if closed.target is not None:  # the arm follows, not quite
                share = self.rng.choice((1.0, 1.0, 0.9, 0.5, 0.0))
                self.pose = (
                    *(a + share * (b - a) for a, b in zip(self.pose[:3], closed.target.pose[:3], strict=True)),
                    *(closed.target.pose[3:] if share == 1.0 else self.pose[3:]),
                )
        self.rules.check_faults(self.arbiter.faults.named(), self.arbiter.armed)

    def _count(self, closed: Closed, moved: bool) -> None:
        counts = self.counts
        counts["ticks closed"] += closed.source is not None
        if closed.target is not None:
            counts["Targets"] += 1
            where = "outside ticks" if closed.source is None else f"in ticks by {Source(closed.source).word}"
            counts[f"Targets that moved {where}"] += moved
        for limit in closed.limits:
            counts[f"limit {limit}"] += 1
            if closed.source in (Source.POLICY, Source.HUMAN, Source.RESET):
                counts[f"limit {limit.partition(':')[0]} for {Source(closed.source).word}"] += 1


def torture(steps: int, seed: int, first: int = 0) -> Counter[str]:
    """Feed at least `steps` inputs and return what was counted.

    Raises:
        Violation: a rule was broken; the message names it and how to meet it again.
    """
    counts: Counter[str] = Counter()
    known = contracts()
    number = first
    while counts["inputs"] < steps:
        run = Run(seed, number, known, counts)
        try:
            for _ in range(INPUTS_PER_RUN):
                counts["inputs"] += 1
                run.play()
        except Exception as error:
            again = f"run {number} of seed {seed} (again: --seed {seed} --first {number} --steps 1)"
            raise Violation(f"{again}: {type(error).__name__}: {error}") from error
        for name in run.rules.faults_seen:
            counts[f"runs with fault {name.partition(':')[0]}"] += 1
        number += 1
    counts["runs"] = number - first
    return counts


def main() -> None:
    """Entry point: count, print, and exit 1 at the first rule broken."""
    parser = argparse.ArgumentParser(description="the arbiter alone under random inputs")
    parser.add_argument("--steps", type=int, default=1_000_000, help="inputs at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    try:
        counts = torture(arguments.steps, arguments.seed, arguments.first)
    except Violation as violation:
        raise SystemExit(f"VIOLATION: {violation}") from violation
    for name in sorted(counts):
        print(f"{counts[name]:10d}  {name}")
    took_s = time.monotonic() - begun_s
    print(f"no rule broken in {counts['inputs']} inputs, {took_s:.0f} s, seed {arguments.seed}")


if __name__ == "__main__":
    main()
