"""The peak guard of a learner: trials of its newest version in a task, and the way back to the best one."""

import copy
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.evaluation.guard import Check, Checking, GuardConfig, GuardVerdict, PeakGuard
from inril_core.finetune.learner import Learner
from inril_core.finetune.published import policy_of
from inril_core.networks.checkpoint import read_checkpoint, write_checkpoint
from inril_core.policies import Policy

PEAK_NAME = "peak.safetensors"

State = dict[str, Tensor]


class GuardedLearner:
    """Checks the version of a learner that acts, and lets the best one act again where it has fallen.

    A check is begun by `begin` and goes on by one trial with each `step`, so that whoever calls can listen in between;
    meanwhile the learner MUST NOT be trained.

    Args:
        run_trial: whether a policy succeeds without exploration from the start with this seed.
        folder: where the best version and the guard's record are kept, for a learner that starts again; None: nowhere.

    Raises:
        ConfigError: what is kept there is not readable.
    """

    def __init__(
        self,
        config: GuardConfig,
        learner: Learner,
        run_trial: Callable[[Policy, int], bool],
        folder: Path | None = None,
    ) -> None:
        self._config, self._learner, self._run_trial = config, learner, run_trial
        self._other = copy.deepcopy(learner.policy)
        """Acts as whatever version it is given; the learner's policy is not touched."""
        self._guard: PeakGuard[State] = PeakGuard(config)
        self._path = None if folder is None else folder / PEAK_NAME
        self._checking: Checking[State] | None = None
        self._asked: tuple[State, int] | None = None
        self._next_episodes = 0
        self._ended = False
        self.pinned = False
        """The best version acts to the end, and nothing is trained any more."""
        self.news = ""
        """What the newest check said, for people."""
        if self._path is not None and self._path.exists():
            self._load(self._path)

    @property
    def checks(self) -> list[Check]:
        """All checks so far."""
        return self._guard.checks

    @property
    def checking(self) -> bool:
        """A check goes on."""
        return self._checking is not None

    @property
    def due(self) -> bool:
        """The acting version is to be checked: so many episodes after the check before, but not a version that was
        checked already, and once at the end, where it is not the best one."""
        learner, best = self._learner, self._guard.best
        if self.pinned or self.checking:
            return False
        if learner.done and not self._ended:
            return best is None or best.n != learner.version
        known = self.checks and self.checks[-1].n == learner.version
        return not known and learner.ingested_episodes >= self._next_episodes

    def begin(self) -> None:
        """Check the learner's policy as it is, which MUST be the newest one published."""
        learner = self._learner
        self._next_episodes = learner.ingested_episodes + self._config.every_episodes
        self._ended = learner.done
        self._checking = self._guard.checking(learner.snapshot(), learner.version, learner.done)
        self._asked = next(self._checking)

    def step(self) -> Check | None:
        """One trial; the check, where it was the last one.

        Where the verdict says `best_acts`, the learner goes on from the best version, which the caller MUST publish.
        """
        assert self._checking is not None and self._asked is not None
        version, seed = self._asked
        self._other.load_state_dict(policy_of(version))
        try:
            self._asked = self._checking.send(self._run_trial(self._other, seed))
            return None
        except StopIteration as ended:
            check: Check = ended.value
        self._checking = self._asked = None
        self._act_on(check)
        return check

    def keep_peak(self) -> bool:
        """A whole check at once; whether training ends."""
        self.begin()
        while self.step() is None:
            pass
        return self.pinned

    def describe(self) -> str:
        """What it does or found, in a line for people."""
        best = self._guard.best
        known = "" if best is None else f"best so far version {best.n}, {best.successes} of {best.trials}"
        if self.checking:
            doing = f"guard: trials of version {self._learner.version}"
            return f"{doing}; {known}" if known else doing
        return "; ".join(filter(None, (self.news, known and f"guard: {known}, {self._guard.trials_run} trials so far")))

    def _act_on(self, check: Check) -> None:
        best = self._guard.best
        assert best is not None
        if check.verdict is GuardVerdict.FALLEN:
            self._learner.go_back_to(best.version)
            self.pinned = self._config.on_fall == "pin"
            self.news = (
                f"version {check.n} had fallen ({check.successes} of {check.trials}): version {best.n} acts again, "
                + ("pinned: training has ended" if self.pinned else "training goes on from it")
            )
        elif check.verdict is GuardVerdict.OUTDONE:
            self._learner.go_back_to(best.version)
            self.news = (
                f"at the end version {best.n} was better on the same starts than version {check.n} "
                f"({check.successes} of {check.trials}): version {best.n} acts again"
            )
        if self._path is not None:
            facts = {"guard": self._guard.facts(), "next_episodes": self._next_episodes, "ended": self._ended}
            write_checkpoint(self._path, {"best": best.version}, {**facts, "pinned": self.pinned, "news": self.news})

    def _load(self, path: Path) -> None:
        parts, facts = read_checkpoint(path)
        try:
            self._guard.load(facts["guard"], parts["best"])
            self._next_episodes, self._ended = int(facts["next_episodes"]), bool(facts["ended"])
            self.pinned, self.news = bool(facts["pinned"]), str(facts["news"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: is not what a guard has kept ({error}); restore it or use a new run") from error
