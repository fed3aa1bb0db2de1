"""The plan of an evaluation session: what is compared, on which starts, in which order, and what will be concluded.

The file `plan.json` holds the plan and its SHA-256. Policies appear as codes; which is which lies in `sealed.json`, of
which the plan holds the digest. So whoever sets up the cell and labels the trials cannot know which policy runs, and
nobody can change afterwards what a code meant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.run import RunPaths

FIRST_SEED = 700_000
"""Of the starts: none of demonstrations, training or other evaluations (`inril_core.session.plan.SEED_BASE`)."""
FAILURE_TAGS = ("missed", "dropped", "stuck", "collision", "wrong pose", "too slow", "safety stop", "other")
MAX_STARTS, MAX_REPETITIONS, MAX_TRIALS = 10_000, 1000, 100_000
"""Of a level, from each start, and of a session: above these a number is taken for a slip."""
STARTS = {"full": "eval", "narrow": "demo"}
"""Randomness level to the purpose whose starts the cell draws: the contract's range, and that of demonstrations."""

Code = Annotated[str, Field(pattern="^[A-Z]$")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$")]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Level(_Frozen):
    """Starts of one randomness level; every policy meets each of them."""

    name: Literal["full", "narrow"]
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(min_length=1, max_length=MAX_STARTS)
    """Each decides one start of the cell. On a real arm: the number of a layout that a person sets up."""

    @property
    def purpose(self) -> str:
        """Whose starts the cell draws."""
        return STARTS[self.name]


class Trial(_Frozen):
    """One trial of one policy."""

    block: Annotated[int, Field(ge=0)]
    """Trials of one block share the start and its repetition; each policy has one."""
    level: Literal["full", "narrow"]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    code: Code

    @property
    def purpose(self) -> str:
        """Whose starts the cell draws."""
        return STARTS[self.level]


class Question(_Frozen):
    """What the session is to find out, asked before it."""

    baseline: Annotated[float, Field(ge=0.0, le=1.0)]
    """Success rate of the control, about."""
    difference: Share
    """Smallest gain that matters, as a success rate."""
    power: Share
    """Wanted probability to find it if it is there."""
    trials_needed_n: Annotated[int, Field(ge=1)]
    """Of each policy, for that power."""
    power_planned: Annotated[float, Field(ge=0.0, le=1.0)]
    """Of the number of trials that is planned."""


class Plan(_Frozen):
    """Everything that is fixed before the first trial."""

    schema_version: Literal[1] = 1
    session_id: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9-]{0,47}$")]
    created_unix_s: Annotated[float, Field(ge=0.0)]
    task: Annotated[str, Field(min_length=1)]
    """As `inril_core.tasks.make_task` reads it; for the graph, the contract."""
    contract_text: str
    """As it travels with recordings."""
    interface_digest: Digest
    deployment_digest: Digest
    codes: tuple[Code, ...] = Field(min_length=1, max_length=26)
    sealed_sha256: Digest
    """Of `sealed.json`."""
    levels: tuple[Level, ...] = Field(min_length=1)
    repetitions: Annotated[int, Field(ge=1, le=MAX_REPETITIONS)]
    """Trials of each policy from each start."""
    trials: tuple[Trial, ...] = Field(min_length=1, max_length=MAX_TRIALS)
    """In the order in which they are run."""
    explore: bool = False
    """Whether the policies sample; otherwise they act deterministically."""
    confidence: Share = 0.95
    """1 - the two-sided false-alarm rate of all comparisons with the control together (Bonferroni)."""
    sequential: bool = False
    """The session may stop after any block when every comparison is decided; its error rates hold all the same."""
    question: Question
    on_intervention: Literal["failure", "ignore"] = "failure"
    """What a trial counts in which a person took control."""
    failure_tags: tuple[Name, ...] = FAILURE_TAGS
    """What an operator may say of a failure."""

    @model_validator(mode="after")
    def _whole_blocks(self) -> Plan:
        blocks: dict[int, list[Trial]] = {}
        for trial in self.trials:
            blocks.setdefault(trial.block, []).append(trial)
        for number, members in blocks.items():
            if sorted(t.code for t in members) != sorted(self.codes):
                raise ValueError(f"block {number}: must have one trial of each of {', '.join(self.codes)}")
            if len({(t.level, t.seed) for t in members}) != 1:
                raise ValueError(f"block {number}: its trials must share the start")
        return self

    @property
    def comparison_confidence(self) -> float:
        """Confidence of one comparison with the control."""
        return 1.0 - (1.0 - self.confidence) / max(1, len(self.codes) - 1)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the plan."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()

    def version_n(self, code: str) -> int:
        """Number of the code's weights in the session's folder."""
        return self.codes.index(code)


def order(
    levels: Sequence[Level], codes: Sequence[str], repetitions: int, rng: np.random.Generator
) -> tuple[Trial, ...]:
    """All trials in randomised blocks: what drifts (light, wear, the operator) meets all policies alike.

    One block is one start, with every policy once in random order; the blocks of all levels are mixed.
    """
    cells = [(level.name, seed) for _ in range(repetitions) for level in levels for seed in level.seeds]
    trials = []
    for block, index in enumerate(rng.permutation(len(cells))):
        name, seed = cells[index]
        members = [codes[i] for i in rng.permutation(len(codes))]
        trials += [Trial(block=block, level=name, seed=seed, code=code) for code in members]
    return tuple(trials)


def write_plan(folder: Path, plan: Plan) -> None:
    """Put the plan into its folder, read-only.

    Raises:
        OSError: the disk is full or broken.
    """
    content = {"digest": plan.digest, "plan": plan.model_dump(mode="json")}
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(RunPaths(folder).evaluation_plan, text.encode(), mode=0o444)


def read_plan(folder: Path) -> Plan:
    """The locked plan of a session.

    Raises:
        ConfigError: there is none, it is damaged, or it was changed after it was locked.
    """
    plan, digest = read_unlocked(folder)
    if plan.digest != digest:
        raise ConfigError(
            f"{RunPaths(folder).evaluation_plan}: was changed after it was locked; restore it, or lock the change with "
            f"`inril evaluate amend {folder} --reason WHY`, which records it"
        )
    return plan


def read_unlocked(folder: Path) -> tuple[Plan, str]:
    """The plan and the digest it was locked with, which may be another's.

    Raises:
        ConfigError: there is none, or it is no plan.
    """
    path = RunPaths(folder).evaluation_plan
    try:
        content: Any = json.loads(path.read_bytes())
        return Plan.model_validate(content["plan"]), str(content["digest"])
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no plan; make one with `inril evaluate plan {folder} ...`") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; restore it, or make it readable") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: is no plan of an evaluation session; restore it\n{describe(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: is no plan of an evaluation session ({type(error).__name__}: {error}); restore it"
        ) from error


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
