"""robosuite tasks: Lift, Can, Square and Transport, with the observation that robomimic's low-dim files hold."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from inril_core.contract import SimpleInterface
from inril_core.errors import ConfigError
from inril_core.experts.robosuite import SCRIPTS, ScriptedPicker
from inril_core.tasks.base import TaskStep, executed_action
from inril_core.transforms import quat_conjugate, quat_multiply, quat_rotate
from inril_core.vocabulary import Purpose

CONTROL_RATE_HZ = 20.0
Part = Callable[[dict[str, Any]], list[np.ndarray]]


@dataclass(frozen=True)
class Spec:
    """A task."""

    environment: str
    """Robosuite's name."""
    robots: int
    object_size: int
    """Length of the observation's part about objects."""
    object_part: Part
    length_steps: int
    """Of an episode. Only failures last so long; our choice, about five times what the scripted expert takes (robomimic
    evaluates 400, Transport 700)."""


def relative_pose(position: np.ndarray, quat: np.ndarray, tool: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Position and quaternion (xyzw, w >= 0) ``[7]`` of a body in the gripper's frame, all given in the world frame."""
    inverse = quat_conjugate(hand.tolist())
    x, y, z, w = quat_multiply(inverse, quat.tolist())
    sign = 1.0 if w >= 0.0 else -1.0
    moved = quat_rotate(inverse, (position - tool).tolist())
    return np.array([*moved, sign * x, sign * y, sign * z, sign * w])


def _to_eef(name: str) -> Part:
    """Pose of a body in the world, then in the gripper's frame, as robosuite up to 1.4 had it."""

    def part(seen: dict[str, Any]) -> list[np.ndarray]:
        position, quat = seen[f"{name}_pos"], seen[f"{name}_quat"]
        return [position, quat, relative_pose(position, quat, seen["robot0_eef_pos"], seen["robot0_eef_quat"])]

    return part


def _lift(seen: dict[str, Any]) -> list[np.ndarray]:
    # robosuite 1.5 turned this difference round; the files were recorded before
    return [seen["cube_pos"], seen["cube_quat"], seen["robot0_eef_pos"] - seen["cube_pos"]]


def _transport(seen: dict[str, Any]) -> list[np.ndarray]:
    poses = [seen[f"{name}_{kind}"] for name in ("payload", "trash", "lid_handle") for kind in ("pos", "quat")]
    ways = [seen[f"{way}"] for way in ("gripper0_to_payload", "gripper0_to_lid_handle")]
    ways += [seen[f"{way}"] for way in ("gripper1_to_payload", "gripper1_to_trash")]
    done = np.array([seen["payload_in_target_bin"], seen["trash_in_trash_bin"]], np.float64)
    return [*poses, seen["target_bin_pos"], seen["trash_bin_pos"], *ways, done]


SPECS = {
    "Lift": Spec("Lift", 1, 10, _lift, 150),
    "Can": Spec("PickPlaceCan", 1, 14, _to_eef("Can"), 400),
    "Square": Spec("NutAssemblySquare", 1, 14, _to_eef("SquareNut"), 400),
    "Transport": Spec("TwoArmTransport", 2, 41, _transport, 700),
}


def interface(name: str) -> SimpleInterface:
    """Sizes and digests of ``robosuite:NAME``; needs no robosuite.

    Raises:
        ConfigError: unknown name.
    """
    spec = _spec(name)
    facts = {
        "environment": spec.environment,
        "robots": ["Panda"] * spec.robots,
        "controller": "OSC_POSE delta, 0.05 m and 0.5 rad, world axes",
        "control_rate_hz": CONTROL_RATE_HZ,
        "observation": observation_keys(name),
    }
    return SimpleInterface(f"robosuite:{name}", 9 * spec.robots + spec.object_size, 7 * spec.robots, facts)


def observation_keys(name: str) -> list[str]:
    """What an observation is made of, in order, by the names that robomimic files give it."""
    arms = range(_spec(name).robots)
    parts = [f"robot{i}_{part}" for i in arms for part in ("eef_pos", "eef_quat", "gripper_qpos")]
    return [*parts, "object"]


def make(rest: str) -> RobosuiteTask:
    """The task ``robosuite:NAME``, from what follows ``robosuite:``.

    Raises:
        ConfigError: see `RobosuiteTask`.
    """
    return RobosuiteTask(rest)


class RobosuiteTask:
    """One robosuite environment with Panda arms, 20 Hz, without images.

    Observation: each arm's grip-site position (m), hand quaternion (xyzw) and finger positions (m), then the
    objects', all in the world frame and read after the step (robosuite's own observables lag behind by most of one).
    Action per arm: change of position (1: 0.05 m), rotation vector (1: 0.5 rad), gripper (1: close).
    Reward: robosuite's sparse one, 1 at success, which also terminates.

    Raises:
        ConfigError: unknown name, or robosuite is not installed or not one that fits.
    """

    success_ends = True

    def __init__(self, name: str) -> None:
        self.name, self._spec = name, _spec(name)
        self._interface = interface(name)
        self._env = _make_environment(self._spec)
        update = self._env._update_observables
        # Nobody sees what observables hold between control steps; reading them 25 times a step takes a third of it.
        self._env._update_observables = lambda force=False: update(force=True) if force else None
        if self._env.action_dim != self._interface.action_size:
            raise ConfigError(
                f"task robosuite:{name}: {self._env.action_dim} actions instead of {self._interface.action_size}; "
                "install robosuite 1.5.2"
            )
        self._ended = True

    @property
    def interface(self) -> SimpleInterface:
        """Sizes and digests."""
        return self._interface

    @property
    def episode_length_steps(self) -> int:
        """See `Spec`."""
        return self._spec.length_steps

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """See `Task`. The same seed starts differently for each purpose: evaluation repeats no training start.

        Raises:
            ValueError: unknown purpose or negative seed.
        """
        start = np.random.default_rng((seed, Purpose.of(purpose) - Purpose.DEMO))
        # its samplers and robots all hold this one generator
        self._env.rng.bit_generator.state = start.bit_generator.state
        self._ended, self._steps = False, 0
        return self._observe(self._env.reset())

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """See `Task`."""
        executed, limits = executed_action(action, self._interface.action_size, self._ended)
        _, reward, _, _ = self._env.step(executed)
        self._steps += 1
        success = bool(self._env._check_success())
        truncated = not success and self._steps >= self._spec.length_steps
        self._ended = success or truncated
        reason = "success" if success else "episode_length" if truncated else ""
        outcome = TaskStep(executed.astype(np.float32), limits, success, success, truncated, reason, float(reward))
        return self._observe(self._env._get_observations(force_update=True)), outcome

    def expert(self) -> ScriptedPicker:
        """The scripted picker of Lift, Can or Square.

        Raises:
            ConfigError: Transport has none.
        """
        if self.name not in SCRIPTS:
            raise ConfigError(
                f"robosuite:{self.name} has no scripted expert; give demonstrations of people: a robomimic low-dim "
                "HDF5 file, read by inril_core.tasks.robomimic"
            )
        return ScriptedPicker(SCRIPTS[self.name])

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observe(self, seen: dict[str, Any]) -> np.ndarray:
        parts = [seen[key] for key in observation_keys(self.name)[:-1]] + self._spec.object_part(seen)
        vector: np.ndarray = np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts])
        return vector.astype(np.float32)


def _spec(name: str) -> Spec:
    if name not in SPECS:
        raise ConfigError(f"task robosuite:{name}: must be one of {', '.join(f'robosuite:{key}' for key in SPECS)}")
    return SPECS[name]


def _make_environment(spec: Spec) -> Any:
    # its import warns of optional parts that nothing here uses
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    try:
        import robosuite
        from robosuite.controllers import load_composite_controller_config
    except ImportError as error:
        raise ConfigError(
            f"task robosuite:{spec.environment} needs robosuite ({error}); install it with `make extras`"
        ) from error
    controller = load_composite_controller_config(controller="BASIC", robot="Panda")
    for part in controller["body_parts"].values():
        if part.get("type") == "OSC_POSE":
            part["input_ref_frame"] = "world"  # an opposite arm's base is turned round; the files know only the world
    return robosuite.make(
        spec.environment,
        robots=["Panda"] * spec.robots,
        controller_configs=[controller] * spec.robots,
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=True,
        reward_shaping=False,
        control_freq=CONTROL_RATE_HZ,
        ignore_done=True,
        hard_reset=False,
        seed=0,  # of sizes drawn when it is built; `reset` seeds the rest
    )
