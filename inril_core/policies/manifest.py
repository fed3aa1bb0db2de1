"""From a manifest (plain JSON values) to a policy."""

from collections.abc import Mapping
from typing import Any

from inril_core.errors import ConfigError
from inril_core.policies.gaussian import GaussianPolicy

_POLICIES = {GaussianPolicy.kind: GaussianPolicy}


def policy_from_manifest(manifest: Mapping[str, Any]) -> GaussianPolicy:
    """An untrained policy of the architecture that ``manifest`` describes.

    Args:
        manifest: what `GaussianPolicy.manifest` returned: ``kind`` and the constructor's arguments.

    Raises:
        ConfigError: unknown kind, unknown or missing argument, or a value out of its range.
    """
    arguments = dict(manifest)
    kind = arguments.pop("kind", None)
    if kind not in _POLICIES:
        raise ConfigError(f"policy.kind = {kind!r}: must be one of {sorted(_POLICIES)}")
    try:
        return _POLICIES[kind](**arguments)
    except TypeError as error:
        raise ConfigError(f"policy manifest of kind {kind!r}: {error}; use the manifest the policy wrote") from error
