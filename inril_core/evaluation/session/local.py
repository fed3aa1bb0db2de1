"""Trials in one process, without the graph: for studies in simulation, and for gates.

The ledger is the graph's own, so both kinds of session are resumed, reported and judged alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from inril_core.contract import Contract, Interface
from inril_core.control.measurement import BadMeasurement
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.outcomes import Trace, decided, progress_of, read_outcomes, write_trace
from inril_core.evaluation.session.plan import Trial
from inril_core.experts import Expert
from inril_core.finetune.local import Act, expert_actor, policy_actor, run_episode
from inril_core.policies import Policy, load_policy
from inril_core.policies.files import policy_sha256
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.session.trials import SAFETY_STOP
from inril_core.tasks import Task, TaskStep, make_task

UNKNOWN_STEPS = 0


class WrongWeights(ConfigError):
    """The weights that would act are not those of the plan."""


class Subjects:
    """Who acts for a code; weights are checked against the plan's digest before the first trial and before each.

    Messages name a file or a code, never both: its digest would tell which policy a code is.

    Raises:
        ConfigError: a file of weights is missing or damaged, or holds others.
    """

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder
        self._policies: dict[str, Policy] = {}
        self._expert: Expert | None = None
        weights = {c: s for c, s in folder.sealed.subjects.items() if s.kind == "weights"}
        for code, subject in sorted(weights.items(), key=lambda item: str(item[1].weights_sha256)):
            path = subject.file(folder.root)
            policy = load_policy(path)[0].eval()
            if policy_sha256(policy) != subject.weights_sha256:
                raise WrongWeights(f"{path}: holds other weights than its name says; restore it")
            self._policies[code] = policy

    def actor(self, trial: Trial, task: Task) -> Act:
        """The one that acts in a trial.

        Raises:
            WrongWeights: memory holds other weights than the plan names.
        """
        subject = self._folder.sealed.subjects[trial.code]
        if subject.kind == "expert":
            self._expert = task.expert() if self._expert is None else self._expert
            return expert_actor(self._expert, trial.seed, task.interface.action_size)
        policy = self._policies[trial.code]
        if policy_sha256(policy) != subject.weights_sha256:
            raise WrongWeights(f"policy {trial.code}: its weights changed since they were read; run it again")
        return policy_actor(policy, trial.seed, self._folder.plan.explore)


class _State(Protocol):
    tool_pose: np.ndarray
    """float64[7], m and xyzw, base frame."""
    qpos: np.ndarray


@runtime_checkable
class ShowsState(Protocol):
    """A task that shows where the tool of its simulated arm is."""

    @property
    def state(self) -> _State:
        """After the last reset or step."""


@dataclass
class Watched:
    """A task that notes where the tool goes, where it has one."""

    task: Task
    poses: list[np.ndarray] = field(default_factory=list)
    """Of the tool, m and xyzw, base frame: at the reset and after each step."""
    qpos: list[np.ndarray] = field(default_factory=list)

    @property
    def interface(self) -> Interface:
        """As the task's; the others too."""
        return self.task.interface

    @property
    def episode_length_steps(self) -> int:
        return self.task.episode_length_steps

    @property
    def success_ends(self) -> bool:
        return self.task.success_ends

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        row = self.task.reset(seed, purpose)
        self._look()
        return row

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        made = self.task.step(action)
        self._look()
        return made

    def expert(self) -> Expert:
        return self.task.expert()

    def close(self) -> None:
        self.task.close()

    def _look(self) -> None:
        if isinstance(self.task, ShowsState):
            state = self.task.state
            self.poses.append(np.array(state.tool_pose, np.float64))
            self.qpos.append(np.array(state.qpos, np.float64))

    def trace(self) -> Trace | None:
        """The way of the episode; None where the task shows none."""
        return Trace(np.array(self.poses)[:, :3], np.array(self.qpos)) if self.poses else None


def run_locally(folder: SessionFolder, say: Callable[[str], None] = print, task: Task | None = None) -> bool:
    """Run what is left of a session; whether it is finished. One process at a time may do so.

    A trial counts when its line in the ledger is on disk. One that was begun before and has none was interrupted: it is
    run again from the same start, and the interruption stays on record.

    Args:
        task: instead of the plan's.

    Raises:
        ConfigError: the task is another than planned, weights were exchanged, or the disk is full.
    """
    plan = folder.plan
    own = make_task(plan.task) if task is None else task
    try:
        if own.interface.interface_digest != plan.interface_digest:
            raise ConfigError(
                f"task = {plan.task!r}: its interface is not the one that was planned; restore the contract, or begin "
                "another session"
            )
        if own.interface.deployment_digest != plan.deployment_digest:
            folder.note_deviation(
                "limits, lengths or calibration of the contract changed", "seen when run", "inril", time.time()
            )
        subjects, ledger = Subjects(folder), Ledger(folder.paths.session)
        done = set(folder.done)
        for number, trial in enumerate(plan.trials):
            if number in done:
                continue
            if plan.sequential and _block_is_whole(folder, done) and decided(folder, read_outcomes(folder)):
                say(f"every comparison is decided after {len(done)} of {len(plan.trials)} trials")
                return True
            result = _run(folder, number, trial, subjects, own)
            ledger.append(result)
            done.add(number)
            say(f"trial {number + 1} of {len(plan.trials)} (policy {trial.code}): {result.steps} steps")
    except OSError as error:
        raise ConfigError(f"{folder.root}: {error.strerror or error}; free some space and run it again") from error
    finally:
        if task is None:
            own.close()
    return True


def _block_is_whole(folder: SessionFolder, done: set[int]) -> bool:
    return bool(done) and len(done) % len(folder.plan.codes) == 0


def _run(folder: SessionFolder, number: int, trial: Trial, subjects: Subjects, task: Task) -> EpisodeResult:
    plan = folder.plan
    act = subjects.actor(trial, task)
    attempt = sum(begun.trial == number for begun in folder.begun)
    episode_id = f"{plan.session_id}-t{number:05d}-{attempt}"
    began_s = time.time()
    folder.note_begun(number, episode_id, began_s)
    watched = Watched(task)
    stopped = ""
    episode: Episode | None = None
    try:
        episode = run_episode(watched, act, trial.seed, trial.purpose, plan.explore)
    except (ValueError, BadMeasurement) as error:  # an answer that no arm would be given
        stopped = f"{SAFETY_STOP}: {error}"[:200]
    trace = watched.trace()
    if trace is not None:
        if episode is not None:
            trace = replace(trace, progress=progress_of(task.interface, episode.observations))
        write_trace(folder.root, episode_id, trace)
    steps = max(len(watched.poses) - 1, UNKNOWN_STEPS) if episode is None else episode.steps
    rate_hz = task.interface.control_rate_hz if isinstance(task.interface, Contract) else 0.0
    return EpisodeResult(
        segment_index=0,
        segment=f"eval:{len(plan.trials)}:episodes",
        index=number,
        episode_id=episode_id,
        purpose="eval",
        seed=trial.seed,
        steps=steps,
        success=episode is not None and bool(episode.success),
        terminated=episode is None or episode.terminated,
        source="safety" if episode is None else episode.outcome_source,
        reason=stopped if episode is None else episode.outcome_reason,
        version_n=-1 if folder.sealed.subjects[trial.code].kind == "expert" else plan.version_n(trial.code),
        late_ticks=0,
        duration_s=steps / rate_hz if rate_hz else time.time() - began_s,
        ended_unix_s=time.time(),
        valid=True,
    )
