"""Gymnasium environments as tasks: Hopper, Walker2d and HalfCheetah with goals of ours, any other by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inril_core.contract import SimpleInterface
from inril_core.errors import ConfigError, missing_package
from inril_core.experts.trained import PolicyExpert, expert_path, trained_expert
from inril_core.tasks.base import TaskStep, executed_action
from inril_core.vocabulary import Purpose

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True)
class Locomotion:
    """How far a runner should come; distances in m along x, measured from where its torso was reset.

    Both are our choice: the published domains are not known.
    """

    goal_m: float
    """Success is to have been so far ahead at any time of the episode."""
    mark_m: float
    """Of the sparse variant, which pays 1 for each further mark passed and nothing else."""


# A goal is about half of what a good runner covers in its 8 s (HalfCheetah: 50 s), so that it takes a real gait;
# falling forward, which an untrained policy does, ends before the first mark.
LOCOMOTION = {
    "Hopper-v5": Locomotion(goal_m=8.0, mark_m=1.0),
    "Walker2d-v5": Locomotion(goal_m=8.0, mark_m=1.0),
    "HalfCheetah-v5": Locomotion(goal_m=100.0, mark_m=5.0),
}


def make(rest: str) -> GymnasiumTask:
    """The task ``gym:NAME`` or ``gym:NAME:sparse``, from what follows ``gym:``.

    Raises:
        ConfigError: see `GymnasiumTask`.
    """
    name, _, variant = rest.rpartition(":")
    return GymnasiumTask(name, sparse=True) if name and variant == "sparse" else GymnasiumTask(rest)


class GymnasiumTask:
    """One Gymnasium environment: Box observation, flattened, and Box action, scaled from [-1, 1] to its bounds.

    The reward is the environment's own, or the sparse one of `Locomotion`; both leave the physics and when an episode
    ends as they are. Falling terminates; the time limit truncates, whatever else its environment calls it.
    Success: of a runner, see `Locomotion`, the same rule for both rewards; of others, ``success`` or ``is_success`` in
    the environment's info, else a return of at least its registered ``reward_threshold``, else never.

    Args:
        name: as registered with Gymnasium.
        sparse: pay for marks passed instead.

    Raises:
        ConfigError: Gymnasium is not installed or does not know the name, or its spaces or length do not fit.
    """

    success_ends = False

    def __init__(self, name: str, sparse: bool = False) -> None:
        if sparse and name not in LOCOMOTION:
            raise ConfigError(f"task gym:{name}:sparse: the sparse variant is defined for {', '.join(LOCOMOTION)}")
        self.name, self.sparse = name, sparse
        self._env = _make_environment(name)
        self._locomotion = LOCOMOTION.get(name)
        self._length_steps = _length_steps(self._env, name)
        observation_size = _box_size(self._env.observation_space, name, "observation", bounded=False)
        action_size = _box_size(self._env.action_space, name, "action", bounded=True)
        space: Any = self._env.action_space
        self._low = space.low.astype(np.float64).reshape(-1)
        self._high = space.high.astype(np.float64).reshape(-1)
        self._action_shape, self._action_type = space.shape, space.dtype
        facts = {
            "environment": name,
            "reward": "sparse" if sparse else "native",
            "action_low": self._low.tolist(),
            "action_high": self._high.tolist(),
            "mark_m": self._locomotion.mark_m if sparse and self._locomotion else None,
        }
        self._interface = SimpleInterface(f"gym:{name}{':sparse' * sparse}", observation_size, action_size, facts)
        self._threshold = self._env.spec.reward_threshold if self._env.spec is not None else None
        self._ended = True
        self._farthest_m = 0.0
        self._observation = np.zeros(observation_size, np.float32)

    @property
    def interface(self) -> SimpleInterface:
        """Sizes and digests; the two rewards differ in theirs, as demonstrations carry rewards."""
        return self._interface

    @property
    def episode_length_steps(self) -> int:
        """The environment's registered time limit."""
        return self._length_steps

    @property
    def distance_m(self) -> float:
        """Farthest that a runner has been ahead of its start in this episode; 0 for other environments."""
        return self._farthest_m

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """See `Task`. The same seed starts differently for each purpose: evaluation repeats no training start.

        Raises:
            ValueError: unknown purpose or negative seed.
            ConfigError: the environment does not answer as Gymnasium defines.
        """
        state = np.random.SeedSequence((seed, Purpose.of(purpose) - Purpose.DEMO)).generate_state(1)
        observation, info = _answer(
            lambda: self._env.reset(seed=int(state[0])), self.name, "reset", ("observation", "info")
        )
        self._ended, self._steps, self._return, self._succeeded = False, 0, 0.0, False
        start_m = _number(info.get("x_position", 0.0), self.name, "info['x_position']")
        self._start_m, self._farthest_m, self._marks = start_m, 0.0, 0
        self._observation = self._flat(observation)
        return self._observation.copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """See `Task`. An environment whose state is no longer finite terminates, at its last finite observation.

        Raises:
            ConfigError: the environment does not answer as Gymnasium defines.
        """
        executed, limits = executed_action(action, self._interface.action_size, self._ended)
        scaled = self._low + 0.5 * (executed + 1.0) * (self._high - self._low)
        native = scaled.clip(self._low, self._high).reshape(self._action_shape).astype(self._action_type)
        parts = ("observation", "reward", "terminated", "truncated", "info")
        observation, given_reward, terminated, cut, info = _answer(
            lambda: self._env.step(native), self.name, "step", parts
        )
        native_reward = _number(given_reward, self.name, "reward")
        ended = bool(_number(terminated, self.name, "terminated"))
        cut = bool(_number(cut, self.name, "truncated"))
        self._steps += 1
        flat = self._flat(observation)
        finite = bool(np.isfinite(flat).all()) and math.isfinite(native_reward)
        reward = self._account(native_reward, info) if finite else 0.0
        if finite:
            self._observation = flat
        terminated = ended or not finite
        truncated = not terminated and (cut or self._steps >= self._length_steps)
        self._ended = terminated or truncated
        reason = "" if not self._ended else "episode_length" if truncated else "terminated" if finite else "not_finite"
        outcome = TaskStep(
            executed.astype(np.float32), limits, self._succeeded, terminated, truncated, reason, float(reward)
        )
        return self._observation.copy(), outcome

    def expert(self) -> PolicyExpert:
        """A policy trained by `inril_core.experts.train`; the sparse variant has the same.

        Raises:
            ConfigError: none is packaged for this environment; the message says how to train one.
        """
        return trained_expert(expert_path(self.name), self.name, self._interface)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _account(self, native_reward: float, info: dict[str, Any]) -> float:
        """Take in what came of a step; its reward."""
        self._return += native_reward
        if self._locomotion is None:
            told = info.get("success", info.get("is_success"))
            enough = self._threshold is not None and self._return >= self._threshold
            self._succeeded = enough if told is None else bool(_number(told, self.name, "success in info"))
            return native_reward
        ahead_m = _number(info.get("x_position"), self.name, "info['x_position']") - self._start_m
        self._farthest_m = max(self._farthest_m, ahead_m)
        self._succeeded = self._farthest_m >= self._locomotion.goal_m
        passed, self._marks = self._marks, int(self._farthest_m / self._locomotion.mark_m)
        return float(self._marks - passed) if self.sparse else native_reward

    def _flat(self, observation: Any) -> np.ndarray:
        try:
            flat = np.asarray(observation, np.float32).reshape(-1)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"task gym:{self.name}: an observation is no array of numbers ({error})") from error
        if len(flat) != self._interface.observation_size:
            raise ConfigError(
                f"task gym:{self.name}: an observation of {len(flat)} numbers, its observation space has "
                f"{self._interface.observation_size}; correct the environment's observation_space"
            )
        return flat


