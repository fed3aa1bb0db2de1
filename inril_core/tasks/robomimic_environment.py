"""What a robomimic file says of the environment it was recorded in, compared field by field with the task's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import ConfigError
from inril_core.tasks.families.robosuite import CONTROL_RATE_HZ, SPECS

_ROBOSUITE_TYPE = 1
_MOST = [0.05] * 3 + [0.5] * 3
_OSC_POSE: dict[str, Any] = {
    "input_max": 1.0,
    "input_min": -1.0,
    "output_max": _MOST,
    "output_min": [-value for value in _MOST],
    "kp": 150.0,
    "damping": 1.0,
    "damping_ratio": 1.0,
    "impedance_mode": "fixed",
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_ori": True,
    "control_delta": True,
    "input_type": "delta",
    "goal_update_mode": "achieved",
    "interpolation": None,
    "policy_freq": CONTROL_RATE_HZ,
}
"""Fields of robosuite's operational-space controller and what the task needs of each. What is absent has this value in
robosuite too (the defaults of its constructor); a list is per axis, a number is for all six."""
_WITHOUT_MEANING = {"kp_limits", "damping_limits", "damping_ratio_limits", "ramp_ratio"}
"""Fields that do nothing while impedance is fixed and nothing is interpolated."""
_VERSION = re.compile(r"1\.([0-9]{1,3})")
_SCENE = {"gripper_types": ("default", "PandaGripper"), "base_types": ("default",), "mount_types": ("default",)}
_HOW_IT_IS_SHOWN = re.compile(r"(has_|use_|camera_|render).*|ignore_done|horizon|hard_reset|lite_physics|seed")
"""Fields of the environment that change neither an observation's nor an action's meaning."""


@dataclass(frozen=True)
class Recorded:
    """What of the environment is needed to understand its rewards."""

    success_reward: float | None
    """Least reward of a success: robosuite's sparse reward of these tasks, and the upper end of their dense one. None
    where the file says that rewards were not brought to a scale."""


def check_environment(text: str, name: str, path: Path | str) -> Recorded:
    """Compare ``env_args`` with the task ``robosuite:NAME``; an absent field counts as robosuite's default.

    Raises:
        ConfigError: a field that decides what the numbers mean has another value, or is not known here.
    """
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: env_args is not JSON ({error}); extract the file again") from error
    settings = arguments.get("env_kwargs", {}) if isinstance(arguments, dict) else None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: env_args holds no env_kwargs; extract the file again")

    def need(field: str, found: Any, allowed: tuple[Any, ...]) -> None:
        if not any(_same(found, value) for value in allowed):
            raise ConfigError(f"{path}: {field} = {found!r:.200}: robosuite:{name} needs {_or(allowed)}")

    spec = SPECS[name]
    version = arguments.get("env_version")
    need("env_name", arguments.get("env_name"), (spec.environment,))
    need("type", arguments.get("type", _ROBOSUITE_TYPE), (_ROBOSUITE_TYPE,))
    if version is not None and not _VERSION.match(str(version)):
        raise ConfigError(f"{path}: env_version = {version!r:.40}: files of robosuite 1 are read")
    robots = settings.get("robots")
    need("robots", [robots] if isinstance(robots, str) else robots, (["Panda"] * spec.robots,))
    need("control_freq", settings.get("control_freq", CONTROL_RATE_HZ), (CONTROL_RATE_HZ,))
    for field, allowed in _SCENE.items():
        given = settings.get(field, "default")
        for value in given if isinstance(given, list) else [given]:
            need(field, value, allowed)
    opposed = ("default", "single-arm-opposed", "opposed") if spec.robots > 1 else ("default",)
    need("env_configuration", settings.get("env_configuration", "default"), opposed)
    need("reward_shaping", settings.get("reward_shaping", False), (False, True))
    known = {"robots", "control_freq", "env_configuration", "reward_shaping", "reward_scale", "controller_configs"}
    _refuse_unknown("env_kwargs", settings.keys() - known - _SCENE.keys(), path, _HOW_IT_IS_SHOWN)
    for arm in _arms(settings.get("controller_configs"), spec.robots, path):
        _check_arm(arm, spec.robots, _frame(arm, settings, version), need, path)
    scale = settings.get("reward_scale", 1.0)
    if scale is not None and not (_is_number(scale) and 0.0 < scale < np.inf):
        raise ConfigError(f"{path}: reward_scale = {scale!r:.60}: must be a number above 0, or null")
    return Recorded(None if scale is None else float(scale))


def _arms(given: Any, robots: int, path: Path | str) -> list[dict[str, Any]]:
    """The controller of each arm, from robosuite's single ones (to 1.4) or composite ones (from 1.5)."""
    if given is None:
        raise ConfigError(
            f"{path}: controller_configs is absent, and which controller that means differs between robosuite's "
            "versions; give a file that says it"
        )
    configs = given if isinstance(given, list) else [given] * robots
    arms = []
    for config in configs:
        if isinstance(config, dict) and "body_parts" in config:
            if config.get("type") != "BASIC":
                raise ConfigError(f"{path}: controller_configs.type = {config.get('type')!r:.60}: must be 'BASIC'")
            parts = config["body_parts"]
            parts = parts.get("arms", parts) if isinstance(parts, dict) else {}
            config = parts.get("right") if isinstance(parts, dict) else None
        if not isinstance(config, dict) or config.get("type") != "OSC_POSE":
            kind = config.get("type") if isinstance(config, dict) else config
            raise ConfigError(f"{path}: an arm's controller is {kind!r:.60}: must be 'OSC_POSE'")
        arms.append(config)
    if len(arms) != robots:
        raise ConfigError(f"{path}: controller_configs is for {len(arms)} robots, the task has {robots}")
    return arms


