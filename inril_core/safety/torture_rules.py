"""What must hold of everything that an arbiter says, written down a second time and without its code."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.contract.limits import KeepOutBox, Region, SpaceLimits
from inril_core.safety.takeover import Mode
from inril_core.safety.ticks import ArbiterConfig, Closed, HumanAnswer, Phase, PolicyAnswer, Source, Tick

EPSILON = 1e-6
"""m and rad; rounding of what is computed in another way here."""


class Violation(AssertionError):
    """A rule was broken."""


class Rules:
    """Follows what an arbiter is told and checks what it says."""

    def __init__(self, contract: Contract, config: ArbiterConfig) -> None:
        self._contract = contract
        self._config = config
        self._teleop_ns = contract.staleness.teleop_s * 1e9
        self._armed = False
        self._previous: Sequence[float] | None = None  # None: commanding begins with the next Target
        self._motion: tuple[float, ...] = (0.0,) * 6  # from the Target before that to it: m, and a rotation vector
        self._knows_motion = False
        self._mover: Source | None = None  # whose motion that is
        self._measured: deque[tuple[float, ...]] = deque(maxlen=12)
        self._policy_actions: dict[tuple[str, int], bool] = {}
        self._human_k: set[int] = set()
        self._human: HumanAnswer | None = None
        self._human_mono_ns = 0
        self._newest: dict[str, int] = {}
        self._episode_id: str | None = None
        self._boot = ""
        self._order: dict[tuple[str, int], int] = {}  # in which ticks came
        self._begins: list[int] = []  # commanding begins with these ticks, or what follows them
        self._closed: set[tuple[str, int]] = set()
        self._faults: list[str] = []
        self.faults_seen: set[str] = set()

    def measured(self, pose: Sequence[float], frame: str) -> None:
        """A pose was measured."""
        if frame == self._contract.base_frame and all(map(math.isfinite, pose)) and abs(_norm(pose) - 1.0) < 0.01:
            self._measured.append((*pose[:3], *(part / _norm(pose) for part in pose[3:])))

    def observed(self, tick: Tick) -> None:
        """An Observation comes."""
        self.measured(tick.tool_pose, tick.frame)
        seen = self._newest.get(tick.boot_id, -1)
        if tick.k <= seen or (tick.boot_id in self._newest and tick.boot_id != self._boot):
            return
        self._newest[tick.boot_id] = tick.k
        if tick.boot_id != self._boot:
            self._boot = tick.boot_id
        self._order[tick.boot_id, tick.k] = len(self._order)
        if tick.phase == Phase.RUN and tick.episode_id != self._episode_id:
            self._episode_id = tick.episode_id
            self._begins.append(len(self._order) - 1)

    def policy_answered(self, answer: PolicyAnswer) -> None:
        """A policy's answer comes."""
        usable = len(answer.action) == self._contract.action.size and all(map(math.isfinite, answer.action))
        key = (answer.boot_id, answer.k)
        self._policy_actions[key] = self._policy_actions.get(key, False) or usable

    def human_answered(self, answer: HumanAnswer, mono_ns: int) -> None:
        """The device speaks."""
        self._human, self._human_mono_ns = answer, mono_ns
        if answer.synchronous and answer.grab and not answer.released:
            self._human_k.add(answer.k)

    def asked_to_arm(self, armed: bool) -> None:
        """A person asked, and got this answer."""
        if armed:
            self._armed, self._previous, self._faults = True, None, []

    def disarmed(self) -> None:
        """A person disarmed."""
        self._armed, self._previous = False, None

    def check_faults(self, faults: Mapping[str, str], armed: bool) -> None:
        """None goes but by arming, and nothing arms itself."""
        _demand(armed == self._armed, "armed is {}, a person last said {}", armed, self._armed)
        names = list(faults)
        _demand(names[: len(self._faults)] == self._faults, "faults {} became {}", self._faults, names)
        self._faults = names
        self.faults_seen.update(names)

    def check(self, closed: Closed, armed: bool, mono_ns: int) -> bool:
        """All rules on one thing said. Whether it moves the arm."""
        tick, target, executed = closed.tick, closed.target, closed.executed
        action = self._contract.action
        _demand(all(map(math.isfinite, executed)), "executed {} is not finite", executed)
        _demand(len(executed) == action.size, "executed {} has not {} numbers", executed, action.size)
        _demand(len(closed.limits) == len(closed.margins), "limits {} have margins {}", closed.limits, closed.margins)
        if action.delta_reference == "commanded":
            limits = self._contract.limits
            most = max(1.0, limits.max_translation_step_m / action.translation_scale_m)
            most = max(most, limits.max_rotation_step_rad / action.rotation_scale_rad)
            _demand(max(map(abs, executed)) <= most + EPSILON, "executed {} is above {}", executed, most)
        if closed.source is not None:
            key = (tick.boot_id, tick.k)
            _demand(key not in self._closed, "tick {} closed twice", key)
            self._closed.add(key)
        newest = len(self._order) if closed.source is None else self._order[tick.boot_id, tick.k]
        if self._begins and self._begins[0] <= newest:
            self._begins = [begin for begin in self._begins if begin > newest]
            self._previous = None
        if target is None:
            return False
        _demand(armed and self._armed, "a Target before arming")
        _demand(all(map(math.isfinite, target.pose)), "Target {} is not finite", target.pose)
        _demand(abs(_norm(target.pose) - 1.0) < EPSILON, "Target {} has no unit quaternion", target.pose)
        self._check_gripper(target.gripper_width_m)
        if self._previous is None:
            wrong = [self._step_wrong(pose, target.pose) for pose in self._measured]
            _demand(any(reason is None for reason in wrong), "first Target {}: {}", target.pose, wrong)
            moved = not target.hold
            self._motion = (0.0,) * 6
            self._knows_motion = target.hold  # otherwise from which measured pose it moved is not known here
        else:
            reason = self._step_wrong(self._previous, target.pose)
            _demand(reason is None, "Target {} after {}: {}", target.pose, self._previous, reason)
            moved = tuple(target.pose) != tuple(self._previous)
            _demand(not (moved and target.hold), "a hold moved from {} to {}", self._previous, target.pose)
            self._check_velocity(closed, _motion(self._previous, target.pose), moved)
            self._knows_motion = True
        self._previous = target.pose
        if moved:
            self._check_mover(closed, mono_ns)
        return moved

    def _check_velocity(self, closed: Closed, motion: tuple[float, ...], moved: bool) -> None:
        """Where control changes hands the velocity changes by a step of the contract per period at most, and always by
        the contract's acceleration; a tool that stands still, or does not turn, may have stopped at once."""
        self._check_acceleration(motion)
        mover = Source.POLICY if closed.source == Source.POLICY else Source.HUMAN
        limits = self._contract.limits
        if moved and mover is not self._mover:
            step_m = math.dist(motion[:3], self._motion[:3])
            _demand(step_m <= limits.max_translation_step_m + EPSILON, "handover jolts by {} m per period", step_m)
            turn_rad = math.dist(motion[3:], self._motion[3:])
            _demand(turn_rad <= limits.max_rotation_step_rad + EPSILON, "handover jolts by {} rad per period", turn_rad)
        self._motion = motion
        if moved:
            self._mover = mover

    def _check_acceleration(self, motion: tuple[float, ...]) -> None:
        limits, rate_hz = self._contract.limits.motion, self._contract.control_rate_hz
        if limits is None or not self._knows_motion:
            return
        for new, old, most in (
            (motion[:3], self._motion[:3], limits.max_acceleration_mps2),
            (motion[3:], self._motion[3:], limits.max_turn_acceleration_radps2),
        ):
            if most is not None and math.hypot(*new) > EPSILON:
                change = math.dist(new, old)
                _demand(change <= most / rate_hz**2 + EPSILON, "velocity changes by {}, {} per period", change, most)

    def _check_mover(self, closed: Closed, mono_ns: int) -> None:
        """A motion needs an action for this very tick, or a device that is there."""
        human, tick = self._human, closed.tick
        lives = (
            human is not None
            and not human.synchronous
            and (human.grab or self._config.takeover.mode is not Mode.DEAD_MAN)
            and not human.released
            and mono_ns - self._human_mono_ns <= self._teleop_ns
        )
        if closed.source is None:
            _demand(lives and not self._config.lockstep, "a motion outside ticks without a live device")
        elif closed.source == Source.POLICY:
            _demand(self._policy_actions.get((tick.boot_id, tick.k), False), "a motion by an answer to another tick")
        else:
            by_person = closed.source == Source.HUMAN or (closed.source == Source.RESET and self._config.drive_in)
            _demand(by_person, "a motion by {}", closed.source)
            _demand(lives or tick.k in self._human_k, "a motion by a device that did not answer this tick")

    def _check_gripper(self, width_m: float) -> None:
        action = self._contract.action
        if not isinstance(action, DeltaPoseGripper):
            _demand(width_m == action.gripper_width_m, "gripper {} is not the contract's", width_m)
        elif not math.isnan(width_m):
            _demand(0.0 <= width_m <= action.gripper_open_m, "gripper {} is out of range", width_m)

    def _step_wrong(self, old: Sequence[float], new: Sequence[float]) -> str | None:
        limits = self._contract.limits
        for axis in range(3):
            low = min(limits.position_min_m[axis], old[axis]) - EPSILON
            high = max(limits.position_max_m[axis], old[axis]) + EPSILON
            if not low <= new[axis] <= high:
                return f"axis {axis} leaves the box"
        if math.dist(old[:3], new[:3]) > limits.max_translation_step_m + EPSILON:
            return f"step of {math.dist(old[:3], new[:3])} m"
        cosine = abs(sum(a * b for a, b in zip(old[3:], new[3:], strict=True)))
        if 2.0 * math.acos(min(1.0, cosine)) > limits.max_rotation_step_rad + EPSILON:
            return f"turn of {2.0 * math.acos(min(1.0, cosine))} rad"
        if _tilt_rad(new) > max(limits.max_tilt_rad, _tilt_rad(old)) + EPSILON:
            return f"tilt of {_tilt_rad(new)} rad"
        return self._too_fast(old, new) or self._out_of_space(old, new)

    def _too_fast(self, old: Sequence[float], new: Sequence[float]) -> str | None:
        motion, rate_hz = self._contract.limits.motion, self._contract.control_rate_hz
        if motion is None:
            return None
        made = _motion(old, new)
        for moved, most in ((made[:3], motion.max_speed_mps), (made[3:], motion.max_turn_radps)):
            if most is not None and math.hypot(*moved) * rate_hz > most + EPSILON * rate_hz:
                return f"speed {math.hypot(*moved) * rate_hz} is above {most}"
        return None

    def _out_of_space(self, old: Sequence[float], new: Sequence[float]) -> str | None:
        """On the whole way, in small pieces: not nearer than allowed, or than at its begin."""
        space = self._contract.limits.space
        if space is None:
            return None
        way = [[a + share / 8 * (b - a) for a, b in zip(old[:3], new[:3], strict=True)] for share in range(9)]
        bodies: list[SpaceLimits | Region | KeepOutBox] = [space, *space.keep_in, *space.keep_out]
        for body in bodies:
            clear = [_clearance_m(space, body, point) for point in way]
            if min(clear) < min(space.tool_radius_m, clear[0]) - EPSILON:
                name = "the floor" if isinstance(body, SpaceLimits) else body.name
                return f"the way comes within {min(clear)} m of {name}"
        return None


