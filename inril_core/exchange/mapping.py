"""The file that says what another project's columns mean in a contract's terms. Nothing of it is guessed at import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, field_validator

from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError
from inril_core.exchange.foreign import Foreign
from inril_core.settings import Settings, read_settings

ASK = "???"
"""Stands in a template where a person must say something."""
LENGTHS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
ANGLES = {"rad": 1.0, "deg": 0.017453292519943295}
Rotation = Literal["rotvec", "quat_xyzw", "quat_wxyz", "matrix", "rot6d", "euler_xyz"]
Sources = str | list[str]


class FieldMap(Settings):
    """One observation field of the contract."""

    source: Sources = Field(alias="from")
    """``KEY``, ``KEY[3]``, ``KEY[0:3]``, or a list of such, one behind the other."""
    unit: str
    """Of the numbers in the file; lengths and angles are converted, another difference is refused."""
    frame: str
    """In which they are given; must be the contract's."""
    rotation: Rotation | None = None
    """The numbers are a rotation of this kind, which becomes the contract's six numbers."""


class PoseMap(Settings):
    """Position and rotation of the tool in the base frame."""

    position: Sources
    unit: Literal["m", "cm", "mm"] = "m"
    rotation: Sources
    rotation_kind: Rotation


class ActionMap(Settings):
    """What the file's action is."""

    source: Sources = Field(alias="from")
    """Of ``normalised``: all numbers. Of the others: three of the position."""
    kind: Literal["normalised", "delta_pose", "absolute_pose"]
    """``normalised``: the contract's own numbers in [-1, 1]. ``delta_pose``: change of the tool's pose in a period.
    ``absolute_pose``: the pose where the tool shall be."""
    unit: Literal["m", "cm", "mm"] = "m"
    rotation: Sources | None = None
    rotation_kind: Rotation = "rotvec"
    frame: Literal["base", "tool"] = "base"
    """In which a ``delta_pose`` is given."""
    gripper: str | None = None
    gripper_open: float = -1.0
    """Value of the ``gripper`` column that opens it."""
    gripper_closed: float = 1.0

    @field_validator("gripper_closed")
    @classmethod
    def _differs(cls, closed: float, info: object) -> float:
        if closed == getattr(info, "data", {}).get("gripper_open"):
            raise ValueError("is the value that opens it, too")
        return closed


class ImportMap(Settings):
    """What a file of another project means."""

    contract: str
    """Name of a packaged contract, or path of one."""
    purpose: Literal["demo", "train", "eval"] = "demo"
    source: Literal["human", "policy"] = "human"
    """Who acted."""
    rate_hz: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Of the file, where it does not say it itself."""
    resample: bool = False
    """Bring another rate to the contract's. Without, another rate is refused."""
    success: Literal["file", "all", "none", "unknown"] = "file"
    """Who says whether an episode succeeded: the file, or this line."""
    observation: dict[str, FieldMap]
    action: ActionMap
    tool_pose: PoseMap | None = None
    """None: taken from the contract's fields tool_position_m and tool_rot6d, where it has them."""
    images: dict[str, str] = {}
    """Contract's image to the file's key; images that are left out are not imported."""
    subset: str | None = None
    """robomimic: name of one of the file's masks."""
    topics: dict[str, Sources] = {}
    """rosbag2: column to ``TOPIC:FIELD.FIELD``, or to a list of such, one behind the other."""
    clock: float | str = ""
    """rosbag2: the topic whose messages are the steps, or a rate in Hz."""


def read_map(path: Path) -> ImportMap:
    """A mapping file.

    Raises:
        ConfigError: it cannot be read, says something else, or still has a question in it.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); write one with `inril data import --write-map`"
        ) from error
    lines = [(number, line.split("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1)]
    open_lines = [f"{number}: {line}" for number, line in lines if ASK in line]
    if open_lines:
        raise ConfigError(f"{path}: line {'; line '.join(open_lines[:6])}: replace {ASK} by what the file means")
    return read_settings(ImportMap, text, str(path))


def contract_for(map_: ImportMap, beside: Path | None = None) -> Contract:
    """The mapping's contract, by name or by a path that may be relative to the mapping."""
    near = (beside.parent / map_.contract) if beside is not None else None
    return load_contract(str(near) if near is not None and near.is_file() else map_.contract)


def template(contract_name: str, contract: Contract, example: Foreign | None) -> str:
    """A mapping to fill in: the contract's fields with their units, and what the file has, in comments."""
    columns = (
        {}
        if example is None
        else {key: values.reshape(len(values), -1).shape[1] for key, values in example.columns.items()}
    )
    named = {key.rsplit("/", 1)[-1].removeprefix("observation."): key for key in columns}

    def guess(name: str, size: int) -> str:
        key = named.get(name)
        return key if key is not None and columns[key] == size else ASK

    observation = {
        f.name: {
            "from": guess(f.name, f.size),
            "unit": ASK if guess(f.name, f.size) == ASK else f.unit,
            "frame": f.frame,
        }
        for f in contract.observation
    }
    action_key = next((key for key in ("action", "actions") if columns.get(key) == contract.action_size), ASK)
    has_images = example is not None and bool(example.images or example.skipped)
    values = {
        "contract": contract_name,
        "purpose": "demo",
        "source": "human",
        "rate_hz": None if example is not None and example.rate_hz else ASK,
        "resample": False,
        "success": "file" if example is not None and example.success is not None else ASK,
        "observation": observation,
        "action": {"from": action_key, "kind": ASK},
        "images": {image.name: ASK for image in contract.images} if has_images else {},
    }
    lines = [
        "# What the columns of the file mean in the contract's terms. Replace each ??? ; unknown words are refused."
    ]
    lines += [
        f"#   {field.name}: {list(field.shape)} {field.unit}, frame {field.frame}" for field in contract.observation
    ]
    lines += [
        f"# The action has {contract.action_size} numbers, {contract.action.kind}, at {contract.control_rate_hz:g} Hz."
    ]
    lines += ["# action.kind: normalised, delta_pose or absolute_pose; the last two need rotation and rotation_kind."]
    if example is not None:
        rate = "an unknown rate" if example.rate_hz is None else f"{example.rate_hz:g} Hz"
        lines += [f"# {example.name} of the file, at {rate}, has:"]
        lines += [f"#   {part}" for part in example.described().split(", ")]
    return "\n".join(lines) + "\n" + yaml.safe_dump(values, sort_keys=False, width=120)
