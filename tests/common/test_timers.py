"""Pins: a node that stands still for as long as somebody set the system clock back (rclpy issue 1490)."""

from __future__ import annotations

import ast
from pathlib import Path

NODES = sorted((Path(__file__).parents[2] / "ros2_ws" / "src").glob("inril_*/inril_*/**/*.py"))


def timers(source: str) -> list[ast.Call]:
    """Every call of a method named create_timer or create_rate."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in ("create_timer", "create_rate")]


def is_steady(call: ast.Call) -> bool:
    clock = next((word.value for word in call.keywords if word.arg == "clock"), None)
    return clock is not None and ("STEADY_TIME" in ast.unparse(clock) or ast.unparse(clock) == "steady")


def test_every_timer_of_every_node_is_steady() -> None:
    assert len(NODES) > 20
    wrong = [f"{path.name}:{call.lineno}" for path in NODES for call in timers(path.read_text()) if not is_steady(call)]
    assert not wrong, f"{wrong}: use self.steady_timer"


def test_a_timer_on_the_ros_clock_is_found() -> None:
    assert not is_steady(timers("node.create_timer(1.0, tick)")[0])
    assert not is_steady(timers("node.create_timer(1.0, tick, clock=node.get_clock())")[0])
