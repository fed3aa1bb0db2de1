"""Policies: rebuilt from a manifest, never from pickled code. Importing this package imports torch."""

from inril_core.policies.base import Decision, ImitationSettings, Memory, Policy, PolicyConfig
from inril_core.policies.exploration import exploration_rng
from inril_core.policies.files import load_policy, save_policy
from inril_core.policies.gaussian import GaussianPolicy
from inril_core.policies.manifest import policy_config, policy_from_manifest
from inril_core.policies.squashed import SquashedGaussian

__all__ = [
    "Decision",
    "GaussianPolicy",
    "ImitationSettings",
    "Memory",
    "Policy",
    "PolicyConfig",
    "SquashedGaussian",
    "exploration_rng",
    "load_policy",
    "policy_config",
    "policy_from_manifest",
    "save_policy",
]
