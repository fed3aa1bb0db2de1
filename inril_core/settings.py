"""What is read from configuration: validated once, frozen, unknown keys and NaN refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from inril_core.errors import ConfigError
from inril_core.yaml_text import read_yaml


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys and NaN refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


T = TypeVar("T", bound=Settings)


def read_mapping(given: Any, name: str) -> Mapping[str, Any]:
    """A mapping that is given as such or as YAML text; empty text is an empty one.

    Args:
        name: what the configuration calls it, for messages.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    values = given
    if isinstance(given, str):
        try:
            values = read_yaml(given) if given.strip() else {}
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{name} = {given!r}: not YAML ({error}); give a mapping, e.g. {{KEY: VALUE}}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} = {given!r}: must be a mapping, e.g. {{KEY: VALUE}}")
    return values


def read_settings(kind: type[T], given: Any, name: str) -> T:
    """The settings of a part from a mapping, or from its YAML text.

    Raises:
        ConfigError: as `read_mapping`; or a setting is unknown, missing or out of its range.
    """
    try:
        return kind.model_validate(dict(read_mapping(given, name)))
    except ValidationError as error:
        lines = []
        for issue in error.errors():
            field = ".".join([name, *(str(part) for part in issue["loc"])])
            fix = f"there are {', '.join(kind.model_fields)}" if issue["type"] == "extra_forbidden" else issue["msg"]
            given_here = "" if issue["type"] == "missing" else f" = {str(issue['input'])[:80]!r}"
            lines.append(f"{field}{given_here}: {fix}")
        raise ConfigError("; ".join(lines)) from error
