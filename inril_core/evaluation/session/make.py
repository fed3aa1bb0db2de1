"""From policies, starts and a question to a session's folder."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import lock_plan
from inril_core.evaluation.session.plan import (
    FAILURE_TAGS,
    FIRST_SEED,
    MAX_REPETITIONS,
    MAX_STARTS,
    MAX_TRIALS,
    Level,
    Plan,
    Question,
    order,
)
from inril_core.evaluation.session.sealed import POLICIES, Sealed, Subject, write_sealed
from inril_core.evaluation.statistics.power import paired_power, paired_trials_n
from inril_core.files import parse_line, write_atomically
from inril_core.policies import Policy, load_policy, policy_from_manifest
from inril_core.policies.files import policy_bytes, policy_sha256
from inril_core.run import RunPaths, default_key_path, open_run
from inril_core.tasks import make_task
from inril_core.weights import load_or_create_key
from inril_core.weights.store import STATE_NAME, StoreState, read_kept

EXPERT = "expert"


@dataclass(frozen=True)
class Wish:
    """What a session is asked for; see `Plan` for the fields of the same name."""

    task: str
    subjects: Mapping[str, str]
    """Name to what acts: a policy file, ``RUN_DIR:N`` for a version that a run has kept, or ``expert``."""
    control: str
    """Name of the policy that the others are compared with."""
    starts: Mapping[str, int]
    """Number of starts by randomness level; empty: as many of the full range as the question needs."""
    difference: float
    baseline: float | None = None
    """None: the least favourable one, around one half."""
    power: float = 0.8
    confidence: float = 0.95
    repetitions: int = 1
    sequential: bool = False
    explore: bool = False
    on_intervention: Literal["failure", "ignore"] = "failure"
    failure_tags: Sequence[str] = FAILURE_TAGS
    first_seed: int = FIRST_SEED
    seeds: Mapping[str, Sequence[int]] | None = None
    """The starts themselves, by level, instead of ``starts`` and ``first_seed``: e.g. those that once failed."""


def make_session(root: Path, wish: Wish, rng: np.random.Generator | None = None) -> Plan:
    """Make the folder of a session, with its own copies of the policies.

    Args:
        rng: draws codes and order; None: nobody can predict them.

    Raises:
        ConfigError: a policy cannot be read or does not fit the task, the question has no answer, or the folder holds a
            plan already.
    """
    root = root.expanduser().absolute()
    if RunPaths(root).evaluation_plan.exists():
        raise ConfigError(f"{root}: holds a plan already; give another folder, or `inril evaluate amend` it")
    if wish.control not in wish.subjects or len(wish.subjects) > len(string.ascii_uppercase):
        raise ConfigError(
            f"control = {wish.control!r}: must be one of {', '.join(wish.subjects)}; at most 26 policies in a session"
        )
    rng = np.random.default_rng(secrets.randbits(128)) if rng is None else rng
    task = make_task(wish.task)
    try:
        interface = task.interface
        sizes = (interface.observation_size, interface.action_size)
        read = {name: _subject(name, what, interface.interface_digest, sizes) for name, what in wish.subjects.items()}
        if any(subject.kind == "expert" for subject, _ in read.values()):
            task.expert()
    finally:
        task.close()
    question, levels = _question(wish)
    codes = tuple(string.ascii_uppercase[: len(read)])
    names = [list(read)[i] for i in rng.permutation(len(read))]
    try:
        sealed = Sealed(
            nonce=secrets.token_hex(32),
            subjects={code: read[name][0] for code, name in zip(codes, names, strict=True)},
            control=codes[names.index(wish.control)],
        )
        plan = Plan(
            session_id=open_run(root).run_id,
            created_unix_s=time.time(),
            task=wish.task,
            contract_text=interface.text,
            interface_digest=interface.interface_digest,
            deployment_digest=interface.deployment_digest,
            codes=codes,
            sealed_sha256=sealed.sha256,
            levels=levels,
            repetitions=wish.repetitions,
            trials=order(levels, codes, wish.repetitions, rng),
            explore=wish.explore,
            confidence=wish.confidence,
            sequential=wish.sequential,
            question=question,
            on_intervention=wish.on_intervention,
            failure_tags=tuple(wish.failure_tags),
        )
    except ValidationError as error:
        raise ConfigError(f"the session cannot be planned:\n{describe(error)}") from error
    try:
        (root / POLICIES).mkdir(exist_ok=True)
        for subject, data in read.values():
            if data is not None:
                write_atomically(subject.file(root), data)
        write_sealed(root, sealed)
        lock_plan(root, plan)
    except OSError as error:
        raise ConfigError(f"{root}: {error.strerror or error}; free some space, or give another folder") from error
    return plan


def _question(wish: Wish) -> tuple[Question, tuple[Level, ...]]:
    if not 1 <= wish.repetitions <= MAX_REPETITIONS:
        raise ConfigError(f"repetitions = {wish.repetitions}: must be in [1, {MAX_REPETITIONS}]")
    baseline = max(0.0, 0.5 * (1.0 - wish.difference)) if wish.baseline is None else wish.baseline
    comparisons_n = max(1, len(wish.subjects) - 1)
    confidence = 1.0 - (1.0 - wish.confidence) / comparisons_n
    needed_n = paired_trials_n(baseline, wish.difference, wish.power, confidence)
    starts = dict(wish.starts) or {"full": -(-needed_n // wish.repetitions)}
    if wish.seeds is not None:
        starts = {name: len(given) for name, given in wish.seeds.items()}
    if any(count < 1 for count in starts.values()):
        raise ConfigError(f"starts = {starts}: each level needs 1 or more")
    trials_n = wish.repetitions * sum(starts.values()) * len(wish.subjects)
    if trials_n > MAX_TRIALS or max(starts.values()) > MAX_STARTS:
        raise ConfigError(
            f"{trials_n} trials on {starts} starts: at most {MAX_TRIALS} trials and {MAX_STARTS} starts of a level can "
            "be planned; give fewer starts or repetitions, or look for a larger difference"
        )
    if wish.seeds is not None:
        seeds = {name: [int(seed) for seed in given] for name, given in wish.seeds.items()}
    else:
        seeds = {name: list(range(wish.first_seed, wish.first_seed + count)) for name, count in starts.items()}
    try:
        levels = tuple(Level(name=name, seeds=tuple(given)) for name, given in seeds.items())
    except ValidationError as error:
        raise ConfigError(f"starts:\n{describe(error)}") from error
    planned_n = wish.repetitions * sum(len(level.seeds) for level in levels)
    question = Question(
        baseline=baseline,
        difference=wish.difference,
        power=wish.power,
        trials_needed_n=needed_n,
        power_planned=min(1.0, paired_power(planned_n, baseline, wish.difference, confidence)),
    )
    return question, levels


def _subject(name: str, what: str, interface_digest: str, sizes: tuple[int, int]) -> tuple[Subject, bytes | None]:
    """The policy and the bytes of its copy."""
    try:
        if what == EXPERT:
            return Subject(name=name, kind="expert", origin="the task's scripted expert"), None
        policy, facts = _read(what)
        if str(facts.get("interface_digest")) != interface_digest:
            raise ConfigError(f"policy {name!r} ({what}): was trained for another task or contract")
        if (policy.observation_size, policy.action_size) != sizes:
            raise ConfigError(
                f"policy {name!r} ({what}): observation and action sizes {policy.observation_size}, "
                f"{policy.action_size}: the task has {sizes[0]}, {sizes[1]}"
            )
        subject = Subject(name=name, kind="weights", weights_sha256=policy_sha256(policy), origin=what)
        return subject, policy_bytes(policy, facts)
    except ValidationError as error:
        raise ConfigError(f"policy {name!r}:\n{describe(error)}") from error


def _read(what: str) -> tuple[Policy, dict[str, Any]]:
    run, colon, number = what.rpartition(":")
    if not (colon and number.isdecimal() and Path(run).is_dir()):
        return load_policy(Path(what))
    folder = RunPaths(Path(run).expanduser().absolute()).weights
    if not folder.is_dir():
        raise ConfigError(f"{what}: {run} has kept no weights; give a policy file, or a run that has")
    try:  # a WeightStore would clear up, and the run may be going on
        kept = parse_line((folder / STATE_NAME).read_bytes(), StoreState).packs
        found = [pack for pack in kept if pack.n == int(number)]
        if not found:
            versions = ", ".join(str(pack.n) for pack in kept)
            raise ConfigError(f"{what}: version {number} is not kept; kept are {versions or 'none'}")
        key = load_or_create_key(default_key_path())
        state, manifest = read_kept(folder / found[-1].file_name, found[-1], key)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {folder} cannot be read ({error}); give a policy file") from error
    policy = policy_from_manifest(manifest["policy"])
    policy.load_state_dict(state)
    return policy, {k: manifest[k] for k in ("interface_digest", "contract_text", "run_id", "n")}
