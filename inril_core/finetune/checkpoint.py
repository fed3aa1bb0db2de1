"""A learner on disk, and whether a run that goes on is given what it began with."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.ingest_log import IngestRecord
from inril_core.finetune.memory.transitions import shows_something
from inril_core.finetune.metrics import numbers
from inril_core.networks.checkpoint import read_checkpoint, write_checkpoint
from inril_core.policies import Policy

if TYPE_CHECKING:
    from inril_core.finetune.learner import Learner

CHECKPOINT_NAME = "checkpoint.safetensors"


def weights_digest(policy: Policy) -> str:
    """SHA-256 (16 hex digits) of a policy's parameters and buffers. Not of its file: safetensors orders its metadata
    as it likes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        whole.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def refuse_empty(demos: Sequence[Episode], rows: int) -> None:
    """Refuse demonstrations of which nothing can be imitated.

    Raises:
        ConfigError: ``rows`` to imitate, 0, are all that they give; says why.
    """
    if rows:
        return
    good = [demo for demo in demos if shows_something(demo)]
    if not good:
        raise ConfigError(f"{len(demos)} demonstrations, none successful: record at least one success, or corrections")
    told = ", ".join(f"{demo.episode_id} ({demo.steps} steps)" for demo in good[:5])
    raise ConfigError(
        f"{len(good)} successful demonstrations or episodes with corrections, but no step of them can be imitated: "
        f"{told}; a step counts where a person or the policy acted and the outcome is known, and the last one of an "
        "incomplete recording does not; record longer ones"
    )


def write(learner: "Learner", extra: dict[str, Any]) -> Path:
    """Write everything `resume` needs into one file, atomically; returns its path."""
    parts = {
        "policy": learner.policy.state_dict(),
        "rl": learner.parts.rl.state(),
        "combine": learner.parts.combine.state(),
        **learner.buffers.state(),
        "loop": learner.loop.tensors(),
        "published": learner.published_states.state(),
        "generator": {"state": learner.parts.generator.get_state()},
    }
    facts = {
        **_identity(learner),
        "initial_weights": learner.initial_weights,
        "demos": learner.demos,
        "owners": list(learner.owners),
        "counts": vars(learner.counts),
        "loop": learner.loop.facts(),
        "version": learner.version,
        "log": [vars(record) for record in learner.log],
        "window": numbers(learner.window),
        "extra": extra,
    }
    path = learner.run_dir / CHECKPOINT_NAME
    write_checkpoint(path, parts, facts)
    return path


def resume(learner: "Learner") -> dict[str, Any]:
    """Make a fresh ``learner`` what the one was that wrote the checkpoint of its run; returns its ``extra``.

    Raises:
        ConfigError: see `Learner.resume`.
    """
    path = learner.run_dir / CHECKPOINT_NAME
    parts, facts = read_checkpoint(path)
    for name, here in _identity(learner).items():
        if facts.get(name) != here:
            raise ConfigError(f"{path}: was made with another {name}; use a new run or the settings of that run")
    if facts.get("initial_weights") != learner.initial_weights:
        raise ConfigError(
            f"{path}: the run began from initial weights {facts.get('initial_weights')}, not from those given "
            f"({learner.initial_weights}); give the policy file of that run, or use a new run"
        )
    before = facts["demos"]
    added = added_demos(path, before, learner.demos)
    learner.policy.load_state_dict(parts["policy"])
    learner.parts.rl.load(parts["rl"])
    learner.parts.combine.load(parts["combine"])
    learner.buffers.load(parts)
    learner.loop.load(facts["loop"], parts.get("loop", {}))
    learner.published_states.load(parts.get("published", {}))
    learner.parts.generator.set_state(parts["generator"]["state"])
    for name, value in facts["counts"].items():
        setattr(learner.counts, name, value)
    learner.version, learner.window = facts["version"], facts["window"]
    learner.log = [IngestRecord(**record) for record in facts["log"]]
    learner.owners = {name: owner for owner, name in enumerate(facts["owners"])}
    learner.demos = dict(before)
    learner.added_demos = added
    for name in added:
        learner.show(learner.given[name])
    extra: dict[str, Any] = facts["extra"]
    return extra


def added_demos(path: Path, before: dict[str, list[str]], given: dict[str, list[str]]) -> list[str]:
    """Demonstrations that a run did not begin with.

    Args:
        before, given: SHA-256 of the recording, and digest of what was said of it, by name.

    Raises:
        ConfigError: one that it began with is missing, or its recording is another one now.
    """
    for problem, names in (
        ("missing", [name for name in before if name not in given]),
        ("other recordings", [name for name in before if given.get(name, before[name])[0] != before[name][0]]),
    ):
        if names:
            raise ConfigError(
                f"{path}: the run began with {len(before)} demonstrations, of which {len(names)} are {problem} now: "
                f"{', '.join(sorted(names)[:5])}; give all that it began with, or use a new run; to leave one out, "
                "use `inril data drop`"
            )
    return [name for name in given if name not in before]


def _identity(learner: "Learner") -> dict[str, Any]:
    return {
        "config": learner.config.model_dump(mode="json"),
        "interface_digest": learner.interface.interface_digest,
        "policy": learner.policy.manifest(),
    }
