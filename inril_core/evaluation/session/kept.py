"""The weights of a session in the policy node of the graph."""

from __future__ import annotations

from pathlib import Path

from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.policies import load_policy
from inril_core.policies.files import policy_sha256
from inril_core.weights.acting import ActingPolicy


def keep_policies(root: Path, acting: ActingPolicy, created_ns: int) -> None:
    """Let the policy node keep all weights of a session, each under the number that the plan gives it.

    Raises:
        ConfigError: plan, secret or a policy file are missing or changed.
        WeightsRefused: a policy does not fit the contract.
    """
    folder = SessionFolder(root)
    for code, subject in sorted(folder.sealed.subjects.items()):
        n = folder.plan.version_n(code)
        if subject.kind == "expert" or n <= acting.highest_n:
            continue
        policy, facts = load_policy(subject.file(folder.root))
        if policy_sha256(policy) != subject.weights_sha256:
            raise ConfigError(f"{subject.file(folder.root)}: holds other weights than the plan names; restore it")
        acting.load_initial(policy, facts, created_ns, n)
