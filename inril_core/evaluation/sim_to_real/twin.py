"""A contract whose simulated cell has other physics, as a file that every graph and task takes."""

from __future__ import annotations

from pathlib import Path

import yaml

from inril_core.contract import Contract
from inril_core.contract.definitions.base import CellSettings
from inril_core.contract.definitions.physics import Physics
from inril_core.errors import ConfigError
from inril_core.evaluation.sim_to_real.cameras import CameraFits
from inril_core.evaluation.sim_to_real.identify import Fit
from inril_core.files import write_atomically


def with_physics(contract: Contract, physics: Physics) -> Contract:
    """The same contract, also the same interface, with these ranges in ``sim.physics``.

    Raises:
        ConfigError: it has no simulated cell whose physics can be set.
    """
    if not isinstance(contract.sim, CellSettings):
        raise ConfigError(f"contract {contract.task}: its sim section has no physics; give one of a simulated cell")
    values = contract.model_dump(mode="json")
    values["sim"]["physics"] = physics.model_dump(mode="json")
    return Contract.model_validate(values)


def as_found(contract: Contract, arm: Fit | None, cameras: CameraFits) -> Contract:
    """The same contract with what was found as ranges; what was not looked for, or refused, it keeps.

    Raises:
        ConfigError: as `with_physics`.
    """
    own = getattr(contract.sim, "physics", None) or Physics()
    physics = own if arm is None else arm.ranges()
    found = {name: fit.ranges() for name, fit in cameras.found.items()}
    return with_physics(contract, physics.model_copy(update={"cameras": {**own.cameras, **found}}))


def write_contract(path: Path, contract: Contract) -> Path:
    """Write a contract's YAML; the path.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        text = yaml.safe_dump(contract.model_dump(mode="json", exclude_none=True), sort_keys=False)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a file that can be written") from error
    return path
