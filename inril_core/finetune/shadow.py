"""The gate of a learner at work: trials in a process of their own, and what came of them.

The learner MUST NOT be trained while a candidate is judged; who drives it may listen to everything else.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from inril_core.errors import ConfigError
from inril_core.evaluation.shadow import FIRST_SEED, GATE_LOG_NAME, GateConfig, Judged, Judgement, judge_outcomes
from inril_core.files import append_line, parse_line, read_lines, write_lines
from inril_core.finetune.learner import Learner
from inril_core.policies import load_policy, save_policy
from inril_core.policies.files import policy_sha256
from inril_core.tasks import make_task

GATE_FOLDER = "gate"
CANDIDATE_NAME, REFERENCE_NAME, REQUEST_NAME = "candidate.inril", "reference.inril", "request.jsonl"
_TRIALS_NAME, _ERRORS_NAME = "trials.jsonl", "errors.txt"
_REASON_MAX_CHARACTERS = 300
_KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class Request:
    """What is to be run."""

    task: str
    first_seed: int
    trials: int


@dataclass(frozen=True)
class Loaded:
    """The weights that will act."""

    candidate_sha256: str
    """See `policy_sha256`."""
    reference_sha256: str


@dataclass(frozen=True)
class Pair:
    """Outcomes of one start."""

    seed: int
    candidate: bool
    """Whether it succeeded."""
    reference: bool


class ShadowGate:
    """Judges a learner's versions before they are offered.

    Reference and log lie in the learner's folder, so that a learner that starts again goes on with them. What a killed
    learner had not finished judging is judged again.

    Args:
        task: what is simulated, see `make_task`.
        clock: monotonic, s.

    Raises:
        ConfigError: there is no such task, it is of another interface, or what was kept is missing or damaged.
    """

    def __init__(
        self, config: GateConfig, learner: Learner, task: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._learner, self._task, self._clock = config, learner, task, clock
        self._folder = learner.run_dir / GATE_FOLDER
        self._log_path = learner.run_dir / GATE_LOG_NAME
        self._check_task()
        self.judged: list[Judged] = read_lines(self._log_path, Judged) if self._log_path.exists() else []
        """All candidates so far, in order."""
        self._reference_updates, self._reference_sha256 = self._read_reference()
        self._judged_updates = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._problem = ""
        self._candidate_sha256 = ""
        self._cleared_sha256 = ""
        self._began_s = 0.0

    def _check_task(self) -> None:
        try:
            task = make_task(self._task)
        except ConfigError as error:
            raise ConfigError(f"gate: its trials are simulated, which task {self._task} does not allow: {error}") from (
                error
            )
        found = task.interface.interface_digest
        task.close()
        if found != self._learner.interface.interface_digest:
            raise ConfigError(
                f"gate.task = {self._task!r}: has another interface than this run; give a task with the same "
                "observation, images, action and rate"
            )

    def _read_reference(self) -> tuple[int, str]:
        path, learner = self._folder / REFERENCE_NAME, self._learner
        if not path.exists():
            if learner.updates or self.judged:
                raise ConfigError(f"{path}: is missing, though versions were judged; restore it or use a new run")
            self._folder.mkdir(parents=True, exist_ok=True)
            save_policy(path, learner.policy, {"updates": 0})
        policy, facts = load_policy(path)
        updates = facts.get("updates")
        if not isinstance(updates, int):
            raise ConfigError(f"{path}: is not what a gate has kept; restore it or use a new run")
        return updates, policy_sha256(policy)

    @property
    def running(self) -> bool:
        """A candidate is judged."""
        return self._process is not None or bool(self._problem)

    @property
    def due(self) -> bool:
        """The learner's policy is the next candidate."""
        learner = self._learner
        if self.running or not learner.actor_updates or not learner.may_publish:
            return False
        since = learner.updates - self._judged_updates
        return since > 0 and (learner.on_policy or learner.done or since >= self._config.every_updates)

    @property
    def cleared(self) -> bool:
        """The learner's policy as it is now has passed, and `offered` was not said of it."""
        return bool(self._cleared_sha256) and self._cleared_sha256 == policy_sha256(self._learner.policy)

    @property
    def held_back_n(self) -> int:
        """Candidates that did not pass, so far."""
        return sum(not judged.passed for judged in self.judged)

    def offered(self) -> None:
        """What passed was offered."""
        self._cleared_sha256 = ""

    def begin(self) -> None:
        """Judge the learner's policy as it is. What goes wrong is the judgement's reason."""
        learner, folder = self._learner, self._folder
        self._judged_updates, self._began_s, self._cleared_sha256 = learner.updates, self._clock(), ""
        self._candidate_sha256 = policy_sha256(learner.policy)
        request = Request(self._task, self._next_seed(), self._config.trials)
        try:
            save_policy(folder / CANDIDATE_NAME, learner.policy, {"updates": learner.updates})
            write_lines(folder / REQUEST_NAME, [asdict(request)])
            with open(folder / _TRIALS_NAME, "wb") as trials, open(folder / _ERRORS_NAME, "wb") as errors:
                command = [sys.executable, "-m", "inril_core.finetune.shadow_trials", str(folder)]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=trials, stderr=errors)
        except OSError as error:
            self._problem = f"its trials could not begin: {error}; free some space"

    def poll(self) -> Judged | None:
        """What came of the candidate; None while its trials go on.

        Where it is `cleared` the caller MUST offer it; where not, an on-policy learner MUST go on from the version
        that acts.
        """
        if self._problem:
            return self._end(Judgement(False, False, self._problem), [])
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            if self._clock() - self._began_s <= self._config.timeout_s:
                return None
            self.close()
            late = f"its trials took longer than gate.timeout_s = {self._config.timeout_s:g} s"
            return self._end(Judgement(False, False, late), [])
        self.close()
        pairs, problem = self._outcomes(code)
        if not problem and policy_sha256(self._learner.policy) != self._candidate_sha256:
            problem = "the learner went on from another version meanwhile"
        if problem:
            return self._end(Judgement(False, False, problem), [])
        return self._end(judge_outcomes(self._config, [(pair.candidate, pair.reference) for pair in pairs]), pairs)

    def wait(self) -> Judged:
        """`begin`, and what came of it."""
        self.begin()
        if self._process is not None:
            try:
                self._process.wait(timeout=self._config.timeout_s)
            except subprocess.TimeoutExpired:
                self._began_s = float("-inf")  # so that `poll` ends it
            except BaseException:
                self.close()
                raise
        judged = self.poll()
        assert judged is not None
        return judged

    def close(self) -> None:
        """End the trials, if there are any."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(timeout=_KILL_WAIT_S)
            assert process.stdin is not None
            process.stdin.close()

    def describe(self) -> str:
        """What it does or found, in a line for people."""
        if self.running:
            done = max(self._read(_TRIALS_NAME).count(b"\n") - 1, 0)
            candidate = f"gate: trials of the version of update {self._judged_updates}"
            return f"{candidate}, {done} of {self._config.trials} starts"
        if not self.judged:
            return ""
        newest = self.judged[-1]
        said = "passed" if newest.passed else "HELD BACK"
        return (
            f"gate: the version of update {newest.updates} {said}: {newest.reason}; {self.held_back_n} of "
            f"{len(self.judged)} held back"
        )

    def _next_seed(self) -> int:
        """Starts that no candidate ran on, also none whose trials failed."""
        return max((judged.first_seed + self._config.trials for judged in self.judged), default=FIRST_SEED)

    def _end(self, judgement: Judgement, pairs: list[Pair]) -> Judged:
        self._problem = ""
        judged = Judged(
            self._judged_updates,
            self._reference_updates,
            judgement.passes,
            judgement.better,
            judgement.reason,
            self._next_seed(),
            len(pairs),
            sum(pair.candidate for pair in pairs),
            sum(pair.reference for pair in pairs),
            self._candidate_sha256,
        )
        try:
            append_line(self._log_path, asdict(judged))
            if judged.better:
                save_policy(self._folder / REFERENCE_NAME, self._learner.policy, {"updates": judged.updates})
        except OSError as error:
            lost = f"the judgement cannot be kept: {error}; free some space"
            judged = replace(judged, passed=False, better=False, reason=lost)
        self.judged.append(judged)
        if judged.better:
            self._reference_updates, self._reference_sha256 = judged.updates, judged.candidate_sha256
        if judged.passed:
            self._cleared_sha256 = judged.candidate_sha256
        return judged

    def _outcomes(self, code: int) -> tuple[list[Pair], str]:
        """What the ended process wrote, all of it as it was asked; or why it is not to be used."""
        if code:
            errors = self._read(_ERRORS_NAME).decode(errors="replace").strip().splitlines()
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            return [], f"its trials ended {how}{f': {errors[-1]}' if errors else ''}"[:_REASON_MAX_CHARACTERS]
        lines = self._read(_TRIALS_NAME).splitlines()
        try:
            loaded = parse_line(lines[0], Loaded)
            pairs = [parse_line(line, Pair) for line in lines[1:]]
        except (ValueError, IndexError) as error:
            return [], f"its trials wrote nothing readable: {error}"[:_REASON_MAX_CHARACTERS]
        if loaded != Loaded(self._candidate_sha256, self._reference_sha256):
            return [], "other weights acted in its trials than were asked for"
        first = self._next_seed()
        if [pair.seed for pair in pairs] != list(range(first, first + self._config.trials)):
            return [], f"its trials wrote {len(pairs)} of {self._config.trials} outcomes, or of other starts"
        return pairs, ""

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return b""
