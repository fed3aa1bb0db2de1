"""Delay, friction and gains of an arm from recordings: its actions are replayed in the simulated cell, and the physics
are found with which the tool goes the same way.

The cost is the sum of squared distances between recorded and replayed paths of two points of the tool. It is stepped in
the delay, which is searched step by step, and smooth in the rest, which are fitted anew for each delay
(`scipy.optimize.least_squares`). Standard errors are
robust to errors that hang together within a recording (sandwich estimator, one cluster a recording; Liang & Zeger,
"Longitudinal data analysis using generalized linear models", Biometrika 73, 1986).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from inril_core.contract import Contract
from inril_core.contract.definitions.physics import Physics, PhysicsValues
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.sim.scenes.base import TIMESTEP_S
from inril_core.tasks.families.cell import CellEnv

Array = npt.NDArray[np.float64]

LEVER_M = 0.1
"""From the tool's origin to its second point, along the tool's x: so far a turn of 1 mrad counts 0.1 mm."""
START_TOLERANCE_M = 0.01
LONGEST_DELAY_S, DELAY_GRID_S = 0.2, 0.02
SMOOTH = {"joint_friction_nm": (0.0, 30.0, 0.5), "gain_scale": (0.3, 3.0, 0.05)}
"""Bounds and step of finite differences."""
Errors = Callable[[PhysicsValues], list[Array]]
FITTED = PhysicsValues._fields


@dataclass(frozen=True)
class Fit:
    """What recordings say of an arm."""

    values: PhysicsValues
    errors: PhysicsValues
    """Standard errors."""
    rms_before_m: float
    """Between recorded and replayed paths, with the physics that the contract has."""
    rms_m: float
    recordings_n: int
    steps_n: int

    def ranges(self, width: float = 2.0) -> Physics:
        """To randomise over: the estimates plus and minus so many standard errors."""
        bounds = {}
        for name in PhysicsValues._fields:
            value, half = getattr(self.values, name), width * getattr(self.errors, name)
            low = 0.0 if name != "gain_scale" else 0.2
            bounds[name] = (max(low, value - half), max(low, value + half))
        return Physics(**bounds)


class Replay:
    """Recordings that are run again in a simulated cell.

    Args:
        steps: of each recording, from its beginning. Best those before the first contact: what is touched adds errors
            of its own.

    Raises:
        ConfigError: a recording is of another interface or of a start that the simulated cell does not lay out, or
            there is none.
    """

    def __init__(self, contract: Contract, recordings: Sequence[Episode], steps: int = 40) -> None:
        if not recordings:
            raise ConfigError("no recording to replay: give the folder of a run that has recorded some episodes")
        blind = {**contract.model_dump(mode="json"), "images": ()}  # drawing takes longer than all the rest
        self._env, self._steps = CellEnv(Contract.model_validate(blind)), steps
        self._interface_digest = contract.interface_digest
        self._own = self._env.cell.arm.physics
        self._recordings = [(episode, self._purpose(episode)) for episode in recordings]
        self._recorded = [_points(episode.tool_pose[: self._length(episode) + 1]) for episode in recordings]

    @property
    def steps_n(self) -> int:
        """Steps that are replayed, of all recordings together."""
        return sum(self._length(episode) for episode, _ in self._recordings)

    def errors_m(self, values: PhysicsValues | None) -> list[Array]:
        """Recorded minus replayed points ``[6 T]``, m, by recording; None: with the contract's own physics."""
        found = []
        for (poses, _), recorded in zip(self._runs(values), self._recorded, strict=True):
            replayed = _points(poses)
            error = np.zeros_like(recorded)
            error[: len(replayed)] = recorded[: len(replayed)] - replayed
            found.append(error.ravel())
        return found

    def states(self, values: PhysicsValues | None) -> list[Array]:
        """The replayed cell's states ``[n, nq + 7 nmocap]`` at the first observations of each recording."""
        return [states for _, states in self._runs(values)]

    def _runs(self, values: PhysicsValues | None) -> Iterator[tuple[Array, Array]]:
        """The tool's poses ``[n, 7]`` and the cell's states of each recording."""
        self._env.cell.arm.physics = self._own if values is None else Physics.fixed(**values._asdict())
        for episode, purpose in self._recordings:
            self._env.reset(episode.seed, purpose)
            seen = [self._env.state]
            for action in episode.actions[: self._length(episode)]:
                _, made = self._env.step(action)
                seen.append(self._env.state)
                if made.ended:  # it ends elsewhere than the recording: the rest says nothing
                    break
            yield np.array([state.tool_pose for state in seen]), np.array([state.qpos for state in seen])

    def _length(self, episode: Episode) -> int:
        return min(self._steps, episode.steps)

    def _purpose(self, episode: Episode) -> str:
        """Whose starts it began from."""
        if episode.interface_digest != self._interface_digest:
            raise ConfigError(f"recording {episode.episode_id}: is of another interface; give its contract")
        distance_m = {}
        for purpose in ("eval", "demo"):
            self._env.reset(episode.seed, purpose)
            distance_m[purpose] = float(np.linalg.norm(self._env.state.tool_pose[:3] - episode.tool_pose[0, :3]))
        nearest = min(distance_m, key=lambda purpose: distance_m[purpose])
        if not distance_m[nearest] <= START_TOLERANCE_M:
            raise ConfigError(
                f"recording {episode.episode_id}: begins {1000 * distance_m[nearest]:.0f} mm from start {episode.seed} "
                f"of the simulated cell, more than {1000 * START_TOLERANCE_M:.0f}; leave it out, or lay the cell out "
                "as its seed says"
            )
        return nearest


