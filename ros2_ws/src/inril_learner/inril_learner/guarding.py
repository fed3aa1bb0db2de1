"""The peak guard of learner_node: its trials run in a simulated cell of the learner's own, not on the robot."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.finetune.distributed.parallel import LeadingLearner
from inril_core.finetune.guarded import GuardedLearner
from inril_core.finetune.learner import Learner


def guard_of(learner: Learner, contract: Contract, folder: Path) -> GuardedLearner | None:
    """The guard that the learner's settings ask for; it goes on where the one of an earlier process was.

    Raises:
        ConfigError: there is no cell to simulate, the learner has several processes, or what was kept is damaged.
    """
    config = learner.config.guard
    if config is None:
        return None
    if isinstance(learner, LeadingLearner):
        raise ConfigError("guard: a learner under torchrun cannot go back to its best version; leave the section out")
    from inril_core.finetune.local import succeeds  # loads MuJoCo
    from inril_core.tasks.families.cell import CellEnv

    try:
        task = CellEnv(contract)
    except ConfigError as error:
        raise ConfigError(
            f"guard: its trials are simulated, which contract {contract.task} does not allow: {error}"
        ) from error
    return GuardedLearner(config, learner, partial(succeeds, task), folder)
