"""A DDS domain for each test that starts nodes, and processes in it that do not outlive the test.

A node that outlives its test, because the test run was killed, would be heard by the next test in its domain.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inril_bringup.programs import die_with_parent


@contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that no other test on this machine uses meanwhile."""
    for domain in range(60, 100):
        path = Path(tempfile.gettempdir()) / f"inril-test-domain-{domain}.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield domain
            return
    raise RuntimeError("all test domains are in use")


def spawn(command: Sequence[str], domain: int, environment: dict[str, str] | None = None, **options: Any) -> Any:
    """A process in this domain that dies with this one: `subprocess.Popen` with these options."""
    variables = {**os.environ, **(environment or {}), "ROS_DOMAIN_ID": str(domain)}
    options = {"stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen(command, env=variables, preexec_fn=die_with_parent(), **options)
