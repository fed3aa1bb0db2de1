"""Peak guard and gate of learner_node: their trials run in a simulated cell of the learner's own, not on the robot."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.finetune.distributed.parallel import LeadingLearner
from inril_core.finetune.guarded import GuardedLearner
from inril_core.finetune.learner import Learner
from inril_core.finetune.shadow import ShadowGate


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


def gate_of(learner: Learner, contract: Contract, folder: Path) -> ShadowGate | None:
    """The gate that the learner's settings ask for; it goes on where the one of an earlier process was.

    Raises:
        ConfigError: there is no cell to simulate, it is of another interface, or what was kept is damaged.
        OSError: the contract that its process reads cannot be written.
    """
    config = learner.config.gate
    if config is None:
        return None
    task = config.task
    if not task:
        path = folder / "gate_contract.yaml"
        write_atomically(path, contract.text.encode())
        task = str(path.absolute())
    return ShadowGate(config, learner, task)
