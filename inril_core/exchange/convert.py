"""A foreign episode in a contract's terms, by its mapping: what does not fit is named, nothing is guessed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation as R

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.data.episode import RANGE_LIMIT, SOURCE_HUMAN, SOURCE_POLICY, Episode
from inril_core.errors import ConfigError
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.mapping import ANGLES, LENGTHS, FieldMap, ImportMap, PoseMap, Sources
from inril_core.exchange.rotations import rot6d, rotations

RATE_TOLERANCE = 0.02
"""Relative difference of two rates that are taken as one."""
STAMP_TOLERANCE = 0.05
"""Relative difference between the rate that a file states and the median rate of its stamps."""


@dataclass(frozen=True)
class Converted:
    """An episode and what is to be told of it."""

    episode: Episode
    warnings: tuple[str, ...]


def convert(foreign: Foreign, map_: ImportMap, contract: Contract, run_id: str, source: str, number: int) -> Converted:
    """The episode in the contract's terms. source: name of the file, for the id. number: counts from 0, the seed.

    Raises:
        ConfigError: a column is missing or has another size, a unit, frame or rate differs, a number is not finite, or
            no step is left.
    """
    states = {f.name: _field(foreign, map_, contract, f.name) for f in contract.observation}
    rows = {len(values) for values in states.values()}
    actions = foreign.column(_first(map_.action.source))
    if len(rows) > 1 or not rows <= {len(actions), len(actions) + 1}:
        raise ConfigError(f"{foreign.name}: observations of {sorted(rows)} rows for {len(actions)} actions")
    observed = np.concatenate([states[f.name] for f in contract.observation], 1)
    pose = _tool_pose(foreign, map_, states)
    seen, acted, times_s = joined_steps(foreign, map_, contract, len(observed), len(actions))
    moved = actions_of(foreign, map_, contract, pose, acted, seen)
    wanted = moved.astype(np.float32)
    executed = wanted.clip(-1.0, 1.0)
    clipped = (executed != wanted).any(1)
    for name, values in (("observations", observed), ("actions", wanted), ("tool_pose", pose)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values).reshape(len(values), -1).all(1))[0, 0])
            raise ConfigError(f"{foreign.name}: {name} is not finite in row {row}; correct the file or leave it out")
    steps = len(executed)
    success = {"file": foreign.success, "all": True, "none": False, "unknown": None}[map_.success]
    images = {name: _images(foreign, contract, name, key)[seen] for name, key in map_.images.items()}
    human = map_.source == "human"
    state = observed[seen].astype(np.float32)
    episode = Episode(
        episode_id=_episode_id(source, foreign.name),
        run_id=run_id,
        task=contract.task,
        purpose=map_.purpose,
        seed=number,
        explore=False,
        contract_text=contract.text,
        interface_digest=contract.interface_digest,
        deployment_digest=contract.deployment_digest,
        observations=state,
        actions=executed,
        proposed=wanted,
        raw=np.full_like(executed, np.nan),
        log_prob=np.full(steps, np.nan, np.float32),
        source=np.full(steps, SOURCE_HUMAN if human else SOURCE_POLICY, np.uint8),
        policy_run_ids=("",) * steps,
        policy_n=np.full(steps, -1, np.int64),
        limits=tuple((RANGE_LIMIT,) if row else () for row in clipped),
        stamps_ns=np.round(times_s * 1e9).astype(np.int64),
        tool_pose=pose[seen],
        link_age_s=np.full((steps + 1, len(contract.links)), np.nan, np.float32),
        success=success,
        terminated=success is True,
        truncated=success is not True,
        outcome_source="import",
        outcome_reason="success" if success else "end_of_recording",
        complete=True,
        images=images,
        image_steps={name: np.arange(steps + 1, dtype=np.int32) for name in images},
        sha256=hashlib.sha256(state.tobytes() + executed.tobytes()).hexdigest(),
    )
    return Converted(episode, _warnings(foreign, clipped, success))


def _warnings(foreign: Foreign, clipped: np.ndarray, success: bool | None) -> tuple[str, ...]:
    found = []
    if clipped.any():
        found.append(
            f"{foreign.name}: {int(clipped.sum())} of {len(clipped)} actions are beyond [-1, 1] and are clipped; "
            "is action.kind or its unit another one?"
        )
    if success is None:
        found.append(f"{foreign.name}: nothing says whether it succeeded; `inril data annotate` does")
    return tuple(found)


def _field(foreign: Foreign, map_: ImportMap, contract: Contract, name: str) -> np.ndarray:
    wanted = next(f for f in contract.observation if f.name == name)
    if name not in map_.observation:
        raise ConfigError(f"observation.{name}: is missing in the mapping; the contract {contract.task} has it")
    given = map_.observation[name]
    if given.frame != wanted.frame:
        raise ConfigError(f"observation.{name}: is in frame {given.frame!r}, the contract's is in {wanted.frame!r}")
    values = columns_of(foreign, given.source)
    if given.rotation is not None:
        factor = angle_factor(given, name)
        values = rot6d(rotations(values * factor, given.rotation, f"{foreign.name}: {name}"))
    else:
        values = values * unit_factor(given.unit, wanted.unit, f"observation.{name}")
    if values.shape[1] != wanted.size:
        raise ConfigError(f"{foreign.name}: {name} has {values.shape[1]} numbers, the contract's has {wanted.size}")
    return values


def angle_factor(given: FieldMap, name: str) -> float:
    """What the field's angles are multiplied by to be rad; 1 for a rotation that has none.

    Raises:
        ConfigError: they are in something else than rad or deg.
    """
    if given.rotation in ("rotvec", "euler_xyz"):
        if given.unit not in ANGLES:
            raise ConfigError(f"observation.{name}: unit = {given.unit!r}: an angle is in rad or deg")
        return ANGLES[given.unit]
    return 1.0


def unit_factor(given: str, wanted: str, name: str) -> float:
    """What numbers in ``given`` are multiplied by to be in ``wanted``. name: of the setting, for messages.

    Raises:
        ConfigError: they differ, and are not both lengths or both angles.
    """
    for units in (LENGTHS, ANGLES):
        if given in units and wanted in units:
            return units[given] / units[wanted]
    if given != wanted:
        raise ConfigError(
            f"{name}: unit = {given!r}, the contract's is {wanted!r}; only lengths and angles are converted"
        )
    return 1.0


def _first(sources: Sources) -> str:
    return sources if isinstance(sources, str) else sources[0]


def columns_of(foreign: Foreign, sources: Sources) -> np.ndarray:
    """``float64[n, size]``: the columns of ``sources`` one behind the other.

    Raises:
        ConfigError: one is missing, or they have different numbers of rows.
    """
    parts = [foreign.column(s) for s in ([sources] if isinstance(sources, str) else sources)]
    if len({len(part) for part in parts}) > 1:
        raise ConfigError(f"{foreign.name}: {sources} have different numbers of rows")
    return np.concatenate(parts, 1)


def _tool_pose(foreign: Foreign, map_: ImportMap, states: dict[str, np.ndarray]) -> np.ndarray:
    if map_.tool_pose is not None:
        return _pose(foreign, map_.tool_pose)
    if not {"tool_position_m", "tool_rot6d"} <= states.keys():
        raise ConfigError(
            "tool_pose: is missing in the mapping, and the contract has no tool_position_m and tool_rot6d"
        )
    turned = rotations(states["tool_rot6d"], "rot6d", f"{foreign.name}: tool_rot6d")
    return np.concatenate([states["tool_position_m"], turned.as_quat()], 1)


def _pose(foreign: Foreign, given: PoseMap) -> np.ndarray:
    position = columns_of(foreign, given.position) * LENGTHS[given.unit]
    if position.shape[1] != 3:
        raise ConfigError(f"{foreign.name}: {given.position} has {position.shape[1]} numbers, a position has 3")
    turned = rotations(columns_of(foreign, given.rotation), given.rotation_kind, f"{foreign.name}: {given.rotation}")
    return np.concatenate([position, turned.as_quat()], 1)


def joined_steps(
    foreign: Foreign, map_: ImportMap, contract: Contract, observed: int, acted: int
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """How rows at the file's rate become steps at the contract's.

    Args:
        observed, acted: rows of observations and of actions.

    Returns:
        Rows of the T + 1 observations, rows of the actions of each of T steps, and the observations' times in s.

    Raises:
        ConfigError: no rate is stated, or it cannot be brought to the contract's.
    """
    rate_hz = foreign.rate_hz if foreign.rate_hz is not None else map_.rate_hz
    if rate_hz is None:
        raise ConfigError(f"rate_hz: {foreign.name} does not say its rate; give it in the mapping")
    if (
        foreign.rate_hz is not None
        and map_.rate_hz is not None
        and _differ(foreign.rate_hz, map_.rate_hz, RATE_TOLERANCE)
    ):
        raise ConfigError(f"rate_hz = {map_.rate_hz:g}: {foreign.name} says {foreign.rate_hz:g} Hz")
    if foreign.stamps_s is not None and len(foreign.stamps_s) > 2:
        gaps_s = np.diff(foreign.stamps_s)
        if not (gaps_s > 0.0).all():
            raise ConfigError(f"{foreign.name}: its stamps do not increase at row {int(np.argmin(gaps_s)) + 1}")
        median_hz = 1.0 / float(np.median(gaps_s))
        if _differ(median_hz, rate_hz, STAMP_TOLERANCE):
            raise ConfigError(
                f"{foreign.name}: states {rate_hz:g} Hz, its stamps say {median_hz:.3g} Hz; give rate_hz as it is"
            )
    ratio = rate_hz / contract.control_rate_hz
    rows = min(acted, observed - 1)
    if _differ(ratio, 1.0, RATE_TOLERANCE):
        if not map_.resample:
            raise ConfigError(
                f"{foreign.name}: is at {rate_hz:g} Hz, the contract at {contract.control_rate_hz:g} Hz; "
                "set resample: true in the mapping to bring it to that rate"
            )
        if map_.action.kind != "absolute_pose" and (ratio < 1.0 or abs(ratio - round(ratio)) > RATE_TOLERANCE):
            raise ConfigError(
                f"{foreign.name}: {map_.action.kind} actions at {rate_hz:g} Hz cannot be brought to "
                f"{contract.control_rate_hz:g} Hz; only a whole multiple can be joined"
            )
        ratio = float(round(ratio)) if map_.action.kind != "absolute_pose" else ratio
    else:
        ratio = 1.0
    steps = int(np.floor(rows / ratio + 1e-9))
    if steps < 1:
        raise ConfigError(f"{foreign.name}: no whole step: an observation, its action and the observation after it")
    seen = np.minimum(np.round(np.arange(steps + 1) * ratio).astype(int), observed - 1)
    ends = [max(int(seen[k]) + 1, int(seen[k + 1])) for k in range(steps)]
    joined = [np.arange(min(int(seen[k]), acted - 1), min(ends[k], acted)) for k in range(steps)]
    times_s = np.arange(steps + 1) / contract.control_rate_hz
    if foreign.stamps_s is not None and len(foreign.stamps_s) >= observed and ratio == 1.0:
        times_s = foreign.stamps_s[seen]
    return seen, joined, times_s


def _differ(a: float, b: float, tolerance: float) -> bool:
    return abs(a / b - 1.0) > tolerance


def actions_of(
    foreign: Foreign, map_: ImportMap, contract: Contract, pose: np.ndarray, joined: list[np.ndarray], seen: np.ndarray
) -> np.ndarray:
    """``float64[T, A]`` in contract units, not clipped.

    Args:
        pose: float64[n, 7], the tool's pose before each row; looked at for absolute poses and for the tool's frame.
        joined, seen: of `joined_steps`.

    Raises:
        ConfigError: a column is missing or has another size.
    """
    given, spec = map_.action, contract.action
    last = np.array([rows[-1] for rows in joined])
    if given.kind == "normalised":
        values = columns_of(foreign, given.source)
        if values.shape[1] != spec.size:
            raise ConfigError(
                f"action: {given.source} has {values.shape[1]} numbers, the contract's action has {spec.size}"
            )
        moves, turns = values[:, :3] * spec.translation_scale_m, R.from_rotvec(values[:, 3:6] * spec.rotation_scale_rad)
        if all(len(rows) == 1 for rows in joined):
            return values[last]
        return _normalised(*_join(moves, turns, joined), values[last, 6:], contract)
    if given.rotation is None:
        raise ConfigError(f"action.rotation: is missing; {given.kind} needs it")
    position = columns_of(foreign, given.source) * LENGTHS[given.unit]
    if position.shape[1] != 3:
        raise ConfigError(f"action.from: {given.source} has {position.shape[1]} numbers, a position has 3")
    turned = rotations(columns_of(foreign, given.rotation), given.rotation_kind, f"{foreign.name}: action.rotation")
    gripper = _gripper(foreign, map_, contract)[last]
    if given.kind == "absolute_pose":
        position, turned = position[last], turned[last]
        measured = R.from_quat(pose[seen[:-1], 3:])
        before, before_turned = pose[seen[:-1], :3], measured
        if spec.delta_reference == "commanded":
            before = np.concatenate([before[:1], position[:-1]])
            before_turned = R.concatenate([measured[:1], turned[:-1]]) if len(position) > 1 else measured[:1]
        return _normalised(position - before, turned * before_turned.inv(), gripper, contract)
    if given.frame == "tool":
        tool = R.from_quat(pose[: len(position), 3:])
        position, turned = tool.apply(position), tool * turned * tool.inv()
    return _normalised(*_join(position, turned, joined), gripper, contract)


def _join(moves: np.ndarray, turns: R, joined: list[np.ndarray]) -> tuple[np.ndarray, R]:
    """The motion of several rows as one: translations add up, rotations follow one another."""
    total = np.stack([moves[rows].sum(0) for rows in joined])
    whole = []
    for rows in joined:
        turned = R.identity()
        for row in rows:
            turned = turns[int(row)] * turned
        whole.append(turned.as_quat())
    return total, R.from_quat(np.stack(whole))


def _normalised(moves: np.ndarray, turns: R, gripper: np.ndarray, contract: Contract) -> np.ndarray:
    spec = contract.action
    return np.concatenate([moves / spec.translation_scale_m, turns.as_rotvec() / spec.rotation_scale_rad, gripper], 1)


def _gripper(foreign: Foreign, map_: ImportMap, contract: Contract) -> np.ndarray:
    """``float64[n, 1]`` from -1 (open) to 1 (closed), ``[n, 0]`` for a contract without one."""
    given = map_.action
    if not isinstance(contract.action, DeltaPoseGripper):
        return np.zeros((len(foreign.column(_first(given.source))), 0))
    if given.gripper is None:
        raise ConfigError("action.gripper: is missing; the contract's action has a gripper")
    values = foreign.column(given.gripper)
    share = (values - given.gripper_open) / (given.gripper_closed - given.gripper_open)
    return 2.0 * share - 1.0


def _images(foreign: Foreign, contract: Contract, name: str, key: str) -> np.ndarray:
    wanted = next((image for image in contract.images if image.name == name), None)
    if wanted is None:
        raise ConfigError(f"images.{name}: the contract has no such image; it has {[i.name for i in contract.images]}")
    if key not in foreign.images:
        raise ConfigError(f"images.{name}: {foreign.name} has no image {key!r}; there are {foreign.described()}")
    pixels, size = foreign.images[key], (wanted.height_px, wanted.width_px)
    if pixels.shape[1:3] == size:
        return pixels
    check_proportions(pixels.shape[1:3], size, f"images.{name}", "the contract's")
    return np.stack([resized(frame, size) for frame in pixels])


def check_proportions(given: tuple[int, ...], wanted: tuple[int, int], name: str, whose: str) -> None:
    """Check that an image of (height, width) ``given`` px can be scaled to ``wanted``.

    Raises:
        ConfigError: it would be distorted.
    """
    if given[0] * wanted[1] != given[1] * wanted[0]:
        raise ConfigError(f"{name}: is {given[1]}x{given[0]}, {whose} is {wanted[1]}x{wanted[0]}")


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``uint8[H, W, 3]`` scaled to (height, width) px by averaging, as cameras' images are for the contract."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BOX))


def _episode_id(source: str, name: str) -> str:
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{source}-{name}").strip("-._") or "imported"
    digest = hashlib.sha256(f"{source}/{name}".encode()).hexdigest()[:8]
    return f"{text[:100]}-{digest}"
