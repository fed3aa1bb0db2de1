"""What came of each trial: the task's own word, the operator's, and which of them counts."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from inril_core.contract import Contract, contract_from_text
from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError
from inril_core.evaluation.records import find_episode
from inril_core.evaluation.session.folder import Label, SessionFolder
from inril_core.evaluation.session.plan import Trial
from inril_core.evaluation.statistics.comparison import Verdict
from inril_core.evaluation.statistics.sequential import SequentialComparison
from inril_core.files import write_atomically
from inril_core.outcome import CELL, EPISODE_LENGTH
from inril_core.session.ledger import EpisodeResult
from inril_core.session.trials import SAFETY_STOP

TRACES = "traces"


@dataclass(frozen=True)
class Trace:
    """Where the tool went in a trial."""

    tool_position_m: np.ndarray
    """float64[T + 1, 3], base frame."""
    qpos: np.ndarray | None
    """float64[T + 1, nq] of a simulated cell."""
    human_steps: int = 0
    """Steps of a person in a trial of a policy."""
    versions: frozenset[int] = frozenset()
    """Numbers of the weights that answered."""
    progress: float | None = None
    """How far it came at its best, in [0, 1], as the task's definition measures it; None: nobody can tell."""


@dataclass(frozen=True)
class TrialOutcome:
    """A trial that counts."""

    number: int
    """Its place in the plan, from 0."""
    trial: Trial
    result: EpisodeResult
    label: Label | None
    trace: Trace | str
    """A text: why there is none."""
    success: bool
    """What counts: the operator's word, else the task's; a person's help is failure where the plan says so."""

    @property
    def automatic(self) -> bool | None:
        """What the task itself said; None: it cannot tell."""
        return self.result.success if self.result.source in (CELL, EPISODE_LENGTH) else None

    @property
    def helped(self) -> bool:
        """A person took control."""
        return isinstance(self.trace, Trace) and self.trace.human_steps > 0

    @property
    def safety_stop(self) -> bool:
        """The arm's safety ended it."""
        return self.result.reason.startswith(SAFETY_STOP)

    @property
    def tag(self) -> str:
        """Why it failed: the operator's tag, else what the task or the safety said."""
        if self.label is not None and self.label.tag:
            return self.label.tag
        if self.safety_stop:
            return SAFETY_STOP
        if self.helped:
            return "a person helped"
        if self.result.source == EPISODE_LENGTH:
            return "time limit"
        if self.label is not None and self.automatic is not False:
            return "no tag given"  # only a person says that it failed
        return self.result.reason or "no reason given"

    @property
    def progress(self) -> float | None:
        """How far it came, in [0, 1]; a success came all the way."""
        return 1.0 if self.success else self.trace.progress if isinstance(self.trace, Trace) else None

    def phase(self, length_steps: int) -> str:
        """In which part of the time that an episode has it ended."""
        if self.result.source == EPISODE_LENGTH:
            return "at the limit"
        part = min(3, 4 * max(self.result.steps - 1, 0) // max(length_steps, 1))
        return ("first quarter", "second quarter", "third quarter", "last quarter")[part]


def read_outcomes(folder: SessionFolder, traces: bool = True) -> list[TrialOutcome]:
    """The trials that count, in the order of the plan.

    Args:
        traces: whether recordings are opened; without, help by a person is not seen.
    """
    labels, outcomes = folder.labels, []
    for number, result in sorted(folder.done.items()):
        if number >= len(folder.plan.trials):
            continue
        trial = folder.plan.trials[number]
        expert = folder.sealed.subjects[trial.code].kind == "expert"
        trace = read_trace(folder.root, result.episode_id, expert) if traces else "not read"
        label = labels.get(result.episode_id)
        success = result.success if label is None else bool(label.success)
        helped = isinstance(trace, Trace) and trace.human_steps > 0
        if helped and folder.plan.on_intervention == "failure":
            success = False
        outcomes.append(TrialOutcome(number, trial, result, label, trace, success))
    return outcomes


def pairs_with(outcomes: Sequence[TrialOutcome], code: str, control: str) -> list[tuple[bool, bool]]:
    """(policy, control) on each start and repetition that both have run, in the order of the blocks."""
    found: dict[int, dict[str, bool]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.trial.block, {})[outcome.trial.code] = outcome.success
    return [(found[b][code], found[b][control]) for b in sorted(found) if {code, control} <= set(found[b])]


def decided(folder: SessionFolder, outcomes: Sequence[TrialOutcome]) -> bool:
    """Whether a sequential session may end: every comparison with the control is decided."""
    plan, control = folder.plan, folder.sealed.control
    others = [code for code in plan.codes if code != control]
    if not plan.sequential or not others:
        return False
    for code in others:
        comparison = SequentialComparison(plan.comparison_confidence, plan.question.difference)
        for pair in pairs_with(outcomes, code, control):
            comparison.add(*pair)
        if comparison.verdict is Verdict.CANNOT_TELL:
            return False
    return True


def finished(folder: SessionFolder) -> bool:
    """Whether nothing is left to run."""
    done = folder.done
    if all(number in done for number in range(len(folder.plan.trials))):
        return True
    return folder.plan.sequential and decided(folder, read_outcomes(folder))


def write_trace(root: Path, episode_id: str, trace: Trace) -> None:
    """Keep the way of a trial that no recorder has recorded.

    Raises:
        OSError: the disk is full or broken.
    """
    import io

    content = io.BytesIO()
    qpos = np.zeros((0, 0)) if trace.qpos is None else trace.qpos
    progress = [] if trace.progress is None else [trace.progress]
    np.savez_compressed(content, tool_position_m=trace.tool_position_m, qpos=qpos, progress=progress)
    (root / TRACES).mkdir(exist_ok=True)
    write_atomically(root / TRACES / f"{episode_id}.npz", content.getvalue())


def read_trace(root: Path, episode_id: str, expert: bool = False) -> Trace | str:
    """The way of a trial from its recording, or why it cannot be had."""
    path = root / TRACES / f"{episode_id}.npz"
    if path.is_file():
        try:
            return _read_kept(path)
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            return f"{path.name} is not readable ({error or type(error).__name__})"
    episode = find_episode(root, episode_id)
    if not isinstance(episode, Episode):
        return episode
    human = 0 if expert else int((episode.source == SOURCE_HUMAN).sum())
    versions = frozenset(int(n) for n in np.unique(episode.policy_n) if n >= 0)
    progress = progress_of(_contract(episode.contract_text), episode.observations)
    return Trace(episode.tool_pose[:, :3], episode.qpos, human, versions, progress)


def _read_kept(path: Path) -> Trace:
    with np.load(path, allow_pickle=False) as found:
        positions, qpos, progress = (found[name] for name in ("tool_position_m", "qpos", "progress"))
    numbers = (positions, qpos, progress)
    if any(array.dtype != np.float64 for array in numbers) or positions.ndim != 2 or positions.shape[1:] != (3,):
        raise ValueError(f"tool_position_m: {positions.dtype} {positions.shape}")
    if not len(positions) or qpos.ndim != 2 or not all(np.isfinite(array).all() for array in (positions, progress)):
        raise ValueError("no position, or one that is no number")
    return Trace(positions, qpos if qpos.size else None, progress=float(progress[0]) if progress.size else None)


def progress_of(interface: object, observations: np.ndarray) -> float | None:
    """How far an episode came at its best.

    Args:
        observations: its vectors ``[T + 1, D]``.
    """
    measure = interface.task_definition.progress if isinstance(interface, Contract) else None
    if measure is None:
        return None
    assert isinstance(interface, Contract)
    rows = observations.astype(np.float64)
    try:
        return float(np.max(measure({name: rows[:, place] for name, place in interface.slices().items()})))
    except KeyError:
        return None


@cache
def _contract(text: str) -> Contract | None:
    try:
        return contract_from_text(text)
    except ConfigError:
        return None
