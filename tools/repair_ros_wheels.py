"""Point the CMake files of the ROS 2 wheels at this interpreter. Safe to run again.

The wheels export CMake targets with the include and library folders of the machine that built
them; `colcon build` of an interface package fails on those paths.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

INCLUDE = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/include/python3\.\d+t?")
SITE_PACKAGES = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/lib/python3\.\d+t?/site-packages")


def repair(prefix: Path) -> int:
    """Rewrite the stale paths below `prefix`/share and return how many files changed."""
    include = sysconfig.get_paths()["include"]
    site_packages = sysconfig.get_paths()["purelib"]
    changed = 0
    for path in sorted((prefix / "share").rglob("*.cmake")):
        text = path.read_text()
        fixed = SITE_PACKAGES.sub(site_packages, INCLUDE.sub(include, text))
        if fixed != text:
            path.write_text(fixed)
            changed += 1
    return changed


if __name__ == "__main__":
    if sys.prefix == sys.base_prefix:
        sys.exit("run this with the virtual environment's python: .venv/bin/python tools/repair_ros_wheels.py")
    print(f"repaired {repair(Path(sys.prefix))} CMake files")