def _frame(arm: Mapping[str, Any], settings: Mapping[str, Any], version: Any) -> Any:
    """The axes of the actions: the world's up to robosuite 1.4, and then what the controller says, else the base's."""
    if "input_ref_frame" in arm:
        return arm["input_ref_frame"]
    if version is not None and (found := _VERSION.match(str(version))):
        return "base" if int(found[1]) >= 5 else "world"
    configs = settings.get("controller_configs")
    first = configs[0] if isinstance(configs, list) else configs
    return "base" if isinstance(first, dict) and "body_parts" in first else "world"


def _check_arm(arm: Mapping[str, Any], robots: int, frame: Any, need: Any, path: Path | str) -> None:
    for field, value in _OSC_POSE.items():
        if field in arm:
            need(f"controller_configs.{field}", arm[field], (value,))
    # a single arm's base is not turned against the world; one of two opposite arms' is
    need("controller_configs.input_ref_frame", frame, ("world", "base") if robots == 1 else ("world",))
    gripper = arm.get("gripper", {"type": "GRIP"})
    need("controller_configs.gripper", gripper.get("type") if isinstance(gripper, dict) else gripper, ("GRIP",))
    known = {"type", "input_ref_frame", "gripper"} | _OSC_POSE.keys() | _WITHOUT_MEANING
    _refuse_unknown("controller_configs", arm.keys() - known, path)


def _refuse_unknown(where: str, names: set[str], path: Path | str, harmless: re.Pattern[str] | None = None) -> None:
    unknown = sorted(name for name in names if harmless is None or not harmless.fullmatch(name))
    if unknown:
        raise ConfigError(
            f"{path}: {where}.{unknown[0]}: what this field changes is not known here; extract the file without it"
        )


def _same(found: Any, wanted: Any) -> bool:
    """Equal in meaning: a number may stand for all six axes; true is no 1."""
    if isinstance(wanted, float) or (isinstance(wanted, list) and all(isinstance(v, float) for v in wanted)):
        given, needed = (v if isinstance(v, list) else [v] for v in (found, wanted))
        if not all(_is_number(v) for v in given) or len(given) not in (1, 6):
            return False
        return bool(np.allclose(np.broadcast_to(given, 6), np.broadcast_to(needed, 6), rtol=1e-6, atol=0.0))
    return type(found) is type(wanted) and bool(found == wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _or(allowed: tuple[Any, ...]) -> str:
    return " or ".join(repr(value) for value in allowed)
