"""The scripted expert of a contract's task."""

from __future__ import annotations

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.sim.expert import DialledExpert, ScriptedExpert
from inril_core.sim.one_leg_expert import OneLegExpert

_EXPERTS: dict[str, type[DialledExpert]] = {"insert_leg": ScriptedExpert, "one_leg": OneLegExpert}


def make_expert(
    contract: Contract, noise: float = 0.0, bias: float = 0.0, hesitation: float = 0.0, seed: int = 0
) -> DialledExpert:
    """The expert for `contract`; dials as of `DialledExpert`.

    Raises:
        ConfigError: nobody knows the task, or a dial is out of range.
    """
    if contract.task not in _EXPERTS:
        raise ConfigError(f"task = {contract.task!r}: scripted experts know {' and '.join(_EXPERTS)}; record a person")
    return _EXPERTS[contract.task](contract, noise, bias, hesitation, seed)