def _demand(holds: bool, message: str, *shown: object) -> None:
    if not holds:
        raise Violation(message.format(*shown))


def _motion(old: Sequence[float], new: Sequence[float]) -> tuple[float, ...]:
    """Translation, m, and the rotation vector, rad, that leads from one pose to another."""
    ax, ay, az, aw = new[3:]
    bx, by, bz, bw = (-old[3], -old[4], -old[5], old[6])
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    w = aw * bw - ax * bx - ay * by - az * bz
    sine = math.hypot(x, y, z)
    scale = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, abs(w)) / sine
    scale = -scale if w < 0.0 else scale
    return (*(b - a for a, b in zip(old[:3], new[:3], strict=True)), scale * x, scale * y, scale * z)


def _clearance_m(space: SpaceLimits, body: SpaceLimits | Region | KeepOutBox, point: Sequence[float]) -> float:
    """Distance of a point from what it has to stay away from; below 0: within."""
    if isinstance(body, SpaceLimits):
        return math.inf if space.floor_m is None else point[2] - space.floor_m
    if isinstance(body, Region):
        return min(d - x * point[0] - y * point[1] - z * point[2] for x, y, z, d in body.planes)
    away = [a - b for a, b in zip(point, body.center_m, strict=True)]
    gaps = [abs(_dot(axis, away)) - 0.5 * size for axis, size in zip(body.axes, body.size_m, strict=True)]
    return math.hypot(*(max(gap, 0.0) for gap in gaps)) if max(gaps) > 0.0 else max(gaps)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _norm(pose: Sequence[float]) -> float:
    return math.hypot(*pose[3:])


def _tilt_rad(pose: Sequence[float]) -> float:
    x, y = pose[3], pose[4]
    return math.acos(max(-1.0, min(1.0, 2.0 * (x * x + y * y) - 1.0)))
