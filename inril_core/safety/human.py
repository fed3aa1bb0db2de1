"""What the human's device said last, and whether it has control."""

from __future__ import annotations

from inril_core.safety.takeover import Control, TakeoverConfig
from inril_core.safety.ticks import HumanAnswer, Tick

TickName = tuple[str, int]
"""Boot and k of a tick."""


class Human:
    """Control is taken by a grab and kept until it is released, lost, or, for the scripted human, the episode ends.

    A synchronous device says itself when it has control; of any other one `inril_core.safety.takeover` decides.

    lost_ns: silence after which what an asynchronous device holds counts only once it was let go of.
    """

    def __init__(self, awaited: bool, takeover: TakeoverConfig, lost_ns: int) -> None:
        self.has_control = False
        self.awaited = awaited
        """Ticks wait for an answer: the device is synchronous, or is said to be."""
        self._answer: HumanAnswer | None = None
        self._answered: TickName | None = None
        self._early: HumanAnswer | None = None
        self._grab_is_spent = False
        self._control = Control(takeover, lost_ns)

    @property
    def synchronous(self) -> bool:
        """The device heard last answers ticks."""
        return self._answer is not None and self._answer.synchronous

    @property
    def answer(self) -> HumanAnswer | None:
        """The newest; its action is empty where it cannot be used."""
        return self._answer

    @property
    def drives(self) -> bool:
        """Having control, the person moves the arm with the newest answer; otherwise it holds."""
        answer = self._answer
        if answer is None or answer.synchronous:
            return answer is not None and answer.grab and not answer.released
        return self._control.drives(answer)

    def keep_early(self, answer: HumanAnswer) -> None:
        """It came before its Observation."""
        self._early = answer
        if not self.synchronous:
            self.drop_action()  # as in `hear_late`

    def take_early(self, tick: Tick) -> HumanAnswer | None:
        """The answer that came before this tick opened, if it is for it."""
        early, self._early = self._early, None
        return early if early is not None and early.k == tick.k else None

    def hear(self, answer: HumanAnswer, tick: TickName | None, mono_ns: int) -> None:
        """Take an answer. tick: the open one that a synchronous device answers; None: of any other device."""
        before, self._answer, self._answered = self._answer, answer, tick
        if answer.synchronous:
            self._hear_of_control(answer)
            return
        if before is not None and before.synchronous:  # the scripted human gives way to a person, who has to grab
            self.has_control = False
        self._control.taken = self.has_control
        self._control.hear(answer, mono_ns)
        self.has_control = self._control.taken

    def hear_late(self, answer: HumanAnswer) -> None:
        """The tick that a synchronous device answers has closed: what it says of control still counts.

        A grab in an answer older than the newest one does not: the device may have released since.
        """
        overtaken = self._answer is not None and self._answer.synchronous and answer.k <= self._answer.k
        if not self.synchronous:
            self._answer = answer._replace(action=())  # the one before is of another device, which need not live
        if answer.released or not overtaken:
            self._hear_of_control(answer)

    def _hear_of_control(self, answer: HumanAnswer) -> None:
        if answer.released or not answer.grab:
            self._grab_is_spent = False
        if answer.released:
            self.has_control = False
        elif answer.grab and not self._grab_is_spent:
            self.has_control = True

    def drop_action(self) -> None:
        """The newest action cannot be used; what the device says of control still counts."""
        if self._answer is not None:
            self._answer = self._answer._replace(action=())

    def answered(self, tick: Tick) -> bool:
        """A synchronous device has answered this tick; any other one always has."""
        if self._answer is None or not self._answer.synchronous:
            return self._answer is not None
        return self._answered == (tick.boot_id, tick.k)

    def begin_episode(self, expected: bool) -> None:
        """The scripted human starts every episode anew; a person keeps control until handing it back."""
        self.end_episode()
        self.awaited = expected if self._answer is None else self._answer.synchronous

    def hold_over(self) -> None:
        """The cell was laid out: what a person's device said before, and what it still holds, moves nothing."""
        if not self.synchronous:
            self.drop_action()
            self._control.hold_over()

    def end_episode(self) -> None:
        """A device that answers ticks has no say between episodes."""
        if self.synchronous:
            self.has_control = False

    def lose_control(self) -> None:
        """Control takes a fresh grab from here on."""
        self.has_control, self._grab_is_spent = False, True
        self._control.lose()

    def start_anew(self) -> None:
        """A person has armed or disarmed: nobody has control."""
        self.has_control = self._grab_is_spent = False
        self._control.lose()
