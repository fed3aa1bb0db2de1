"""The scripted expert of a contract's task."""

from __future__ import annotations

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.experts.insert_leg import DialledExpert, ScriptedExpert
from inril_core.experts.one_leg import OneLegExpert

# A person's hand is not still either, and one_leg needs it: cloned from 50 demonstrations without noise it grasps
# and then hovers over the hole, because nothing in them shows the way back (docs/results/simulator.md).
_DEMONSTRATED_NOISE = {"one_leg": 0.1}
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


def demonstrator(contract: Contract, seed: int = 0) -> DialledExpert:
    """The expert as it demonstrates `contract`: at its best, but with the noise that the task's clones need.

    Raises:
        ConfigError: nobody knows the task.
    """
    return make_expert(contract, noise=_DEMONSTRATED_NOISE.get(contract.task, 0.0), seed=seed)
