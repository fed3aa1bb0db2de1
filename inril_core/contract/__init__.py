"""The task contract: what observation, action, limits and timing mean, for every part of the graph."""

from inril_core.contract.interface import Interface, SimpleInterface
from inril_core.contract.limits import Limits
from inril_core.contract.load import contract_from_text, load_contract
from inril_core.contract.schema import (
    ActionSpec,
    Contract,
    DeltaPose,
    DeltaPoseGripper,
    ImageField,
    ImageShape,
    ObservationField,
    Staleness,
)

__all__ = [
    "ActionSpec",
    "Contract",
    "DeltaPose",
    "DeltaPoseGripper",
    "ImageField",
    "ImageShape",
    "Interface",
    "Limits",
    "ObservationField",
    "SimpleInterface",
    "Staleness",
    "contract_from_text",
    "load_contract",
]
