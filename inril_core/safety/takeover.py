"""When a person with an asynchronous device has control: what takes it, and which act gives it back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from inril_core.errors import ConfigError

if TYPE_CHECKING:
    from inril_core.safety.ticks import HumanAnswer


class Mode(StrEnum):
    """What takes control."""

    DEAD_MAN = "dead_man"
    """The grab button; the arm moves only while it is held."""
    TOGGLE = "toggle"
    """One press of the grab button takes control, the next one gives it back."""
    MOTION = "motion"
    """Any motion of the device, or the grab button."""


class HandBack(StrEnum):
    """What gives control back, besides the hand-back button, which always does."""

    BUTTON = "button"
    """Nothing else: a person who lets go holds the arm."""
    LET_GO = "let_go"
    """Letting go: no grab and no motion for `TakeoverConfig.hold_ns`."""


@dataclass(frozen=True)
class TakeoverConfig:
    """How control is taken and given back.

    Raises:
        ConfigError: the two do not fit together, or the time is out of its range.
    """

    mode: Mode = Mode.DEAD_MAN
    hand_back: HandBack = HandBack.BUTTON
    hold_ns: int = 500_000_000
    """With `HandBack.LET_GO`: so long the arm is held after the person has let go."""

    def __post_init__(self) -> None:
        if self.mode is Mode.TOGGLE and self.hand_back is HandBack.LET_GO:
            raise ConfigError(
                "takeover = 'toggle' with hand_back = 'let_go': a toggled device is let go of all the time; give "
                "hand_back 'button', or takeover 'dead_man' or 'motion'"
            )
        if not 0 <= self.hold_ns <= 10_000_000_000:
            raise ConfigError(f"hand_back_hold_s = {self.hold_ns / 1e9}: must be between 0 and 10 s")


class Control:
    """Whether the person has control, from one reading of the device to the next. Takes no control by silence.

    lost_ns: after a longer silence whatever is held or pushed counts only after a reading in which it is not: a device
    that was plugged in again moves nothing before an explicit grab.
    """

    def __init__(self, config: TakeoverConfig, lost_ns: int) -> None:
        self._config = config
        self._lost_ns = lost_ns
        self.taken = False
        self._wanted = False
        """In the reading before: grabbed, or moved where that counts."""
        self._spent = False
        """What is held counts again once it was let go of."""
        self._held_over = False
        """What is pushed moves the arm again once it was let go of."""
        self._heard_ns: int | None = None
        self._let_go_ns: int | None = None

    def hear(self, answer: HumanAnswer, mono_ns: int) -> None:
        """Take a reading."""
        wants = self._wants(answer)
        if not self._pushes(answer):
            self._held_over = False
        if self._heard_ns is not None and mono_ns - self._heard_ns > self._lost_ns:
            self._spent, self._wanted = True, True
        self._heard_ns = mono_ns
        pressed, self._wanted = wants and not self._wanted, wants
        if answer.released:
            self.taken, self._spent, self._let_go_ns = False, wants, None
            return
        if not wants:
            self._spent = False
            self._hear_let_go(mono_ns)
            return
        self._let_go_ns = None
        if self._spent:
            return
        if self._config.mode is not Mode.TOGGLE:
            self.taken = True
        elif pressed:
            self.taken = not self.taken

    def drives(self, answer: HumanAnswer) -> bool:
        """Whether the person, who has control, moves the arm with this reading; otherwise it holds."""
        return not answer.released and self._may_push(answer) and not self._held_over

    def hold_over(self) -> None:
        """The arm was laid out elsewhere: a push that goes on was meant for where it was, so it moves nothing.

        Control stays where it is.
        """
        self._held_over = True

    def lose(self) -> None:
        """Nobody has control; what is held now counts once it was let go of."""
        self.taken, self._spent, self._let_go_ns = False, self._wanted, None

    def _hear_let_go(self, mono_ns: int) -> None:
        if self._config.hand_back is not HandBack.LET_GO or not self.taken:
            return
        if self._let_go_ns is None:
            self._let_go_ns = mono_ns
        if mono_ns - self._let_go_ns >= self._config.hold_ns:
            self.taken, self._let_go_ns = False, None

    def _may_push(self, answer: HumanAnswer) -> bool:
        return answer.grab or self._config.mode is not Mode.DEAD_MAN

    def _pushes(self, answer: HumanAnswer) -> bool:
        return self._may_push(answer) and any(answer.action[:6])

    def _wants(self, answer: HumanAnswer) -> bool:
        moved = self._config.mode is Mode.MOTION and any(answer.action[:6])
        return answer.grab or moved
