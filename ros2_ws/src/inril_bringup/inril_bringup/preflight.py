"""Is this machine fit to run a graph? Each check answers OK, WARN or FAIL, and names the fix.

Over 400 lines: one function for each check, which share nothing.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from inril_common.realtime import LIMITS, permitted

import inril_core
from inril_bringup.driven_arm import arm_to_be_checked, overridden, require_check
from inril_bringup.environment import PROFILES, RANGE, TRANSPORTS, dds_environment, is_local, is_over_udp
from inril_bringup.graph import load_graph, parse_values
from inril_bringup.neighbours import listen
from inril_bringup.network import network_fault, peers, this_host
from inril_bringup.place import PlaceError, place_of
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.run import default_key_path
from inril_core.teleop_check.stored import PREFIX, check_name, read_check, too_old

Level = Literal["OK", "WARN", "FAIL"]

GIB = 1 << 30
DISK_FAIL_BYTES, DISK_WARN_BYTES = GIB, 5 * GIB
KEY_MIN_BYTES = 32
EXACT = ("torch", "mujoco", "numpy", "ros-jazzy-rclpy", "ros-rclpy", "ros-rmw-fastrtps-cpp", "ros-fastrtps")
"""Packages whose version decides numbers or the wire."""
RENDER_TIMEOUT_S = 60.0
CALIBRATION = Path("calibration")
"""As the graph's argument has it by default."""
_TIME_ERROR = 5  # <sys/timex.h>: the clock is not synchronised
_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().max() > 0, "the image is black"
"""


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    level: Level
    found: str
    fix: str = ""
    """Empty where there is nothing to do."""


def python() -> Check:
    """The interpreter, and that it is a virtual environment's."""
    found = f"{platform.python_version()} in {sys.prefix}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "FAIL", found, "use Python 3.11 or 3.12 (make setup)")
    if sys.prefix == sys.base_prefix:
        return Check("python", "WARN", found, "run .venv/bin/inril, so that the tested packages are used")
    return Check("python", "OK", found)


def packages(constraints: Path | None = None) -> Check:
    """Installed versions against constraints.txt."""
    path = constraints or Path(inril_core.__file__).resolve().parents[1] / "constraints.txt"
    if not path.exists():
        return Check("packages", "WARN", f"{path} is not there", "compare with the constraints.txt of your checkout")
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", path.read_text(), re.MULTILINE))
    found = {name: _version(name) for name in pins}
    differ = [
        f"{name} {version} (pinned: {pins[name]})" for name, version in found.items() if _differs(version, pins[name])
    ]
    bad = [text for text in differ if text.split()[0].lower() in EXACT]
    present = {name: version for name, version in found.items() if version and name.lower() in EXACT}
    if differ:
        level: Level = "FAIL" if bad else "WARN"
        return Check("packages", level, ", ".join(bad or differ), "rm -rf .venv && make setup")
    return Check("packages", "OK", ", ".join(f"{name} {version}" for name, version in present.items()) or "as pinned")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _differs(version: str | None, pin: str) -> bool:
    """A package that is not installed is not missed here: its import says so where it is needed."""
    return version is not None and version.split("+")[0] != pin.split("+")[0]


def dds(namespace: str = "") -> list[Check]:
    """Two processes exchange a message under this very environment; who else is heard, and who can hear a graph.

    In processes of their own: loading a middleware can end the one that tries it.
    """
    try:
        place = place_of(os.environ, namespace)
        found = listen(namespace)
    except (ConfigError, PlaceError) as error:
        what, _, fix = str(error).partition("; ")
        return [Check("dds", "FAIL", what, fix)]
    checks = [Check("dds", "OK", f"two processes on this machine hear each other ({found.rmw})")]
    if found.rmw != "rmw_fastrtps_cpp":
        checks = [Check("dds", "WARN", f"{found.rmw} works", "tested is rmw_fastrtps_cpp: unset RMW_IMPLEMENTATION")]
    if found.others:
        fix = (
            "a second graph needs its own namespace:= or ROS_DOMAIN_ID (0 to 101); inril down stops one of this machine"
        )
        checks.append(Check("domain", "WARN", f"{place}: {', '.join(found.others)}", fix))
    else:
        checks.append(Check("domain", "OK", f"{place}: nobody else is heard"))
    return [*checks, discovery_range()]


def discovery_range() -> Check:
    """Who can hear this graph."""
    fault, _, cure = network_fault(os.environ).partition("; ")
    if fault:
        return Check("discovery", "FAIL", fault, cure)
    talks = {**os.environ, **dds_environment(os.environ)}
    found = talks[RANGE]
    if is_local(talks):
        return Check("discovery", "OK", "this machine alone")
    if peers(os.environ) and is_over_udp(talks) and found == "SYSTEM_DEFAULT":
        known = f"this machine and {', '.join(peers(os.environ))}, on the interface of {this_host(os.environ)}"
        return Check(
            "discovery", "WARN", known, "nobody is authenticated: keep others out by a firewall, docs/security.md"
        )
    return Check(
        "discovery",
        "WARN",
        found,
        "everybody on this network can command the graph; see docs/security.md, or set LOCALHOST",
    )


