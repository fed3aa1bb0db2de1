"""The environment of inril's processes. Standard library only: launch imports it into any interpreter.

inril's nodes run from their own virtual environment. A shell that has sourced a native ROS 2 points
PYTHONPATH and LD_LIBRARY_PATH at packages built for another interpreter; those are left out, and the two
meet over DDS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

DDS_ENVIRONMENT = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    # Fast DDS's shared memory does not outlive kill -9: others clear a dead node's port away after its successor has
    # opened it, which then hears nothing, for ever (Fast DDS issues 5053 and 5469).
    "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
}
DEFAULT_ENVIRONMENT = {
    **DDS_ENVIRONMENT,
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Where the caller's environment says nothing else."""

_SEARCH_PATHS = (
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
)
_NATIVE_ROS = Path("/opt/ros")


def child_environment(environment: Mapping[str, str], prefix: Path | None = None) -> dict[str, str]:
    """`environment` without other ROS installations, completed by the defaults of every node.

    Args:
        prefix: of inril's virtual environment; None: this interpreter's.
    """
    own = prefix or Path(sys.prefix)
    named = (environment.get(name, "") for name in ("AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH"))
    foreign = [_NATIVE_ROS, *(Path(entry) for value in named for entry in value.split(os.pathsep) if entry)]
    foreign = [path for path in foreign if path != own]
    kept = {**DEFAULT_ENVIRONMENT, **environment}
    for name in _SEARCH_PATHS:
        if name in kept:
            entries = [entry for entry in kept[name].split(os.pathsep) if entry]
            kept[name] = os.pathsep.join(entry for entry in entries if not _below(Path(entry), foreign, own))
    return kept


def _below(path: Path, foreign: list[Path], own: Path) -> bool:
    return not path.is_relative_to(own) and any(path.is_relative_to(folder) for folder in foreign)


def use_dds_of_the_graph() -> None:
    """Let this process talk as the nodes do, unless its environment says otherwise; before it initialises rclpy."""
    for name, value in DDS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def leave_foreign_ros() -> None:
    """Start this program again without other ROS installations on its paths, if there are any."""
    clean = child_environment(os.environ)
    if any(clean.get(name, "") != os.environ.get(name, "") for name in ("PYTHONPATH", "LD_LIBRARY_PATH")):
        clean.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)  # the wheels then put their own libraries first
        os.execve(sys.executable, sys.orig_argv, clean)
