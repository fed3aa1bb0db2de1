"""A DDS domain for each test that starts nodes, and processes in it that do not outlive the test.

A node that outlives its test, because the test run was killed, would be heard by the next test in its domain.
"""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from inril_bringup.programs import die_with_parent

_LOCKS = {number: Path(tempfile.gettempdir()) / f"inril-test-domain-{number}.lock" for number in range(60, 100)}


def _used_at(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


@contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that no other test on this machine uses meanwhile: the one that was left alone for longest.

    A process that was killed stays in its domain's graph until its lease is over.
    """
    for domain, path in sorted(_LOCKS.items(), key=lambda item: _used_at(item[1])):
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            os.utime(path)
            yield domain
            os.utime(path)
            left = _living_nodes(domain)
            assert not left, f"nodes outlive their test, and the next test would hear them: {left}"
            return
    raise RuntimeError("all test domains are in use")


def _living_nodes(domain: int) -> list[str]:
    """Nodes of this process that are still on this domain: a test that forgot to destroy one disturbs later tests."""
    if "rclpy" not in sys.modules:
        return []
    from rclpy.node import Node

    living = []
    for node in gc.get_objects():
        if issubclass(type(node), Node):  # isinstance asks lazy objects what they are, and wakes them
            with suppress(Exception), node.handle:  # a destroyed handle cannot be entered
                if not node.context.ok() or node.context.get_domain_id() == domain:
                    living.append(node.get_fully_qualified_name())
    return living


def spawn(command: Sequence[str], domain: int, environment: dict[str, str] | None = None, **options: Any) -> Any:
    """A process in this domain that dies with this one: `subprocess.Popen` with these options."""
    variables = {**os.environ, **(environment or {}), "ROS_DOMAIN_ID": str(domain)}
    options = {"stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen(command, env=variables, preexec_fn=die_with_parent(), **options)
