"""Pins: a table of where a step goes that puts the simulator's physics and a node's messages in one row."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from inril_common.sampling import _what

EXECUTOR = "/src/inril_common/executor.py"
NODE = "/src/inril_hardware/sim_cell.py"


def inside(*calls: tuple[str, str]) -> FrameType:
    """The frame of the last of nested calls, each a function of a file, outermost first."""
    where: dict[str, Any] = {"inner": sys._getframe}
    for path, function in reversed(calls):
        source = f"def {function}(inner=inner):\n    return inner()"
        exec(compile(source, path, "exec"), where)  # only compiled code has a file of its own
        where["inner"] = where[function]
    found = where["inner"]()
    assert isinstance(found, FrameType)
    return found


@pytest.mark.parametrize(
    ("calls", "what"),
    [
        (
            ((NODE, "_on_target"), ("/inril_core/sim/cell.py", "step"), ("/inril_core/sim/arm_physics.py", "advance")),
            "sim_cell._on_target: arm_physics",
        ),
        (((NODE, "_on_target"), ("/numpy/numeric.py", "cross")), "sim_cell._on_target"),
        (((NODE, "_on_target"), ("/rclpy/publisher.py", "publish")), "publishing"),
        (((NODE, "_on_target"), (NODE, "_publish"), ("/messages/_pose.py", "x")), "sim_cell._on_target"),
        ((("/src/inril_common/wait_set.py", "wait"),), "wait set"),
    ],
)
def test_time_counts_for_the_part_of_the_node_that_takes_it(calls: tuple[tuple[str, str], ...], what: str) -> None:
    assert _what(inside((EXECUTOR, "spin_once"), *calls)) == what
