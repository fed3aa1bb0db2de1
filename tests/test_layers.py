"""Pins: the layers of the design. inril_core must stay usable without ROS, and light where a robot runs it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "inril_core").rglob("*.py"))
ROS = {
    "rclpy",
    "launch",
    "launch_ros",
    "ament_index_python",
    "inril_common",
    "inril_control",
    "inril_session",
}


def imported_roots(path: Path) -> set[str]:
    """Top-level names that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_no_ros(path: Path) -> None:
    names = imported_roots(path)
    assert not names & ROS
    assert not {name for name in names if name.endswith("_msgs")}


def test_robot_side_modules_do_not_load_torch() -> None:
    code = (
        "import sys, inril_core.contract, inril_core.control.observation, inril_core.safety.arbiter, "
        "inril_core.data.reader, inril_core.session.ledger; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_no_pickle_anywhere() -> None:
    for path in [*CORE, *sorted((ROOT / "ros2_ws" / "src").rglob("*.py"))]:
        assert "pickle" not in imported_roots(path), path
        assert "torch.load(" not in path.read_text(), path
