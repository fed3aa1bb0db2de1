"""`arm_at_start`: a simulated arm is armed once per start of the graph, and never a real one."""

from __future__ import annotations

from collections.abc import Callable

from inril_core.session.readiness import NOTHING, Readiness, Wait
from inril_core.session.requests import ArmArbiter, ArmRobot, Request, Tell

AGAIN_NS = 500_000_000


class ArmAtStart:
    """Arms the arm's watchdog, then the arbiter, until both agreed once.

    Arms nothing before a RobotState has said that no arm can move (`simulated`), and gives up for good when one says
    that an arm can, or when a person was faster.
    """

    def __init__(self, wanted: bool, readiness: Readiness, ask: Callable[[Request], None]) -> None:
        self.wanted = wanted
        self.waiting: Wait = NOTHING
        self.simulated: bool | None = None
        """What the newest RobotState says; None before the first."""
        self.asking = False
        self._readiness = readiness
        self._ask = ask
        self._again_ns = 0

    def poll(self, now_ns: int) -> None:
        """Ask, where it is time to."""
        if self.asking or not self.wanted:
            return
        if self._readiness.armed:  # should that person disarm, it stays disarmed
            self._give_up("armed by a person before arm_at_start was")
        elif self.simulated is False:
            self._give_up("robot_state comes from a real arm: arm_at_start arms none; look at it, then `inril arm`")
        elif self.simulated is None:
            self.waiting = Wait("robot_state of the simulated cell that arm_at_start is for")
        elif blocked := self._readiness.not_armable(now_ns):
            self.waiting = blocked
        elif now_ns >= self._again_ns:
            self.asking = True
            self.waiting = self.waiting or Wait("the arm and arbiter_node to be armed")
            self._ask(ArmRobot())

    def on_robot_armed(self, success: bool, message: str, now_ns: int) -> None:
        """The arm's answer. Its watchdog goes first: the arbiter refuses while that holds."""
        if not self.asking:
            return
        if success and self.simulated:
            self._ask(ArmArbiter())
        else:
            self.on_failure(f"robot/arm: {message}", now_ns)

    def on_arbiter_armed(self, success: bool, message: str, now_ns: int) -> None:
        """The arbiter's answer."""
        if not self.asking:
            return
        if success:
            self._give_up("armed once, as arm_at_start says; from here on only a person arms")
        else:
            self.on_failure(f"arbiter/arm: {message}", now_ns)

    def on_failure(self, reason: str, now_ns: int) -> None:
        """Somebody refused or did not answer: asked again a little later."""
        self.asking = False
        self.waiting = Wait(reason, person=True)
        self._again_ns = now_ns + AGAIN_NS

    def _give_up(self, why: str) -> None:
        self.wanted = self.asking = False
        self.waiting = NOTHING
        self._ask(Tell(why, warning=self.simulated is False))
