"""The run folder has one launcher at a time. Standard library only: the launch files import this too."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


class RunDirInUse(RuntimeError):
    """Another launcher holds this run folder."""


def lock_run_dir(run_dir: Path) -> IO[str]:
    """Create the run folder and hold it until the returned file is closed or this process ends.

    The kernel lets go of the lock when its holder dies, so a lock file that was left behind does not block.

    Raises:
        OSError: the folder cannot be made or written.
        RunDirInUse: another launcher holds it.
    """
    path = run_dir / "launcher.lock"
    run_dir.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RunDirInUse(
            f"run_dir = {run_dir}: in use by the launcher with process id {holder}; stop it (Ctrl-C there, "
            f"or kill -INT {holder}) or give another run_dir"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
