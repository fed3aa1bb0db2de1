"""What a run starts from: demonstrations and the policy cloned from them, made once for all methods that share it.

Two methods share a start when their policy, pre-training and imitation settings, demonstrations, seed and task are the
same; then they begin from the same weights, bit for bit, because they read the same file.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.bench.job import Job, task_digest
from inril_core.bench.meter import Meter
from inril_core.bench.origin import code_digest
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.files import lock_file, write_atomically
from inril_core.finetune.checkpoint import weights_digest
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.local import collect_demos, evaluate
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import Policy, load_policy, save_policy
from inril_core.session.plan import episode_seed

LONGEST_S = 4 * 3600.0
"""Longest that a job waits for another process that makes its start."""
_DRAW = 13  # keeps the draw apart from whatever else the seed decides


@dataclass(frozen=True)
class Start:
    """What a run begins from."""

    policy: Policy
    weights: str
    """See `weights_digest`."""
    successes: int
    """Of the cloned policy on the first evaluation's starts."""
    mean_return: float
    """In the same episodes."""
    demos: Sequence[Episode]
    """Demonstrations, successful or not."""


def starts_folder() -> Path:
    """Where starts are kept unless said otherwise: the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "inril" / "starts"


def start_digest(job: Job, config: FineTuneConfig, task: Meter) -> str:
    """SHA-256 (16 hex digits) of all that decides a start, the code included."""
    values = config.model_dump(mode="json")
    parts = [values[part] for part in ("policy", "pretrain", "il")]
    facts = [job.task, task_digest(task.interface), job.seed, job.demos, job.start_episodes, code_digest(), parts]
    facts += [job.look_around_steps] if job.look_around_steps else []
    facts += [] if job.demo_sha256 is None else [job.demo_sha256, job.unlabelled_demos_succeed]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def demonstrations(job: Job, task: Meter) -> list[Episode]:
    """Those of a job's seed: shown by the task's expert, or drawn from the job's file, each at most once.

    Raises:
        ConfigError: nobody can demonstrate the task; the file cannot be read, or holds too few.
    """
    if job.demo_file is None:
        seeds = [episode_seed("demo", i, job.seed) for i in range(job.demos)]
        return collect_demos(task, task.expert(), seeds, job.look_around_steps)
    from inril_core.tasks.robomimic import read_robomimic

    name = job.task.removeprefix("robosuite:")
    found = read_robomimic(Path(job.demo_file).expanduser(), name, unlabelled_succeed=job.unlabelled_demos_succeed)
    if len(found) < job.demos:
        raise ConfigError(f"{job.demo_file}: holds {len(found)} demonstrations, demos = {job.demos} are asked for")
    return [found[i] for i in np.random.default_rng([job.seed, _DRAW]).permutation(len(found))[: job.demos]]


def get_start(job: Job, config: FineTuneConfig, task: Meter, folder: Path) -> Start:
    """The start of a job, from ``folder`` or made and left there; who comes second waits for who is making it.

    Raises:
        ConfigError: nobody can demonstrate the task, or no demonstration was successful.
        FileBusy: who is making it does not come to an end.
    """
    demos = demonstrations(job, task)
    folder.mkdir(parents=True, exist_ok=True)
    name = start_digest(job, config, task)
    file, facts_file = folder / f"{name}.safetensors", folder / f"{name}.json"
    with open(folder / f"{name}.lock", "w") as lock:
        lock_file(lock, LONGEST_S)
        facts = _read(facts_file)
        if facts is None or not file.exists():
            save_policy(file, pretrain(config, task.interface, demos), {})
            policy, _ = load_policy(file)
            task.take("eval")
            wins = sum(evaluate(task, policy, [episode_seed("eval", i, 0) for i in range(job.start_episodes)]))
            facts = {
                "successes": int(wins),
                "mean_return": round(sum(task.take("eval")) / job.start_episodes, 3),
                "weights": weights_digest(policy),
            }
            write_atomically(facts_file, json.dumps(facts).encode())
    try:
        policy, _ = load_policy(file)
    except ConfigError as error:
        raise ConfigError(f"{error}; a kept start is damaged: delete {file}") from error
    return Start(policy, facts["weights"], facts["successes"], facts["mean_return"], demos)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        return values
    except (OSError, ValueError):
        return None
