"""Remembers on disk that `arm_at_start` has done its part, so that a restarted session arms nothing."""

from __future__ import annotations

import os
from pathlib import Path

from inril_core.files import write_atomically


def armed_by_this_launch(marker: Path) -> bool:
    """Whether an earlier life of this process, under the same launch, has asked for the arming."""
    return marker.exists() and marker.read_text() == _launch_id()


def note_armed(marker: Path) -> None:
    """Write it down. Call it before the arming is asked for: killed in between, nobody arms a second time."""
    write_atomically(marker, _launch_id().encode())


def _launch_id() -> str:
    """Identity of the process that started this one: the same for all restarts under one launch.

    Its start is counted from the machine's boot, so a clock that is set meanwhile does not make it another.
    """
    launcher = os.getppid()
    # The program's name, in brackets, may contain blanks; the start is field 22.
    start_ticks = Path(f"/proc/{launcher}/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"armed by arm_at_start of launch {launcher}, started {start_ticks} ticks after boot {boot}\n"