def fit(replay: Replay, names: Sequence[str] = FITTED) -> Fit:
    """The physics with which the replay goes the way of the recordings.

    Args:
        names: what is fitted, of `PhysicsValues`; the others stay at its defaults.

    Raises:
        ConfigError: an unknown name, or none.
    """
    if not names or not set(names) <= set(FITTED):
        raise ConfigError(f"parameters {', '.join(names) or 'none'}: give some of {', '.join(FITTED)}")
    smooth = [name for name in SMOOTH if name in names]
    best = PhysicsValues()
    known: dict[PhysicsValues, list[Array]] = {}

    def errors(values: PhysicsValues) -> list[Array]:
        if values not in known:
            known[values] = replay.errors_m(values)
        return known[values]

    def cost(values: PhysicsValues) -> float:
        return float(sum(error @ error for error in errors(values)))

    if "action_delay_s" in names:
        grid_s = np.arange(0.0, LONGEST_DELAY_S + 1e-9, DELAY_GRID_S)
        best = min((best._replace(action_delay_s=float(delay_s)) for delay_s in grid_s), key=cost)
    best = _fit_smooth(best, smooth, errors)
    for step_s in (2 * TIMESTEP_S, -2 * TIMESTEP_S, TIMESTEP_S, -TIMESTEP_S) if "action_delay_s" in names else ():
        # friction, gain and delay all hold the arm back: they are told apart only if each delay has its own fit
        while 0.0 <= best.action_delay_s + step_s <= LONGEST_DELAY_S:
            moved = best._replace(action_delay_s=round(best.action_delay_s + step_s, 6))
            moved = _fit_smooth(moved, smooth, errors)
            if cost(moved) >= cost(best):
                break
            best = moved
    before = np.concatenate(replay.errors_m(None))
    return Fit(
        best,
        _standard_errors(best, names, errors),
        float(np.sqrt(np.mean(before**2))),
        float(np.sqrt(np.mean(np.concatenate(errors(best)) ** 2))),
        len(errors(best)),
        replay.steps_n,
    )


def _fit_smooth(start: PhysicsValues, names: list[str], errors: Errors) -> PhysicsValues:
    if not names:
        return start
    low, high, step = (np.array([SMOOTH[name][i] for name in names]) for i in range(3))

    def residuals(x: Array) -> Array:
        values = start._replace(**{name: float(v) for name, v in zip(names, x, strict=True)})
        return 1000.0 * np.concatenate(errors(values))

    def slopes(x: Array) -> Array:
        middle = residuals(x)
        ahead = [np.where(np.arange(len(x)) == i, np.minimum(x + step, high), x) for i in range(len(x))]
        return np.stack([(residuals(a) - middle) / (a - x)[i] for i, a in enumerate(ahead)], axis=1)

    x = np.clip([getattr(start, name) for name in names], low, high - step)
    found = least_squares(residuals, x, jac=slopes, bounds=(low, high), x_scale=10 * step, max_nfev=5, xtol=1e-3)
    return start._replace(**{name: float(v) for name, v in zip(names, found.x, strict=True)})


def _standard_errors(best: PhysicsValues, names: Sequence[str], errors: Errors) -> PhysicsValues:
    steps = {"action_delay_s": 2 * TIMESTEP_S, **{name: SMOOTH[name][2] for name in SMOOTH}}
    middle: list[Array] = errors(best)
    slopes = []
    for name in names:
        ahead: list[Array] = errors(best._replace(**{name: getattr(best, name) + steps[name]}))
        slopes.append([(a - m) / steps[name] for a, m in zip(ahead, middle, strict=True)])
    by_recording = [np.stack(of_one, axis=1) for of_one in zip(*slopes, strict=True)]
    bread = np.linalg.pinv(sum(jacobian.T @ jacobian for jacobian in by_recording))
    scores = np.stack([jacobian.T @ error for jacobian, error in zip(by_recording, middle, strict=True)])
    clusters_n = len(scores)
    meat = scores.T @ scores * (clusters_n / max(clusters_n - 1, 1))
    spread = np.sqrt(np.maximum(np.diag(bread @ meat @ bread), 0.0))
    return PhysicsValues(0.0, 0.0, 0.0)._replace(**{n: float(s) for n, s in zip(names, spread, strict=True)})


def _points(poses: Array) -> Array:
    """Ways ``[T, 6]`` of two points of the tool from where they began, m, base frame."""
    lever = Rotation.from_quat(poses[:, 3:]).apply([LEVER_M, 0.0, 0.0])
    points = np.hstack([poses[:, :3], poses[:, :3] + lever])
    return np.asarray(points - points[0])
