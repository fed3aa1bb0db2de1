"""How methods are found: the name in a config is the name of a file.

``combine: {method: interleave, ...}`` means ``inril_core/finetune/combine/interleave.py``, whose ``Config`` class holds
the settings and builds the method. A new method is one new file and a preset.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from inril_core.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys and NaN refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class MethodConfig(Settings):
    """Settings of one method, and what it needs from and offers to the others.

    Attributes:
        method: the file's name.
        provides: capabilities of an RL or IL method: ``actor_gradient``.
        requires: capabilities a combination needs, as (part, capability).
    """

    method: str
    provides: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[tuple[tuple[str, str], ...]] = ()


def known_methods(part: str) -> list[str]:
    """Names of the methods in ``inril_core.finetune.<part>``."""
    package = importlib.import_module(f"inril_core.finetune.{part}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base")


def method_config(part: str, values: Mapping[str, Any]) -> MethodConfig:
    """The settings of one part (``rl``, ``il``, ``rewards``, ``combine``) from plain values.

    Raises:
        ConfigError: unknown method, or a setting is unknown, missing or out of its range.
    """
    name = values.get("method")
    known = known_methods(part)
    if name not in known:
        raise ConfigError(f"{part}.method = {name!r}: must be one of {known}")
    config: type[MethodConfig] = importlib.import_module(f"inril_core.finetune.{part}.{name}").Config
    try:
        return config(**values)
    except ValidationError as error:
        raise ConfigError(describe(error, part)) from error


def describe(error: ValidationError, prefix: str) -> str:
    """One line per wrong field: name, value, what is allowed."""
    lines = []
    for item in error.errors():
        field = ".".join([prefix, *map(str, item["loc"])]) if prefix else ".".join(map(str, item["loc"]))
        lines.append(f"{field} = {item['input']!r}: {item['msg']}")
    return "; ".join(lines)
