"""The folder of an evaluation session, and the notes in it that are only ever appended to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import with_config

from inril_core import vocabulary
from inril_core.errors import ConfigError
from inril_core.evaluation.session.plan import Plan, read_plan, read_unlocked, write_plan
from inril_core.evaluation.session.sealed import Sealed, read_sealed
from inril_core.files import append_line, lock_file, read_sound_lines, write_atomically
from inril_core.run import RunPaths
from inril_core.session.ledger import EpisodeResult, read_ledger

BEGUN, LABELS, DEVIATIONS, UNSEALED = "begun.jsonl", "labels.jsonl", "deviations.jsonl", "unsealed.jsonl"
LOCKED_PLANS = "plans"
_LOCK_WAIT_S = 1.0
"""A note is a line; the graph's session stands still while it waits to write one."""


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class Begun:
    """A trial that was begun; without a result it was interrupted."""

    trial: int
    """Its place in the plan, from 0."""
    episode_id: str
    plan_sha256: str
    begun_unix_s: float


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class Label:
    """What an operator says of an attempt at a trial. The newest word counts, if the attempt does; what the task itself
    said is kept beside it."""

    trial: int
    episode_id: str
    """Of the attempt: one that is done again has no label yet."""
    success: bool | None
    """None: earlier words are taken back, the task's counts."""
    tag: str
    """Of a failure; one of the plan's, or empty."""
    by: str
    unix_s: float


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class Deviation:
    """A change of the plan, or another departure from it."""

    what: str
    reason: str
    by: str
    unix_s: float
    trials_begun_n: int
    """When it happened."""


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class Unsealing:
    """The moment from which names are shown."""

    by: str
    unix_s: float
    trials_done_n: int
    trials_planned_n: int


class SessionFolder:
    """A session on disk.

    Raises:
        ConfigError: plan or secret are missing, damaged or changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.plan: Plan = read_plan(self.root)
        if not (self.root / LOCKED_PLANS / f"{self.plan.digest}.json").is_file():
            raise ConfigError(
                f"{self.paths.evaluation_plan}: was changed, and its digest with it; put back the digest that "
                f"{self.root / LOCKED_PLANS} has, and lock the change with `inril evaluate amend {self.root} --reason "
                "WHY`, which records it"
            )
        self.sealed: Sealed = read_sealed(self.root, self.plan)

    @property
    def paths(self) -> RunPaths:
        """It is a run's folder too: episodes, weights and ledger lie where those of every run do."""
        return RunPaths(self.root)

    @property
    def results(self) -> list[EpisodeResult]:
        """Every attempt at a trial that ended, in order; `index` is the trial, `valid` says whether it counts."""
        return read_ledger(self.paths.session).values

    @property
    def done(self) -> dict[int, EpisodeResult]:
        """The result that counts, by trial; one of another start than the plan's is none."""
        return {result.index: result for result in self.results if result.valid and not self._misfit(result)}

    @property
    def begun(self) -> list[Begun]:
        """Trials begun, in order; a trial that was interrupted is begun again."""
        return read_sound_lines(self.root / BEGUN, Begun).values

    @property
    def labels(self) -> dict[str, Label]:
        """What operators say now, by episode id; see `read_labels`."""
        return read_labels(self.root)

    @property
    def problems(self) -> list[str]:
        """Lines of its notes and results that are left out, and why: they cannot be read, or do not fit the session."""
        kinds = ((BEGUN, Begun), (LABELS, Label), (DEVIATIONS, Deviation), (UNSEALED, Unsealing))
        found = [problem for name, kind in kinds for problem in read_sound_lines(self.root / name, kind).problems]
        found += read_ledger(self.paths.session).problems
        results, begun = self.results, self.begun
        found += [f"{self.paths.session}: {misfit}" for misfit in map(self._misfit, results) if misfit]
        attempts = {result.episode_id for result in results} | {attempt.episode_id for attempt in begun}
        found += [
            f"{self.root / LABELS}: a label of episode {episode_id}, which is no attempt of this session"
            for episode_id in self.labels
            if episode_id not in attempts
        ]
        return found

    def _misfit(self, result: EpisodeResult) -> str:
        """Why a result is none of the plan; empty: it is one."""
        number, trials = result.index, self.plan.trials
        if number >= len(trials):
            return f"a result of trial {number}; the plan has {len(trials)}, counted from 0"
        if result.seed != trials[number].seed:
            return f"a result of trial {number} from start {result.seed}; the plan has start {trials[number].seed}"
        return ""

    @property
    def deviations(self) -> list[Deviation]:
        """Departures from the plan."""
        return read_sound_lines(self.root / DEVIATIONS, Deviation).values

    @property
    def unsealed(self) -> Unsealing | None:
        """None: the session is blind."""
        found = read_sound_lines(self.root / UNSEALED, Unsealing).values
        return found[0] if found else None

    def interrupted(self) -> list[Begun]:
        """Attempts that were begun and have no result that counts; the newest, without any result, may still run."""
        results = {result.episode_id: result.valid for result in self.results}
        begun = self.begun
        if begun and begun[-1].episode_id not in results:
            begun.pop()
        return [attempt for attempt in begun if not results.get(attempt.episode_id, False)]

    def note_begun(self, trial: int, episode_id: str, unix_s: float) -> None:
        """Write down that a trial begins, before it does.

        Raises:
            OSError: the disk is full or broken.
        """
        append_line(self.root / BEGUN, asdict(Begun(trial, episode_id, self.plan.digest, unix_s)))

    def note_deviation(self, what: str, reason: str, by: str, unix_s: float) -> None:
        """Write down a departure from the plan; the same one is written once.

        Raises:
            OSError: the disk is full or broken.
        """
        if any((d.what, d.reason) == (what, reason) for d in self.deviations):
            return
        append_line(self.root / DEVIATIONS, asdict(Deviation(what, reason, by, unix_s, len(self.begun))))

    def label(self, trial: int, success: bool | None, tag: str, by: str, unix_s: float) -> Label:
        """Append an operator's word on a trial that has a result.

        Args:
            success: None takes earlier words back.

        Raises:
            ConfigError: there is no such trial or tag, it has not been run, or the disk is full.
        """
        result = self.done.get(trial)
        if result is None:
            raise ConfigError(
                f"trial {trial}: has no result yet; trials are counted from 0, see `inril evaluate report`"
            )
        return self.label_attempt(trial, result.episode_id, success, tag, by, unix_s)

    def label_attempt(
        self, trial: int, episode_id: str, success: bool | None, tag: str, by: str, unix_s: float
    ) -> Label:
        """Append an operator's word on an attempt, which may still run; it counts if the attempt does.

        A word that comes when the names are known is a deviation, too.

        Raises:
            ConfigError: there is no such tag, something else than a failure has one, or the disk is full.
        """
        if tag and success is not False:
            raise ConfigError(f"tag = {tag!r}: give it with a failure only")
        if tag and tag not in self.plan.failure_tags:
            tags = ", ".join(self.plan.failure_tags)
            raise ConfigError(f"tag = {tag!r}: the plan has no such failure tag; give one of {tags}")
        word = Label(trial, episode_id, success, tag, by, unix_s)
        with _alone(self.root):
            if self.unsealed is not None:
                what = f"trial {trial} labelled {vocabulary.Label.of(success).word} when the names were known"
                self.note_deviation(what, "seen when it was labelled", by, unix_s)
            _append(self.root / LABELS, word)
        return word

    def unseal(self, by: str, early_reason: str, unix_s: float, finished: bool) -> Unsealing:
        """Show names from here on.

        Args:
            early_reason: why before the end; empty: only a finished session is unsealed.
            finished: all trials are done, or the sequential design has decided.

        Raises:
            ConfigError: the session is not finished and no reason is given; or the disk is full.
        """
        known = self.unsealed
        if known is not None:
            return known
        done_n, planned_n = len(self.done), len(self.plan.trials)
        if not finished and not early_reason:
            raise ConfigError(
                f"{self.root}: {done_n} of {planned_n} trials are done; names would bias the rest. Finish it, or give "
                "--early REASON, which the report shows"
            )
        with _alone(self.root):
            if not finished:
                self.note_deviation(f"unsealed after {done_n} of {planned_n} trials", early_reason, by, unix_s)
            word = Unsealing(by, unix_s, done_n, planned_n)
            _append(self.root / UNSEALED, word)
        return word


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One person writes notes at a time; the trials' own ledger belongs to whoever runs them."""
    try:
        with (root / ".notes.lock").open("a+") as lock:
            lock_file(lock, _LOCK_WAIT_S)
            yield
    except OSError as error:
        raise ConfigError(f"{root}: {error.strerror or error}; free some space, or make it writable") from error