def clock() -> Check:
    """The monotonic clock is fine and fast, the system clock plausible and synchronised."""
    info = time.get_clock_info("monotonic")
    source = _read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    found = f"{source or 'unknown source'}, resolution {info.resolution:g} s"
    if not info.monotonic or info.resolution > 1e-4:
        return Check("clock", "FAIL", found, "the monotonic clock is too coarse for 10 Hz control; use another machine")
    if time.gmtime().tm_year < 2025:
        return Check(
            "clock",
            "FAIL",
            f"{found}; the system clock says {time.ctime()}",
            "set the clock (timedatectl set-ntp true)",
        )
    if source in ("hpet", "acpi_pm", "jiffies"):
        return Check(
            "clock",
            "WARN",
            found,
            "slow clock source: clocksource=tsc on the kernel's command line, if it is stable",
        )
    synchronised = _synchronised()
    if synchronised is None:
        return Check("clock", "OK", f"{found}; synchronisation unknown")
    if not synchronised:
        return Check(
            "clock",
            "WARN",
            f"{found}; not synchronised by NTP",
            "not needed on one host; with two hosts install chrony on both (apt-get install chrony)",
        )
    return Check("clock", "OK", f"{found}; synchronised")


def _synchronised() -> bool | None:
    """The kernel's word on NTP; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def disk(folder: Path) -> Check:
    """Free space where runs are written."""
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free at {existing}"
    if not os.access(existing, os.W_OK):
        return Check("disk", "FAIL", f"{existing} cannot be written", "give another --run-dir, or its owner's rights")
    if free < DISK_FAIL_BYTES:
        return Check("disk", "FAIL", found, f"free at least {DISK_FAIL_BYTES // GIB} GiB; old runs lie in runs/")
    if free < DISK_WARN_BYTES:
        return Check("disk", "WARN", found, f"a long run with cameras wants {DISK_WARN_BYTES // GIB} GiB")
    return Check("disk", "OK", found)


def transport() -> Check:
    """What Fast DDS sends over."""
    talks = {**os.environ, **dds_environment(os.environ)}
    found = ", ".join(f"{name}={talks[name]}" for name in (RANGE, TRANSPORTS, *PROFILES) if talks.get(name))
    if is_over_udp(talks):
        return Check("transport", "OK", "UDP")
    return Check(
        "transport",
        "WARN",
        found,
        "over shared memory a node that was killed and started again may stay deaf; unset these variables",
    )


def key(path: Path | None = None) -> Check:
    """The key that signs weights: there, the user's own, and nobody else's to read."""
    path = path or default_key_path()
    try:
        status = path.lstat()
    except FileNotFoundError:
        existing = next(folder for folder in path.parents if folder.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            fix = (
                "set INRIL_KEY to a path that you may write to, e.g. on the disk of the runs; a run makes the key there"
            )
            return Check("key", "FAIL", f"{path} is not there, and {existing} cannot be written", fix)
        return Check(
            "key",
            "WARN",
            f"{path} is not there",
            "it is made by the first run; two hosts need the same: copy it by hand",
        )
    except OSError as error:
        return Check("key", "FAIL", f"{path}: {error.strerror}", f"make it readable for you: ls -l {path.parent}")
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return Check("key", "FAIL", f"{path} is not a regular file", "replace it by a copy of the key file itself")
    if mode & 0o077:
        return Check(
            "key",
            "FAIL",
            f"{path} has mode {mode:o}",
            f"others may have read it: make a new one, then chmod 600 {path}",
        )
    if status.st_uid != os.getuid():
        return Check("key", "FAIL", f"{path} belongs to user id {status.st_uid}", f"chown {os.getuid()} {path}")
    if status.st_size < KEY_MIN_BYTES:
        return Check(
            "key",
            "FAIL",
            f"{path} has {status.st_size} bytes",
            f"a key has {KEY_MIN_BYTES}: remove it, a run makes a new one",
        )
    return Check("key", "OK", f"{path}, mode {mode:o}")


def graphics() -> Check:
    """Render one small image off screen, in a process of its own: OpenGL drivers crash rather than raise."""
    environment = {"MUJOCO_GL": "egl", **os.environ}
    kind = environment["MUJOCO_GL"]
    fix = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri; only cameras and videos need it"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RENDER],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RENDER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Check("graphics", "FAIL", f"{kind}: no image within {RENDER_TIMEOUT_S:.0f} s", fix)
    if done.returncode == 0:
        return Check("graphics", "OK", f"{kind}: an image was rendered")
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    return Check("graphics", "FAIL", f"{kind}: {lines[-1][:120]}", fix)


def usb() -> Check:
    """libusb, which camera drivers load."""
    if ctypes.util.find_library("usb-1.0"):
        return Check("libusb", "OK", "found")
    return Check("libusb", "WARN", "not found", "apt-get install libusb-1.0-0; only real cameras need it")


def processors() -> Check:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0))
    found = f"{count} cores, load {os.getloadavg()[0]:.1f}"
    if count < 2:
        return Check("processors", "WARN", found, "learner and control share one core: run the learner on another host")
    return Check("processors", "OK", found)


def realtime() -> Check:
    """Whether the nodes of the tick may run first and lock their memory."""
    refusal = permitted()
    if refusal:
        return Check("realtime", "OK", f"{refusal}: realtime:=true would change nothing", f"if wanted: {LIMITS}")
    return Check("realtime", "OK", "realtime:=true may use SCHED_FIFO and lock memory")


def driven_by_hand(words: Sequence[str], run_dir: Path, namespace: str = "") -> list[Check]:
    """Whether a graph may start as far as `inril teleop-check` goes; without one, the checks that are stored."""
    now = datetime.now(UTC)
    if not words:
        files = sorted(CALIBRATION.glob(f"{PREFIX}*.yaml"))
        nothing = Check(
            "teleop-check", "OK", f"none in {CALIBRATION}/: a run on a real arm needs one (inril teleop-check)"
        )
        return [_stored(path, now) for path in files] or [nothing]
    given = ({"namespace": namespace} if namespace else {}) | {"run_dir": str(run_dir)}
    try:
        graph = load_graph(words[0]).resolve(given | parse_values(words[1:]))
        contract, arm = load_contract(str(graph.arguments["contract"])), arm_to_be_checked(graph)
        require_check(graph, contract)
    except ConfigError as error:
        return [Check("teleop-check", "FAIL", str(error), "give what `inril up` and `inril teleop-check` take")]
    if arm is None:
        return [Check("teleop-check", "OK", f"graph {graph.name} has no real arm and needs none")]
    name = check_name(arm, contract.task)
    if name in overridden(graph):
        return [Check("teleop-check", "WARN", f"{name} is overridden", "drive the arm by hand: inril teleop-check")]
    return [Check("teleop-check", "OK", f"{name}: passed lately")]


def _stored(path: Path, now: datetime) -> Check:
    fix = "inril teleop-check with the graph and arguments of the run"
    try:
        check = read_check(path)
    except ConfigError as error:
        return Check("teleop-check", "WARN", str(error), fix)
    if wrong := too_old(check, now) or "; ".join(check.reasons):
        return Check("teleop-check", "WARN", f"{check.name}: {wrong}", fix)
    return Check("teleop-check", "OK", f"{check.name}: passed on {check.created.date()} with {check.device}")


def run_checks(
    run_dir: Path,
    offer: Callable[[Check], None] = lambda check: None,
    namespace: str = "",
    words: Sequence[str] = (),
) -> list[Check]:
    """All checks in order, of a graph with its arguments where `words` name one; a check that breaks is a FAIL.

    offer: is given each one as soon as it is known.
    """
    checks: list[tuple[str, Callable[[], Check | list[Check]]]] = [
        ("python", python),
        ("packages", packages),
        ("dds", partial(dds, namespace)),
        ("transport", transport),
        ("clock", clock),
        ("processors", processors),
        ("realtime", realtime),
        ("disk", partial(disk, run_dir.expanduser().absolute())),
        ("key", key),
        ("graphics", graphics),
        ("libusb", usb),
        ("teleop-check", partial(driven_by_hand, words, run_dir, namespace)),
    ]
    results: list[Check] = []
    for name, check in checks:
        try:
            found = check()
        except Exception as error:
            fix = "report this with the message: the check itself failed, and says nothing about the machine"
            found = Check(name, "FAIL", f"{type(error).__name__}: {error}", fix)
        for result in found if isinstance(found, list) else [found]:
            results.append(result)
            offer(result)
    return results


def line(check: Check) -> str:
    """A line of the table, and the fix below it."""
    text = f"{check.level:<4}  {check.name:<13}  {check.found}"
    return f"{text}\n{'':21}fix: {check.fix}" if check.fix else text


def as_dict(checks: list[Check]) -> dict[str, Any]:
    """For `--json`."""
    worst = max((check.level for check in checks), key=["OK", "WARN", "FAIL"].index, default="OK")
    return {"result": worst, "checks": [vars(check) for check in checks]}
