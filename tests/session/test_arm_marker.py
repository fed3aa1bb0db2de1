"""Pins: a second arming by a session that was started again."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from inril_session.arm_marker import armed_by_this_launch, note_armed


def test_arm_at_start_arms_once_per_launch(tmp_path: Path) -> None:
    marker = tmp_path / "armed_at_start"
    assert not armed_by_this_launch(marker)
    note_armed(marker)
    assert armed_by_this_launch(marker)
    marker.write_text(marker.read_text().replace("launch ", "launch 1"))
    assert not armed_by_this_launch(marker), "another launch may arm its own simulated cell"