def read_labels(root: Path) -> dict[str, Label]:
    """What operators say now of the attempts of a session, by episode id; words that were taken back are left out."""
    newest = {label.episode_id: label for label in read_sound_lines(root / LABELS, Label).values}
    return {episode_id: label for episode_id, label in newest.items() if label.success is not None}


def lock_plan(folder: Path, plan: Plan) -> None:
    """Put a plan in place and keep a copy under its digest.

    Raises:
        OSError: the disk is full or broken.
    """
    (folder / LOCKED_PLANS).mkdir(exist_ok=True)
    write_atomically(folder / LOCKED_PLANS / f"{plan.digest}.json", plan.model_dump_json(indent=1).encode(), mode=0o444)
    write_plan(folder, plan)


def amend(root: Path, reason: str, by: str, unix_s: float) -> list[str]:
    """Lock a plan that was changed by hand; what changed. After the first trial it is a deviation.

    Raises:
        ConfigError: nothing was changed, no reason is given, the plan is none any more, or the change would touch
            trials that were begun, or what the codes mean.
    """
    root = root.expanduser().absolute()
    plan, locked = read_unlocked(root)
    if plan.digest == locked:
        raise ConfigError(f"{root}: the plan is as it was locked; change plan.json first")
    if not reason.strip():
        raise ConfigError("reason is empty: say why the plan changes")
    try:
        before = Plan.model_validate_json((root / LOCKED_PLANS / f"{locked}.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{root / LOCKED_PLANS}: the plan as it was is not readable ({error})") from error
    old, new = before.model_dump(), plan.model_dump()
    changed = [name for name in old if old[name] != new[name]]
    fixed = {"codes", "sealed_sha256", "session_id", "task", "contract_text", "interface_digest"}.intersection(changed)
    if fixed:
        raise ConfigError(f"{', '.join(sorted(fixed))}: cannot change within a session; begin another one")
    begun = read_sound_lines(root / BEGUN, Begun).values
    begun_n = 1 + max((b.trial for b in begun), default=-1)
    if plan.trials[:begun_n] != before.trials[:begun_n]:
        raise ConfigError(f"trials: the first {begun_n} were begun and cannot change; add trials behind them")
    what = "; ".join(f"{name} changed" for name in changed)
    with _alone(root):
        if begun:  # before the plan is locked: a kill in between leaves a note too many, not a change without one
            _append(root / DEVIATIONS, Deviation(what, reason, by, unix_s, len(begun)))
        lock_plan(root, plan)
    return changed


def _append(path: Path, word: Label | Deviation | Unsealing) -> None:
    append_line(path, asdict(word))
