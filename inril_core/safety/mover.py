"""Turns what is asked of the arm into a Target, and names what stood against it."""

from __future__ import annotations

from collections.abc import Sequence

from inril_core.contract import Contract
from inril_core.safety.command import FOLLOWING_ERRORS_IN_A_ROW, Command
from inril_core.safety.faults import Blocks, Fault, FaultLatch
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.limits import Limited
from inril_core.safety.measured import REFUSED_IN_A_ROW
from inril_core.safety.ticks import ArbiterConfig, Closed, RobotSample, Source, TargetPose, Tick
from inril_core.safety.watch import Cause


class Mover:
    """Commands the arm on behalf of whoever is in control; all that leaves has passed `Command.check`.

    Methods that latch faults or command are called while armed only.
    """

    def __init__(
        self, contract: Contract, config: ArbiterConfig, faults: FaultLatch, joint_model: JointModel | None = None
    ) -> None:
        self._lockstep = config.lockstep
        self._target_ns = round(contract.staleness.target_s * 1e9)
        self._frame = contract.base_frame
        self._faults = faults
        self._driver: Source | None = None  # who moved the arm last
        self._handing_over = False
        self.command = Command(contract, joint_model)

    @property
    def may_command(self) -> bool:
        """No fault forbids every Target."""
        return self._faults.blocks < Blocks.TARGETS

    def begin_episode(self, laid_out_at_once: bool, since_ns: int) -> None:
        """Commanding begins anew, at a measurement of `since_ns` or later.

        laid_out_at_once: the arm may be anywhere with the next measurement.
        """
        self.command.end_episode(since_ns)
        if laid_out_at_once:
            self.command.measured.restart()

    def take_pose(self, said: Tick | RobotSample, armed: bool, in_motion: bool) -> bool:
        """Whether a measured pose can be true. Several in a row that cannot are a fault.

        In lockstep an Observation is the measurement; otherwise it repeats one that the arm's node has published.
        """
        if said.frame != self._frame:
            return False
        measured = self.command.measured
        if isinstance(said, Tick) and not self._lockstep:
            return measured.can_be(said.tool_pose, said.stamp_ns)
        sure = armed and in_motion and self.may_command and self.command.pose is not None
        sound = measured.take(said.tool_pose, said.stamp_ns, jump_allowed=not sure)
        if sound and isinstance(said, RobotSample):
            self.command.saw_joints(JointSample(said.joint_position_rad, said.tool_pose, said.stamp_ns))
        if armed and measured.refused_n >= REFUSED_IN_A_ROW:
            for name, detail, blocks in self.doubts():
                self._faults.latch(name, f"{detail}, then arm", blocks)
        return sound

    def doubts(self) -> list[Cause]:
        """Why the measured pose cannot be trusted now."""
        measured = self.command.measured
        if not measured.refused_n:
            doubt = self.command.joints_doubt()
            return [] if doubt is None else [Cause(Fault.JOINTS_UNKNOWN, doubt, Blocks.MOTION)]
        detail = (
            f"{measured.refused_n} measured tool poses in a row that the arm cannot have reached from "
            f"{_shown(measured.pose)}, newest {_shown(measured.refused)}; look after the arm's driver"
        )
        return [Cause(Fault.UNREACHABLE_STATE, detail, Blocks.TARGETS)]

    def begin_anew(self) -> list[Cause]:
        """Command the measured pose, if there is one yet: the arm does not move. Why that cannot be."""
        self.command.end()
        reason = self.command.begin()
        return [] if reason is None else [Cause(Fault.UNREACHABLE_STATE, reason, Blocks.TARGETS)]

    def act(
        self, tick: Tick, source: Source, action: Sequence[float] | None, run_id: str, n: int, now_ns: int
    ) -> Closed:
        """Move by a finite action (A numbers, contract units) within the limits; None, or what fails, is a hold."""
        command = self.command
        if self.may_command:
            reason = command.begin()
            if reason is not None:
                self._fault(Fault.UNREACHABLE_STATE, reason, Blocks.TARGETS)
        limits: tuple[str, ...] = ()
        margins: tuple[float, ...] = ()
        if action is not None and self.may_command:
            self._handing_over = self._handing_over or source is not self._driver
            limited = command.move(action, self._handing_over)
            if limited is None or limited.stopped_by:
                self._name_what_stopped(source, limited)
            else:
                target = self._target(limited.target_pose, False, tick, now_ns)
                if target is not None:
                    self._driver, self._handing_over = source, "handover" in limited.limits
                    closed = Closed(tick, source, run_id, n, action, limited.executed, limited.limits, target)
                    return closed._replace(margins=limited.margins) if limited.margins else closed
            if limited is not None:
                limits, margins = limited.limits, limited.margins
        still, pose = command.still, command.pose
        held = None if pose is None or not self.may_command else self._target(pose, True, tick, now_ns)
        holder = Source.RESET if source is Source.RESET else Source.HOLD
        return Closed(tick, holder, "", -1, still if action is None else action, still, limits, held, margins=margins)

    def _target(self, pose: Sequence[float], hold: bool, tick: Tick, now_ns: int) -> TargetPose | None:
        """The only way out: the last check, then the Target. None: it failed, which is a fault."""
        wrong = self.command.check(pose)
        if wrong is not None:
            self._fault(
                Fault.LAST_CHECK, f"a Target was stopped by the last check: {wrong}; report this", Blocks.MOTION
            )
            return None
        since_ns = tick.stamp_ns if self._lockstep else now_ns
        return TargetPose(pose, hold, since_ns + self._target_ns, self.command.gripper_width_m)

    def _name_what_stopped(self, source: Source, limited: Limited | None) -> None:
        blocks = Blocks.POLICY if source is Source.POLICY else Blocks.MOTION
        if limited is not None:
            detail = f"{source.word} met {', '.join(limited.stopped_by)}; look at the arm"
            self._fault(Fault.LIMIT_STOP, detail, blocks)
        elif self.command.far_n >= FOLLOWING_ERRORS_IN_A_ROW:
            detail = (
                f"the arm is at {_shown(self.command.measured.pose)}, far from its last Target "
                f"{_shown(self.command.pose)}: something blocks it or has moved it; look at it"
            )
            self._fault(Fault.FOLLOWING_ERROR, detail, Blocks.MOTION)

    def _fault(self, name: str, detail: str, blocks: Blocks) -> None:
        self._faults.latch(name, f"{detail}, then arm", blocks)


def _shown(pose: Sequence[float] | None) -> str:
    return "nowhere" if pose is None else "(" + ", ".join(f"{number:.4g}" for number in pose) + ")"
