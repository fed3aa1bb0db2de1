"""What an arm's node does around the arm: whose targets it follows, and when it holds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inril_core.errors import ConfigError, InrilError
from inril_core.hardware.arms.base import Arm, ArmLost, ArmState
from inril_core.transforms import pose_problem


class ResetRefused(InrilError):
    """The cell cannot be laid out now; the message says why and what to do."""


@dataclass(frozen=True)
class TargetCommand:
    """Where the tool shall be at the end of the period."""

    boot_id: str
    """With `k` it names the tick that it answers."""
    k: int
    episode_id: str
    """Empty outside episodes."""
    pose: Sequence[float]
    """(7,) m and xyzw, base frame."""
    gripper_width_m: float
    """NaN keeps the width."""
    hold: bool
    """The pose is latched: no motion is wanted."""
    valid_until_ns: int


class ArmDriver:
    """Follows Targets with an arm. Nothing re-arms itself.

    After a reset physics waits for the first Target of the episode, so that an episode's start depends on
    its seed alone. In lockstep each Target moves the arm by one period, and `hold_period` does so where
    none comes. In real time `run_period` is called when a Target is there, else about once per period, and `run_part`
    in between; it holds, and asks for `arm`, when the newest Target is older than `target_timeout_ns` on the monotonic
    clock.

    delay_steps: periods by which each target acts later, as over a slow link.
    permit_timeout_ns: the arm follows a Target only while safety_monitor's newest permit is younger than this on the
    monotonic clock; None: the graph has no monitor.

    Raises:
        ConfigError: a negative delay, or a time-out that is not positive.
    """

    def __init__(
        self,
        arm: Arm,
        lockstep: bool,
        target_timeout_ns: int,
        delay_steps: int = 0,
        permit_timeout_ns: int | None = None,
    ) -> None:
        if not 0 <= delay_steps <= 100:
            raise ConfigError(f"action_delay_steps = {delay_steps}: must be in [0, 100]")
        if not target_timeout_ns > 0:
            raise ConfigError(f"target_timeout_s = {target_timeout_ns / 1e9}: must be above 0")
        if permit_timeout_ns is not None and not permit_timeout_ns > 0:
            raise ConfigError(f"monitor_s = {permit_timeout_ns / 1e9}: must be above 0")
        self.hardware = arm
        self.needs_rearm = False
        self.reset_id = ""
        self.purpose = ""
        self._lockstep = lockstep
        self._target_timeout_ns = target_timeout_ns
        self._delay_steps = delay_steps
        self._queue: deque[TargetCommand] = deque()
        self._newest: TargetCommand | None = None
        self._target_mono_ns: int | None = None
        self._permit_timeout_ns = permit_timeout_ns
        self._permit_mono_ns: int | None = None
        self._monitor_boot_id = ""
        self._denied: tuple[str, ...] = ()
        self._paused = True
        self._held = False
        """The arm was told to hold last."""

    @property
    def waits(self) -> bool:
        """Nothing moves before the first Target of the episode."""
        return self._paused

    @property
    def holding(self) -> bool:
        """The arm's own watchdog, or a person, keeps it still."""
        return self.needs_rearm

    def reset(self, seed: int, reset_id: str, purpose: str, starts: str = "") -> ArmState:
        """Lay the cell out and wait for the first Target of episode `reset_id`.

        starts: purpose whose range the start is drawn from; empty: that of `purpose`.

        Raises:
            ResetRefused: the arm waits to be armed.
        """
        if self.needs_rearm:
            raise ResetRefused("the arm's own watchdog holds it; look at the arm, then `inril arm`")
        self.hardware.reset(seed, starts or purpose)
        self.reset_id, self.purpose = reset_id, purpose
        self._queue.clear()
        self._newest, self._paused = None, True
        return self.measure()

    def on_permit(self, boot_id: str, reasons: Sequence[str], mono_ns: int) -> None:
        """What safety_monitor says: why the arm must not move; empty: it may. Its restart stops the arm, too."""
        restarted = self._monitor_boot_id not in ("", boot_id)
        self._monitor_boot_id, self._permit_mono_ns, self._denied = boot_id, mono_ns, tuple(reasons)
        if reasons or restarted:
            self._stop()

    def denied_by_monitor(self, mono_ns: int) -> str:
        """Why safety_monitor lets nothing move now; empty: it permits, or the graph has none."""
        if self._permit_timeout_ns is None:
            return ""
        if self._permit_mono_ns is None:
            return "safety_monitor was not heard; start it"
        if mono_ns - self._permit_mono_ns > self._permit_timeout_ns:
            return f"safety_monitor is silent for {(mono_ns - self._permit_mono_ns) / 1e9:.2f} s; start it"
        return f"safety_monitor: {'; '.join(self._denied)}" if self._denied else ""

    def arm(self, arm: bool, operator: str, mono_ns: int) -> tuple[bool, str]:
        """A named person arms the arm, or disarms it. Returns success and a message."""
        if not arm:
            self.needs_rearm = True
            return True, "disarmed: no Target is followed until `inril arm`"
        if not operator.strip():
            return False, "operator_name is empty: only a named person arms"
        if denied := self.denied_by_monitor(mono_ns):
            self.needs_rearm = True
            return False, f"not armed: {denied}"
        try:
            self.hardware.recover()
            fault = self.hardware.measure().fault
        except ArmLost as error:
            fault = str(error)
        except Exception as error:  # code of somebody else
            fault = f"{type(error).__name__}: {error}"
        if fault:
            self._stop()  # also where it was armed before
            return False, f"not armed: {fault}"
        self.needs_rearm = False
        self._target_mono_ns = self._newest = None
        self._queue.clear()
        return True, f"armed by {operator.strip()}"

    def offer(self, target: TargetCommand, now_ns: int, mono_ns: int) -> bool:
        """Take a Target; True where it shall be followed. now_ns: the clock of its stamps."""
        if self.denied_by_monitor(mono_ns):
            self._stop()
        if not _is_sound(target) or now_ns > target.valid_until_ns or self.needs_rearm:
            return False
        newest = self._newest
        if newest is not None and target.boot_id == newest.boot_id and target.episode_id and target.k <= newest.k:
            return False
        if target.episode_id not in ("", self.reset_id):
            return False
        self._target_mono_ns = mono_ns
        if not target.episode_id and (self._lockstep or (self._paused and target.hold)):
            return False  # it shows that the arbiter lives, but the laid-out cell stays as it is
        self._newest, self._paused = target, False
        if self._lockstep:
            self._queue.append(target)
        return True

    def lockstep_period(self) -> ArmState:
        """Advance one period with the Target just taken, or with the one taken `delay_steps` before."""
        return self._follow() if len(self._queue) > self._delay_steps else self._hold()

    def hold_period(self) -> ArmState:
        """Advance one period in hold; nothing moves while paused."""
        return self.measure() if self._paused else self._hold()

    def run_period(self, mono_ns: int) -> ArmState:
        """Real time: advance one period with the newest Target, or hold."""
        self._watch(mono_ns)
        if self._paused:
            return self.measure()
        if self.needs_rearm or self._newest is None:
            return self._hold()
        self._queue.append(self._newest)
        return self._follow() if len(self._queue) > self._delay_steps else self._hold()

    def run_part(self, mono_ns: int) -> ArmState:
        """Real time: a part of the period passes on the way to what it began with; where that must end, in hold."""
        self._watch(mono_ns)
        if self._paused:
            return self.measure()
        if self.needs_rearm and not self._held:
            return self._hold()
        self.hardware.wait()
        return self.measure()

    def _watch(self, mono_ns: int) -> None:
        heard_ns = self._target_mono_ns
        if heard_ns is None:
            return  # nobody has moved the arm since it was armed
        if mono_ns - heard_ns > self._target_timeout_ns or self.denied_by_monitor(mono_ns):
            self._stop()

    def _stop(self) -> None:
        """Follow nothing until a named person arms."""
        self.needs_rearm = True
        self._newest = None
        self._queue.clear()

    def _follow(self) -> ArmState:
        target = self._queue.popleft()
        pose = np.asarray(target.pose, np.float64)
        width_m = None if math.isnan(target.gripper_width_m) else target.gripper_width_m
        self._held = False
        self.hardware.follow(pose, width_m)
        return self.measure()

    def _hold(self) -> ArmState:
        self._held = True
        self.hardware.hold()
        return self.measure()

    def measure(self) -> ArmState:
        """The newest state. One in which the arm itself does not move stops it until a person arms.

        Raises:
            ArmLost: see `Arm.measure`.
        """
        state = self.hardware.measure()
        if state.fault:
            self._stop()
        return state


def _is_sound(target: TargetCommand) -> bool:
    width_m = target.gripper_width_m
    return pose_problem(target.pose) is None and (math.isnan(width_m) or 0.0 <= width_m <= 0.08)