def _answer(ask: Callable[[], Any], name: str, call: str, parts: tuple[str, ...]) -> tuple[Any, ...]:
    """What ``reset`` or ``step`` gives, if it has the parts that Gymnasium defines.

    Raises:
        ConfigError: it has others, as environments of the older gym have, or the environment stumbles over them itself.
    """
    try:
        given = ask()
    except (TypeError, ValueError, AssertionError) as error:  # its wrappers take the answer apart before us
        found = f"fails ({type(error).__name__}: {error})"
    else:
        if isinstance(given, tuple) and len(given) == len(parts) and isinstance(given[-1], Mapping):
            return given
        found = f"gives {len(given)} values" if isinstance(given, tuple) else f"gives a {type(given).__name__}"
    raise ConfigError(
        f"task gym:{name}: {call} {found}; it must give ({', '.join(parts)}): bring the environment to Gymnasium's "
        "interface, for one of the older gym with the package shimmy"
    )


def _number(value: Any, name: str, what: str) -> float:
    """One number, or one truth value.

    Raises:
        ConfigError: it is an array of several, or none at all.
    """
    try:
        if np.ndim(value) == 0 and not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    shown = f"an array {list(np.shape(value))}" if np.ndim(value) else repr(value)
    raise ConfigError(f"task gym:{name}: {what} is {shown:.80}: must be one number; have the environment give one")


def _make_environment(name: str) -> gymnasium.Env[Any, Any]:
    try:
        import gymnasium
    except ImportError as error:
        raise missing_package(f"task gym:{name} needs Gymnasium", "gym", error) from error
    try:
        return gymnasium.make(name, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        raise ConfigError(
            f"task gym:{name}: Gymnasium cannot make it ({error}); names are those of gymnasium.registry"
        ) from error


def _length_steps(env: gymnasium.Env[Any, Any], name: str) -> int:
    limit = env.spec.max_episode_steps if env.spec is not None else None
    if limit is None:
        raise ConfigError(f"task gym:{name}: it has no time limit; register it with max_episode_steps")
    return int(limit)


def _box_size(space: Any, name: str, what: str, bounded: bool) -> int:
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(f"task gym:{name}: its {what} space is {space}; only a Box of real numbers fits")
    if bounded and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ConfigError(f"task gym:{name}: its {what} space is not bounded, so [-1, 1] cannot be scaled to it")
    return int(np.prod(space.shape))
