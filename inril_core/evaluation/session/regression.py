"""Starts that once failed: they grow over sessions and are run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.outcomes import read_outcomes


def failed_starts(folders: Sequence[Path]) -> dict[str, list[int]]:
    """Starts by level on which any policy failed in these sessions, each once, in ascending order.

    Raises:
        ConfigError: a folder holds no session, the sessions are of different tasks, or nothing failed.
    """
    found: dict[str, set[int]] = {}
    tasks = set()
    for root in folders:
        folder = SessionFolder(root)
        tasks.add(folder.plan.interface_digest)
        for outcome in read_outcomes(folder):
            if not outcome.success:
                found.setdefault(outcome.trial.level, set()).add(outcome.trial.seed)
    if len(tasks) > 1:
        raise ConfigError(f"{', '.join(map(str, folders))}: are of different tasks or contracts; give those of one")
    if not found:
        raise ConfigError(f"{', '.join(map(str, folders))}: nothing failed, so there is nothing to run again")
    return {level: sorted(seeds) for level, seeds in found.items()}
