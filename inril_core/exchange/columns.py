"""What an episode is made of, by name: the one list that every format writes and reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inril_core.contract import Contract, contract_from_text
from inril_core.data.episode import Episode, InvalidEpisode, stated_rewards
from inril_core.errors import InrilError

FACTS = (
    "episode_id",
    "run_id",
    "task",
    "purpose",
    "seed",
    "explore",
    "contract_text",
    "interface_digest",
    "deployment_digest",
    "success",
    "terminated",
    "truncated",
    "outcome_source",
    "outcome_reason",
    "complete",
)
STEP_COLUMNS = {
    "actions": np.float32,
    "proposed": np.float32,
    "raw": np.float32,
    "log_prob": np.float32,
    "source": np.uint8,
    "policy_n": np.int64,
    "aux": np.float32,
    "chunk_index": np.int32,
    "rewards": np.float32,
    "expert_actions": np.float32,
    "marks": np.uint8,
    "given_rewards": np.float32,
    "disagreement": np.float32,
}
"""Columns with a row for each of T actions, as in `Episode`."""
OBSERVATION_COLUMNS = {
    "observations": np.float32,
    "stamps_ns": np.int64,
    "tool_pose": np.float64,
    "link_age_s": np.float32,
    "qpos": np.float64,
}
"""Columns with a row for each of T + 1 observations."""
TEXT_COLUMNS = ("policy_run_ids", "limits")
"""Texts of each action; several limits are joined by commas."""
UNITS = {
    "actions": "contract units within [-1, 1], executed, after all limits",
    "proposed": "contract units, as the source asked",
    "raw": "the policy's sample before squashing; NaN where no policy answered",
    "log_prob": "of raw; NaN where there is none",
    "source": "0 policy, 1 human, 2 hold, 3 reset",
    "policy_n": "number of the policy's version; -1 where none answered",
    "policy_run_ids": "run of the policy's version; empty where none answered",
    "limits": "names of the limits that changed the action, joined by commas",
    "aux": "what the policy noted besides",
    "chunk_index": "place in the policy's plan; -1 where no policy answered",
    "rewards": "the simulator's own reward",
    "expert_actions": "what an expert would have done; NaN where nobody was asked",
    "marks": "0 none, 1 failure, 2 recovery, 3 correction, as a person marked them afterwards",
    "disagreement": "root mean square of the policy's proposal minus the person's action; NaN where none",
    "given_rewards": "rewards that a person gave afterwards; NaN where none",
    "observations": "SI units, the contract's fields in order",
    "stamps_ns": "ROS time in ns",
    "tool_pose": "measured, base frame: x y z in m, quaternion x y z w",
    "link_age_s": "s, in the order of the contract's links; NaN where never heard",
    "qpos": "generalised positions of the simulator",
}


@dataclass
class Rows:
    """An episode as named columns. A column that the episode does not have is absent."""

    facts: dict[str, Any]
    """JSON values, `FACTS` by name."""
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    """T rows each; texts as numpy arrays of objects."""
    observations: dict[str, np.ndarray] = field(default_factory=dict)
    """T + 1 rows each."""
    images: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """(int32[n] the observation each belongs to, uint8[n, H, W, 3]) by name."""


def rows_of(episode: Episode) -> Rows:
    """All of an episode, without loss."""
    rows = Rows({name: getattr(episode, name) for name in FACTS})
    for name in STEP_COLUMNS:
        if getattr(episode, name) is not None:
            rows.steps[name] = getattr(episode, name)
    for name in OBSERVATION_COLUMNS:
        if getattr(episode, name) is not None:
            rows.observations[name] = getattr(episode, name)
    rows.steps["policy_run_ids"] = np.array(episode.policy_run_ids, object)
    rows.steps["limits"] = np.array([",".join(names) for names in episode.limits], object)
    rows.images = {name: (episode.image_steps[name], pixels) for name, pixels in episode.images.items()}
    return rows


def episode_of(rows: Rows) -> Episode:
    """The inverse of `rows_of`.

    Raises:
        InvalidEpisode: a column is missing or does not fit.
    """
    missing = sorted(
        {name for name in FACTS if name not in rows.facts}
        | {n for n in (*STEP_COLUMNS, *TEXT_COLUMNS) if n not in rows.steps and n not in _OPTIONAL}
        | {n for n in OBSERVATION_COLUMNS if n not in rows.observations and n not in _OPTIONAL}
    )
    if missing:
        raise InvalidEpisode(f"columns {missing} are missing")
    arrays: dict[str, Any] = {
        n: np.ascontiguousarray(rows.steps[n], t) for n, t in STEP_COLUMNS.items() if n in rows.steps
    }
    arrays |= {
        n: np.ascontiguousarray(rows.observations[n], t)
        for n, t in OBSERVATION_COLUMNS.items()
        if n in rows.observations
    }
    digest = hashlib.sha256(json.dumps(rows.facts, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return Episode(
        **{name: rows.facts[name] for name in FACTS},
        **arrays,
        policy_run_ids=tuple(str(text) for text in rows.steps["policy_run_ids"]),
        limits=tuple(tuple(n for n in str(text).split(",") if n) for text in rows.steps["limits"]),
        images={name: np.ascontiguousarray(pixels, np.uint8) for name, (_, pixels) in rows.images.items()},
        image_steps={name: np.ascontiguousarray(steps, np.int32) for name, (steps, _) in rows.images.items()},
        sha256=digest.hexdigest(),
    )


_OPTIONAL = {"aux", "chunk_index", "rewards", "expert_actions", "marks", "given_rewards", "disagreement", "qpos"}


def contract_of(text: str) -> Contract | None:
    """The contract in an episode's text; None for a task that has none."""
    try:
        return contract_from_text(text)
    except InrilError:
        return None


def observation_slices(episode_text: str, width: int) -> dict[str, slice]:
    """Where each field lies in the observation vector; ``state`` for a task without a contract."""
    contract = contract_of(episode_text)
    return {"state": slice(0, width)} if contract is None else contract.slices()


def field_units(text: str) -> dict[str, tuple[str, str]]:
    """(unit, frame) of each observation field."""
    contract = contract_of(text)
    return {} if contract is None else {f.name: (f.unit, f.frame) for f in contract.observation}


def action_names(text: str, size: int) -> list[str]:
    """A name for each number of an action."""
    contract = contract_of(text)
    names = ["x", "y", "z", "rx", "ry", "rz", "gripper"]
    return names[:size] if contract is not None else [f"action_{index}" for index in range(size)]


def reward_and_done(episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """float32[T] and bool[T] for formats that need them: see `stated_rewards`; done is the last step."""
    done = np.zeros(episode.steps, bool)
    done[-1] = True
    return stated_rewards(episode), done


def json_facts(facts: Mapping[str, Any]) -> str:
    """Facts as one line of JSON."""
    return json.dumps(dict(facts), sort_keys=True, separators=(",", ":"))
