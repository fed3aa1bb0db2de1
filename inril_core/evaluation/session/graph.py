"""A session's trials as the session node of the graph runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.outcomes import decided, read_outcomes
from inril_core.session.ledger import EpisodeResult
from inril_core.session.trials import PlannedTrial


class GraphTrials:
    """The plan as an `inril_core.session.trials.Trials`.

    Raises:
        ConfigError: plan or secret are missing or changed, or the contract has another interface than planned.
    """

    def __init__(self, root: Path, contract: Contract) -> None:
        self._folder = SessionFolder(root)
        plan = self._folder.plan
        if contract.interface_digest != plan.interface_digest:
            raise ConfigError(f"contract: its interface is not that of the plan; give contract:={plan.task}")
        if contract.deployment_digest != plan.deployment_digest:
            self._folder.note_deviation(
                "limits, lengths, staleness or calibration of the contract are not those of the plan",
                "seen when the graph was started",
                "inril",
                time.time(),
            )
        self._looked_n, self._decided = -1, False

    def __len__(self) -> int:
        return len(self._folder.plan.trials)

    def planned(self, number: int) -> PlannedTrial:
        """See `Trials`."""
        plan = self._folder.plan
        trial = plan.trials[number]
        expert = self._folder.sealed.subjects[trial.code].kind == "expert"
        return PlannedTrial(trial.seed, trial.purpose, None if expert else plan.version_n(trial.code), plan.explore)

    def begin(self, number: int, episode_id: str) -> None:
        """See `Trials`."""
        self._folder.note_begun(number, episode_id, time.time())

    @property
    def failure_tags(self) -> tuple[str, ...]:
        """See `Trials`."""
        return self._folder.plan.failure_tags

    def label(self, number: int, episode_id: str, success: bool | None, tag: str, by: str) -> None:
        """See `Trials`."""
        self._folder.label_attempt(number, episode_id, success, tag, by, time.time())

    def decided(self, results: Sequence[EpisodeResult]) -> bool:
        """See `Trials`; looked at after whole blocks."""
        if not self._folder.plan.sequential:
            return False
        done_n = sum(result.valid for result in results)
        if done_n != self._looked_n:
            self._looked_n = done_n
            whole = done_n > 0 and done_n % len(self._folder.plan.codes) == 0
            self._decided = self._decided or (whole and decided(self._folder, read_outcomes(self._folder, False)))
        return self._decided
