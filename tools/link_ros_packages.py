"""Make the Python packages of ros2_ws importable from the virtual environment. Safe to run again.

colcon's own way is to source a setup file in every shell. A .pth file makes `.venv/bin/python -m
inril_control.arbiter_node` and `.venv/bin/inril` work from anywhere, without sourcing anything.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path


def link(source: Path, site_packages: Path) -> list[str]:
    """Write the .pth file and return the package folders it names."""
    folders = sorted(str(path.parent) for path in source.glob("*/setup.py"))
    # colcon leaves each package's metadata there, which its scripts in lib/ look up
    folders += [str(source.parent / "build" / Path(folder).name) for folder in folders]
    (site_packages / "inril_ros_packages.pth").write_text("".join(f"{folder}\n" for folder in folders))
    return folders


if __name__ == "__main__":
    if sys.prefix == sys.base_prefix:
        sys.exit("run this with the virtual environment's python: .venv/bin/python tools/link_ros_packages.py")
    link(Path(__file__).resolve().parents[1] / "ros2_ws" / "src", Path(sysconfig.get_paths()["purelib"]))
