"""Contracts with the limits of the guard, for the tests."""

from __future__ import annotations

from typing import Any

from inril_core.contract import Contract, load_contract

SPACE: dict[str, Any] = {
    "tool_radius_m": 0.03,
    "floor_m": 0.0,
    "keep_in": [
        {
            "name": "cell",
            "corners_m": [[0.3, -0.3, -0.1], [0.7, -0.3, -0.1], [0.7, 0.3, -0.1], [0.3, 0.3, -0.1], [0.5, 0.0, 0.8]],
        }
    ],
    "keep_out": [
        {"name": "post", "center_m": [0.55, 0.0, 0.1], "size_m": [0.05, 0.05, 0.2], "quat_xyzw": [0, 0, 0.6, 0.8]}
    ],
}
MOTION: dict[str, Any] = {
    "max_speed_mps": 0.12,
    "max_turn_radps": 0.8,
    "max_acceleration_mps2": 0.3,
    "max_turn_acceleration_radps2": 3.0,
}
JOINTS: dict[str, Any] = {"urdf": "", "position_margin_rad": 0.1, "speed_share": 0.1, "min_manipulability": 0.05}


def limited(task: str = "insert_leg", action: dict[str, Any] | None = None, **limits: Any) -> Contract:
    """A packaged contract with other limits."""
    whole = load_contract(task).model_dump(mode="json")
    whole["limits"].update(limits)
    whole["action"].update(action or {})
    return Contract.model_validate(whole)
