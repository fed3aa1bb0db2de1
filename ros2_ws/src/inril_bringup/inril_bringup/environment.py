"""The environment of inril's processes. Standard library only: launch imports it into any interpreter.

inril's nodes run from their own virtual environment. A shell that has sourced a native ROS 2 points
PYTHONPATH and LD_LIBRARY_PATH at packages built for another interpreter; those are left out, and the two
meet over DDS.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from inril_bringup.network import hosts_profile, is_hosts_profile

RANGE, TRANSPORTS = "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_BUILTIN_TRANSPORTS"
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
UDP_LOOPBACK = str(Path(__file__).resolve().parent / "udp_loopback.xml")
NODE_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
"""Where the caller's environment says nothing else."""

_SEARCH_PATHS = (
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
)
_NATIVE_ROS = Path("/opt/ros")


CALLER = "INRIL_CALLER_PATHS"
"""The search paths that the user's shell had, as JSON: `leave_foreign_ros` keeps them for nodes that inherit them."""
_BOOTSTRAP = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


def dds_environment(given: Mapping[str, str]) -> dict[str, str]:
    """How a graph talks where ``given`` says nothing else: over UDP, on this machine and with the hosts that it names.

    Not over Fast DDS's shared memory, which does not outlive kill -9: others clear a dead node's port away after its
    successor has opened it, which then hears nothing, for ever (Fast DDS issues 5053 and 5469). The range LOCALHOST
    switches shared memory on, whatever `FASTDDS_BUILTIN_TRANSPORTS` says, so a profile of Fast DDS stands for it.
    """
    reach, transports = given.get(RANGE, "LOCALHOST"), given.get(TRANSPORTS, "UDPv4")
    chosen = {RANGE: reach, TRANSPORTS: transports}
    if (reach, transports) != ("LOCALHOST", "UDPv4") or any(given.get(name) for name in PROFILES):
        return chosen
    return {**chosen, RANGE: "SYSTEM_DEFAULT", PROFILES[0]: str(hosts_profile(given) or UDP_LOOPBACK)}


def is_over_udp(environment: Mapping[str, str]) -> bool:
    """Whether what talks with this environment leaves shared memory alone."""
    profile = environment.get(PROFILES[0], "")
    plain = (environment.get(RANGE), environment.get(TRANSPORTS)) == ("SUBNET", "UDPv4")
    return profile == UDP_LOOPBACK or (bool(profile) and is_hosts_profile(profile)) or plain


def is_local(environment: Mapping[str, str]) -> bool:
    """Whether nobody outside this machine hears what talks with this environment."""
    return environment.get(PROFILES[0]) == UDP_LOOPBACK or environment.get(RANGE, "LOCALHOST") in ("LOCALHOST", "OFF")


def child_environment(environment: Mapping[str, str], prefix: Path | None = None) -> dict[str, str]:
    """`environment` without other ROS installations, completed by the defaults of every node.

    Args:
        prefix: of inril's virtual environment; None: this interpreter's.
    """
    own = prefix or Path(sys.prefix)
    named = (environment.get(name, "") for name in ("AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH"))
    foreign = [_NATIVE_ROS, *(Path(entry) for value in named for entry in value.split(os.pathsep) if entry)]
    foreign = [path for path in foreign if path != own]
    kept = {**NODE_ENVIRONMENT, **environment, **dds_environment(environment)}
    kept.pop(CALLER, None)
    for name in _SEARCH_PATHS:
        if name in kept:
            entries = [entry for entry in kept[name].split(os.pathsep) if entry]
            kept[name] = os.pathsep.join(entry for entry in entries if not _below(Path(entry), foreign, own))
    return kept


def caller_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the shell that started inril has, other ROS installations and overlays included; talks as the graph does."""
    try:
        paths = json.loads(environment.get(CALLER, "{}"))
    except ValueError:
        paths = {}
    kept = {**environment, **dds_environment(environment)}
    kept.pop(CALLER, None)
    if paths:
        kept.pop(_BOOTSTRAP, None)
        for name in _SEARCH_PATHS:
            kept.pop(name, None)
        kept |= paths
    return kept


def find_program(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The command with its program's path; `ros2 run PACKAGE EXECUTABLE` is looked up along AMENT_PREFIX_PATH.

    Raises:
        FileNotFoundError: there is no such program in this environment; the message names the places.
    """
    if tuple(command[:2]) == ("ros2", "run") and len(command) >= 4:
        package, executable = command[2], command[3]
        prefixes = [entry for entry in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
        for prefix in prefixes:
            path = Path(prefix) / "lib" / package / executable
            if path.is_file() and os.access(path, os.X_OK):
                return (str(path), *command[4:])
        raise FileNotFoundError(
            f"no executable lib/{package}/{executable} in {os.pathsep.join(prefixes) or 'an empty AMENT_PREFIX_PATH'}"
        )
    found = shutil.which(command[0], path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"no executable {command[0]} (PATH {environment.get('PATH', os.defpath)})")
    return (found, *command[1:])


def _below(path: Path, foreign: list[Path], own: Path) -> bool:
    return not path.is_relative_to(own) and any(path.is_relative_to(folder) for folder in foreign)


def use_dds_of_the_graph() -> None:
    """Let this process talk as the nodes do, unless its environment says otherwise; before it initialises rclpy."""
    os.environ.update(dds_environment(os.environ))


def remembered_paths(environment: Mapping[str, str]) -> str:
    """The search paths of a shell, for `CALLER`."""
    return environment.get(CALLER) or json.dumps({n: environment[n] for n in _SEARCH_PATHS if n in environment})


def leave_foreign_ros() -> None:
    """Start this program again without other ROS installations on its paths, if there are any."""
    clean = child_environment(os.environ)
    if any(clean.get(name, "") != os.environ.get(name, "") for name in ("PYTHONPATH", "LD_LIBRARY_PATH")):
        clean.pop(_BOOTSTRAP, None)  # the wheels then put their own libraries first
        clean[CALLER] = remembered_paths(os.environ)
        os.execve(sys.executable, sys.orig_argv, clean)
