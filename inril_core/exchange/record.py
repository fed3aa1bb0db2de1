"""An episode that came from elsewhere as a recording of this project: the same messages, read by the one reader."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mcap_ros2._dynamic import serialize_dynamic

from inril_core.data.episode import SOURCE_POLICY, Episode, stated_rewards
from inril_core.data.episode_writer import EpisodeWriter
from inril_core.data.finalise import finalise
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.schemas import (
    CELL_TRUTH,
    EPISODE_EVENT,
    EVENT_BEGIN,
    EVENT_END,
    EXECUTED_ACTION,
    OBSERVATION,
    POLICY_ACTION,
    TOPICS,
    MessageSchema,
    recorded_schemas,
)
from inril_core.vocabulary import Label, Mark, Phase, Purpose

BOOT_ID = "imported"
_FRAME = "base"


def record_episode(
    episode: Episode, raw: Path, index: EpisodeIndex, origin: Mapping[str, Any], stamp_ns: int
) -> IndexEntry:
    """Write an episode as a finished recording beside ``index``, and list it.

    raw: a folder for the running file. origin: JSON values that say where it came from, kept in the recording.
    stamp_ns: Unix time, of what is annotated: marks, rewards, and an unknown outcome where the messages would say one.

    Raises:
        RecordingFailed, OSError: the disk is full. ConfigError: the message definitions are not installed.
    """
    schemas = _schemas()
    path = raw / f"{episode.episode_id}.mcap"
    path.unlink(missing_ok=True)
    writer = EpisodeWriter(path, episode.episode_id, _metadata(episode, origin), schemas)
    try:
        for topic, stamp, message, step in _messages(episode):
            writer.write(topic, _encoder(topic)(message), stamp, stamp, step)
    finally:
        writer.close()
    entry = finalise(path, index.path.parent, index)
    _annotate(episode, entry, index, stamp_ns)
    return entry


@cache
def _schemas() -> dict[str, MessageSchema]:
    return recorded_schemas()


@cache
def _encoder(topic: str) -> Callable[[Any], bytes]:
    schema = _schemas()[TOPICS[topic]]
    encode: Callable[[Any], bytes] = serialize_dynamic(schema.type_name, schema.text)[schema.type_name]
    return encode


def _metadata(episode: Episode, origin: Mapping[str, Any]) -> dict[str, str]:
    return {
        "schema_version": "1",
        "run_id": episode.run_id,
        "task": episode.task,
        "purpose": episode.purpose,
        "seed": str(episode.seed),
        "explore": "true" if episode.explore else "false",
        "max_steps": str(episode.steps),
        "contract": episode.contract_text,
        "interface_digest": episode.interface_digest,
        "deployment_digest": episode.deployment_digest,
        "images": ",".join(episode.images),
        "versions": json.dumps({"imported_from": dict(origin)}, sort_keys=True),
    }


def _messages(episode: Episode) -> Iterator[tuple[str, int, dict[str, Any], int | None]]:
    """(topic, stamp in ns, message, step) in the order of a running graph."""
    purpose = int(Purpose.of(episode.purpose))
    event = {
        "run_id": episode.run_id,
        "episode_id": episode.episode_id,
        "purpose": purpose,
        "seed": episode.seed,
        "explore": episode.explore,
        "max_steps": episode.steps,
    }
    stamps = episode.stamps_ns.tolist()
    yield EPISODE_EVENT, stamps[0], {"header": _header(stamps[0]), "event": EVENT_BEGIN, **event}, None
    for step, stamp in enumerate(stamps):
        header = _header(stamp)
        tick = {"header": header, "boot_id": BOOT_ID, "k": step}
        if episode.qpos is not None and np.isfinite(episode.qpos[step]).all():
            yield CELL_TRUTH, stamp, _truth(episode, step, header), None
        yield OBSERVATION, stamp, tick | _observation(episode, step, purpose), step
        if step < episode.steps:
            answered = _answered(episode, step)
            if answered:
                yield POLICY_ACTION, stamp, tick | _answer(episode, step), None
            yield EXECUTED_ACTION, stamp, tick | _executed(episode, step, answered), step
    label = int(Label.of(episode.success))
    said = {"label": label, "by": episode.outcome_source, "reason": episode.outcome_reason}
    yield EPISODE_EVENT, stamps[-1], {"header": _header(stamps[-1]), "event": EVENT_END, **event, **said}, None


def _observation(episode: Episode, step: int, purpose: int) -> dict[str, Any]:
    last = step == episode.steps
    outcome: dict[str, Any] = {}
    if step:
        outcome = {"episode_id": episode.episode_id, "step": step - 1}
    if last:
        outcome |= {
            "success": bool(episode.success),
            "terminated": episode.terminated,
            "truncated": episode.truncated,
            "source": episode.outcome_source,
            "reason": episode.outcome_reason,
        }
    p = episode.tool_pose[step].tolist()
    return {
        "episode_id": episode.episode_id,
        "step": step,
        "phase": int(Phase.RUN),
        "purpose": purpose,
        "seed": episode.seed,
        "explore": episode.explore,
        "state": episode.observations[step].tolist(),
        "images": [_image(episode, name, step) for name in episode.images],
        "tool_pose": {
            "position": dict(zip("xyz", p[:3], strict=True)),
            "orientation": dict(zip("xyzw", p[3:], strict=True)),
        },
        "link_age_s": episode.link_age_s[step].tolist(),
        "last": last,
        "outcome": outcome,
    }


def _image(episode: Episode, name: str, step: int) -> dict[str, Any]:
    header = {**_header(int(episode.stamps_ns[step])), "frame_id": name}
    places = np.flatnonzero(episode.image_steps[name] == step)
    if not len(places):
        return {"header": header}
    pixels = episode.images[name][places[0]]
    height, width, _ = pixels.shape
    size = {"height": height, "width": width, "encoding": "rgb8", "step": 3 * width}
    return {"header": header, **size, "data": pixels.tobytes()}


def _truth(episode: Episode, step: int, header: dict[str, Any]) -> dict[str, Any]:
    assert episode.qpos is not None
    success = step == episode.steps and episode.succeeded
    return {
        "header": header,
        "reset_id": episode.episode_id,
        "step": step,
        "qpos": episode.qpos[step].tolist(),
        "success": success,
    }


def _answered(episode: Episode, step: int) -> bool:
    planned = episode.chunk_index is not None and int(episode.chunk_index[step]) >= 0
    return planned or bool(np.isfinite(episode.log_prob[step]))


def _answer(episode: Episode, step: int) -> dict[str, Any]:
    raw = episode.raw[step]
    aux = np.zeros(0, np.float32) if episode.aux is None else episode.aux[step]
    return {
        "run_id": episode.policy_run_ids[step],
        "n": int(episode.policy_n[step]),
        "action": episode.proposed[step].tolist(),
        "raw": [] if np.isnan(raw).all() else raw.tolist(),
        "log_prob": float(episode.log_prob[step]),
        "chunk_index": 0 if episode.chunk_index is None else int(episode.chunk_index[step]),
        "aux": [] if np.isnan(aux).all() else aux.tolist(),
    }


def _executed(episode: Episode, step: int, answered: bool) -> dict[str, Any]:
    in_control = not answered or int(episode.source[step]) == SOURCE_POLICY
    return {
        "episode_id": episode.episode_id,
        "step": step,
        "source": int(episode.source[step]),
        "run_id": episode.policy_run_ids[step] if in_control else "",
        "n": int(episode.policy_n[step]) if in_control else -1,
        "proposed": episode.proposed[step].tolist(),
        "executed": episode.actions[step].tolist(),
        "limits": list(episode.limits[step]),
        "disagreement": math.nan if episode.disagreement is None else float(episode.disagreement[step]),
    }


def _header(stamp_ns: int) -> dict[str, Any]:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": _FRAME}


def _annotate(episode: Episode, entry: IndexEntry, index: EpisodeIndex, stamp_ns: int) -> None:
    name, by = episode.episode_id, episode.outcome_source
    if entry.success != episode.success:
        index.annotate(name, episode.success, by, stamp_ns)
    rewards = episode.given_rewards if episode.rewards is None else stated_rewards(episode)
    for values, word in ((episode.marks, "mark"), (rewards, "reward")):
        if values is None:
            continue
        for begin, end in runs_of(values):
            value = values[begin]
            if np.isnan(value):
                continue
            said = {"mark": Mark(int(value))} if word == "mark" else {"reward": float(value)}
            index.mark(name, (begin, end - 1), by, stamp_ns, **said)


def runs_of(values: np.ndarray) -> list[tuple[int, int]]:
    """(begin, end) of stretches of equal values."""
    cuts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    return list(zip(cuts[:-1], cuts[1:], strict=True))
