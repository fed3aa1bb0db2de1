"""From plain values to a method's settings, and from a wrong value to words that name the setting.

``combine: {method: interleave, ...}`` means ``inril_core/finetune/combine/interleave.py``, whose ``Config`` class holds
the settings and builds the method. A new method is one new file there, or a ``module:Config`` anywhere.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from inril_core.errors import ConfigError
from inril_core.finetune.contracts import CombineConfig, IlConfig, MethodConfig, RewardConfig, RlConfig
from inril_core.plugins import Kind

KINDS = {
    part: Kind(part, f"inril_core.finetune.{part}", "Config", base)
    for part, base in (("rl", RlConfig), ("il", IlConfig), ("rewards", RewardConfig), ("combine", CombineConfig))
}
"""How the methods of each part are found."""
_SHORT = {part: ", e.g. {method: NAME}" for part in KINDS} | {"policy": ", e.g. {kind: NAME}"}
_BRANCHES = ("int", "float", "str", "bool", "none")  # names that pydantic gives to the kinds of a union


def method_config(part: str, values: Mapping[str, Any]) -> MethodConfig:
    """The settings of one part (``rl``, ``il``, ``rewards``, ``combine``) from plain values.

    Raises:
        ConfigError: unknown method, or a setting is unknown, missing or out of its range.
    """
    name = values.get("method")
    config: type[MethodConfig] = KINDS[part].find(name, f"{part}.method")
    try:
        return config(**values)
    except ValidationError as error:
        raise ConfigError(describe(error, part, config)) from error


def describe(error: ValidationError, prefix: str, settings: type[BaseModel]) -> str:
    """Each wrong field of ``settings``: name, value, what is allowed."""
    told: dict[str, list[str]] = {}
    for item in error.errors():
        loc = item["loc"]
        while loc and _is_branch(loc[-1]):  # of a union: "int", "literal['adaptive']"
            loc = loc[:-1]
        field = ".".join(map(str, [*([prefix] if prefix else []), *loc]))
        if item["type"] == "missing":
            told[f"{field} is missing"] = []
            continue
        text = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
        if item["type"] == "extra_forbidden":
            known = sorted(_settings_at(settings, loc[:-1]).model_fields)
            close = difflib.get_close_matches(str(loc[-1]), known, n=1)
            text = "there is no such setting; " + (f"did you mean {close[0]!r}?" if close else f"there are {known}")
        elif item["type"] in ("model_type", "dict_type"):
            text = "must be a mapping of settings" + _SHORT.get(field, "")
        # without a field it is a check of the whole, which names what it is about
        told.setdefault(f"{field} = {item['input']!r}" if field else text, []).extend([text] if field else [])
    return "; ".join(f"{what}: {' or '.join(texts)}" if texts else what for what, texts in told.items())


def _is_branch(name: int | str) -> bool:
    return isinstance(name, str) and (name in _BRANCHES or "[" in name)


def _settings_at(settings: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The settings within ``settings`` that a path of fields, keys and list positions leads to."""
    for name in path:
        field = settings.model_fields.get(str(name))
        for kind in _flat(None if field is None else field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                settings = kind
    return settings


def _flat(annotation: Any) -> list[Any]:
    inner = [kind for part in get_args(annotation) for kind in _flat(part)]
    return inner or [annotation]
