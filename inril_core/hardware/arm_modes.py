"""What an arm's controller says of itself, in words that name the cause and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOVING_MODES = ("move",)
"""In which the arm follows commands."""

_REMEDIES = {
    "idle": "no controller moves it: activate the Cartesian controller",
    "reflex": "it stopped by itself at a contact or a limit: free it by hand if it is wedged",
    "user_stopped": "its stop is pressed or its joints are locked: release the stop, unlock the joints, activate FCI",
    "guiding": "somebody guides it by hand: let go of its buttons",
    "automatic_error_recovery": "it recovers from an error: wait until it has",
    "other": "it is in no mode in which it moves: look at its own page (Desk)",
}


def snake(words: str) -> str:
    """A vendor's name of a mode (``UserStopped``, ``ROBOT_MODE_USER_STOPPED``) as ``user_stopped``."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words.strip())
    return parted.lower().removeprefix("robot_mode_")


def fault_of(mode: str, errors: Iterable[str] = (), moving: Iterable[str] = MOVING_MODES) -> str:
    """Why an arm in this mode, with these errors, does not move, and what to do; empty: it moves.

    Args:
        mode: as `snake` gives it; empty: unknown, and then errors alone count.
        moving: modes in which it follows commands.
    """
    named = ", ".join(errors)
    if not named and (not mode or mode in moving):
        return ""
    shown = f"{mode or 'unknown mode'} ({named})" if named else mode
    remedy = _REMEDIES.get(mode, "look at its own page (Desk)")
    return f"the arm itself does not move: {shown}; {remedy}; then look at the arm and `inril arm`"
