"""The task contract: what observation, action, limits and timing mean, for every part of the graph."""

from inril_core.contract.load import contract_from_text, load_contract
from inril_core.contract.schema import (
    ActionSpec,
    AssemblyRule,
    AssemblySim,
    Contract,
    DeltaPose,
    DeltaPoseGripper,
    ImageField,
    ImageShape,
    Limits,
    ObservationField,
    SimSpec,
    Staleness,
    SuccessRule,
)

__all__ = [
    "ActionSpec",
    "AssemblyRule",
    "AssemblySim",
    "Contract",
    "DeltaPose",
    "DeltaPoseGripper",
    "ImageField",
    "ImageShape",
    "Limits",
    "ObservationField",
    "SimSpec",
    "Staleness",
    "SuccessRule",
    "contract_from_text",
    "load_contract",
]
