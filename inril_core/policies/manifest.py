"""From plain values to a policy: of a config (without sizes) or of a manifest (with them)."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from inril_core.errors import ConfigError
from inril_core.policies.base import Policy, PolicyConfig


def policy_kinds() -> list[str]:
    """Names of the architectures: the files here that have a ``Config``."""
    package = importlib.import_module("inril_core.policies")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(name for name in names if hasattr(importlib.import_module(f"inril_core.policies.{name}"), "Config"))


def policy_config(values: Mapping[str, Any]) -> PolicyConfig:
    """The settings of an architecture.

    Raises:
        ConfigError: unknown kind, or a setting is unknown or out of its range.
    """
    kind = values.get("kind", "gaussian")
    if kind not in policy_kinds():
        raise ConfigError(f"policy.kind = {kind!r}: must be one of {policy_kinds()}")
    config: type[PolicyConfig] = importlib.import_module(f"inril_core.policies.{kind}").Config
    try:
        return config(**values)
    except ValidationError as error:
        lines = [f"policy.{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise ConfigError("; ".join(lines)) from error


def policy_from_manifest(manifest: Mapping[str, Any]) -> Policy:
    """An untrained policy of the architecture that ``manifest`` describes.

    Args:
        manifest: what `Policy.manifest` returned: ``kind``, sizes and settings.

    Raises:
        ConfigError: unknown kind, unknown or missing value, or one out of its range.
    """
    values = dict(manifest)
    if "kind" not in values:
        raise ConfigError("policy manifest without kind; use the manifest the policy wrote")
    sizes = []
    for name in ("observation_size", "action_size"):
        size = values.pop(name, None)
        if not isinstance(size, int) or not 1 <= size <= 1_000_000:
            raise ConfigError(f"policy manifest: {name} = {size!r}: must be a whole number >= 1")
        sizes.append(size)
    return policy_config(values).build(*sizes)
