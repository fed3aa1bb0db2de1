"""A policy of another project in a contract's terms: what it is given and what its actions mean, by the mapping that
`inril data import` reads for the data it was trained on. Observations go the other way round than there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation as R

from inril_core.contract import Contract
from inril_core.control.observation import split_observations
from inril_core.errors import ConfigError
from inril_core.exchange.convert import (
    actions_of,
    angle_factor,
    check_proportions,
    columns_of,
    joined_steps,
    resized,
    unit_factor,
)
from inril_core.exchange.foreign import Foreign, split_reference
from inril_core.exchange.mapping import FieldMap, ImportMap, Sources
from inril_core.exchange.rotations import SIZES, rotation_numbers, rotations

ACTION = "action"
NAME = "the policy"
RANGE_TOLERANCE = 0.05
"""How far beyond [-1, 1] the actions that a policy was trained on may be and still be a contract's own numbers."""
EXAMPLE_ROWS = 100
PREDICTED_TOLERANCE = 0.5
"""How far from 1 the length of a predicted quaternion or axis may be: a network does not normalise them."""


@dataclass(frozen=True)
class Features:
    """What a policy takes and gives, by the names of the data that it was trained on."""

    numbers: Mapping[str, int]
    """Inputs that are numbers, and how many."""
    images: Mapping[str, tuple[int, int]]
    """Inputs that are images, and the (height, width) in px that each is brought to."""
    action_size: int
    means: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Mean of the training data of inputs that are numbers, float64[n], where it is known."""
    action_range: tuple[np.ndarray, np.ndarray] | None = None
    """Smallest and largest action of the training data, float64[A] each, where it is known."""
    scales_images: bool = False
    """It scales images of any proportions by itself."""
    masked: frozenset[str] = frozenset()
    """Images that it does without."""

    def described(self) -> str:
        """The inputs with their sizes."""
        images = [f"{key} (image {size[1]}x{size[0]})" for key, size in self.images.items()]
        return ", ".join([*(f"{key}[{size}]" for key, size in self.numbers.items()), *images]) or "none"

    def example(self) -> Foreign:
        """Its inputs and its action as an episode of one row of zeros, for a template of a mapping."""
        sizes = {**self.numbers, ACTION: self.action_size}
        columns = {key: np.zeros((1, size)) for key, size in sizes.items()}
        images = {key: np.zeros((1, *size, 3), np.uint8) for key, size in self.images.items()}
        return Foreign(NAME, columns, images, success=True)  # nobody is to be asked who says so


@dataclass(frozen=True)
class _Piece:
    """Numbers of a contract's field that go to an input."""

    key: str
    places: np.ndarray
    """int[n], in the input."""
    parts: np.ndarray
    """int[n], of the numbers that the field gives."""


class PolicyMap:
    """Turns observations into a policy's inputs, and its actions into the contract's.

    Args:
        map_: of the data that the policy was trained on; what it says of success, purpose or topics is not looked at.

    Raises:
        ConfigError: an input is given by no field or image, a field does not fit, or the action cannot be the
            contract's; every such input is named.
    """

    def __init__(self, map_: ImportMap, contract: Contract, features: Features) -> None:
        self.map, self.contract, self.features = map_, contract, features
        # within a plan a step starts where the one before it ends, also where an arm's starts at the measured pose
        action = contract.action.model_copy(update={"delta_reference": "commanded"})
        self._planned = contract.model_copy(update={"action": action})
        self.left_out: list[str] = []
        """What the mapping says of inputs that the policy does not have."""
        self._fields: list[tuple[slice, FieldMap, str, list[_Piece]]] = []
        self._images: dict[str, str] = {}
        missing = [*self._place_fields(), *self._place_images()]
        if missing:
            unknown = f"; the mapping names {', '.join(self.left_out)}, which it does not have" if self.left_out else ""
            raise ConfigError(
                f"{', '.join(missing)}: the policy needs it, and nothing of the contract {contract.task} is mapped to "
                f"it{unknown}; its inputs are {features.described()}"
            )
        self._check_action()

    def inputs(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs by name: float32[n], and images uint8[H, W, 3], of an observation float32[D] of the contract."""
        state, images = split_observations(self.contract.image_shapes, observation)
        made = {key: np.zeros(size, np.float32) for key, size in self.features.numbers.items()}
        for place, given, name, pieces in self._fields:
            values = self._converted(state[place].astype(np.float64), given, name)
            for piece in pieces:
                made[piece.key][piece.places] = values[piece.parts]
        for key, name in self._images.items():
            size = self.features.images[key]
            scaled = self.features.scales_images or images[name].shape[:2] == size
            made[key] = images[name] if scaled else resized(images[name], size)
        return made

    def plan(self, actions: np.ndarray, observation: np.ndarray) -> np.ndarray:
        """``float32[m, A]``: the contract's actions, not clipped, one a control period.

        Args:
            actions: float[n, action_size], at the mapping's rate, after the policy's own post-processing.
            observation: float32[D], from which they were planned.

        Raises:
            ConfigError: they hold no whole control period, or are not what the mapping says.
        """
        chunk = Foreign(NAME, {ACTION: np.array(actions, np.float64)})
        given = self.map.action
        if given.kind != "normalised" and given.rotation is not None:
            turned = rotations(
                columns_of(chunk, given.rotation), given.rotation_kind, f"{NAME}: action.rotation", PREDICTED_TOLERANCE
            )
            _write(chunk, given.rotation, rotation_numbers(turned, given.rotation_kind))
        pose = self._poses(chunk, observation)
        seen, joined, _ = joined_steps(chunk, self.map, self.contract, len(actions) + 1, len(actions))
        return actions_of(chunk, self.map, self._planned, pose, joined, seen).astype(np.float32)

    def example(self) -> np.ndarray:
        """An observation of the right size, float32[D]: zeros, rotations as identities."""
        row = np.zeros(self.contract.observation_size, np.float32)
        for name, place in self.contract.slices().items():
            if name.endswith("rot6d"):
                row[place] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        return row

    def _place_fields(self) -> list[str]:
        """Give each number of the inputs its source; return those that have none."""
        free = {key: np.ones(size, bool) for key, size in self.features.numbers.items()}
        fields, slices = {f.name: f for f in self.contract.observation}, self.contract.slices()
        unknown = sorted(set(self.map.observation) - set(fields))
        if unknown:
            raise ConfigError(f"observation.{unknown[0]}: the contract has no such field; it has {', '.join(fields)}")
        given = [(name, self.map.observation[name]) for name in fields if name in self.map.observation]
        for name, mapped in [*given, *self._pose_fields()]:
            wanted = fields[name]
            if mapped.frame != wanted.frame:
                raise ConfigError(
                    f"observation.{name}: is in frame {mapped.frame!r}, the contract's is in {wanted.frame!r}"
                )
            size = wanted.size if mapped.rotation is None else SIZES[mapped.rotation]
            if mapped.rotation is not None and wanted.size != SIZES["rot6d"]:
                raise ConfigError(f"observation.{name}: has {wanted.size} numbers in the contract, which are no rot6d")
            self._converted(self.example()[slices[name]].astype(np.float64), mapped, name)  # whether the units fit
            pieces = self._pieces(name, mapped.source, size, free)
            if pieces:
                self._fields.append((slices[name], mapped, name, pieces))
        return [f"{key}{_ranges(np.flatnonzero(left))}" for key, left in free.items() if left.any()]

    def _pose_fields(self) -> list[tuple[str, FieldMap]]:
        pose, names = self.map.tool_pose, {f.name: f for f in self.contract.observation}
        if pose is None:
            return []
        found = []
        if "tool_position_m" in names:
            said = {"from": pose.position, "unit": pose.unit, "frame": names["tool_position_m"].frame}
            found.append(("tool_position_m", FieldMap.model_validate(said)))
        if "tool_rot6d" in names:
            said = {"from": pose.rotation, "unit": "rad", "frame": names["tool_rot6d"].frame}
            found.append(("tool_rot6d", FieldMap.model_validate({**said, "rotation": pose.rotation_kind})))
        return found

    def _pieces(self, name: str, sources: Sources, size: int, free: dict[str, np.ndarray]) -> list[_Piece]:
        """Where the numbers of a field go. A number that an earlier field gives already stays as it is."""
        pieces, begin, whole = [], 0, True
        for source in _listed(sources):
            key, place = split_reference(source)
            if key not in free:
                self.left_out.append(source)
                if place is None:
                    whole = False  # its size is not known
                    continue
                begin += place.stop - place.start
                continue
            places = np.arange(len(free[key]))[place or slice(None)]
            count = len(places) if place is None else place.stop - place.start
            if not count or count != len(places):
                raise ConfigError(f"observation.{name}: {source}: the policy's {key} has {len(free[key])} numbers")
            new = free[key][places]
            pieces.append(_Piece(key, places[new], np.arange(begin, begin + count)[new]))
            free[key][places] = False
            begin += count
        if whole and begin != size:
            raise ConfigError(f"observation.{name}: {sources} are {begin} numbers, the field gives {size}")
        if not whole and pieces:
            raise ConfigError(f"observation.{name}: {sources}: the policy has only a part of these inputs")
        return [piece for piece in pieces if len(piece.places)]

    def _place_images(self) -> list[str]:
        """Give each image of the inputs its source; return those that have none."""
        shapes = {shape.name: shape for shape in self.contract.image_shapes}
        known = [image.name for image in self.contract.images]
        for name, key in self.map.images.items():
            if name not in known:
                raise ConfigError(f"images.{name}: the contract has no such image; it has {known}")
            if key not in self.features.images:
                self.left_out.append(key)
                continue
            if name not in shapes:
                raise ConfigError(
                    f"images.{name}: no policy is given it, because it is not `required: true` in the contract"
                )
            if not self.features.scales_images:
                size = (shapes[name].height_px, shapes[name].width_px)
                check_proportions(size, self.features.images[key], f"images.{name}", f"the policy's {key}")
            self._images[key] = name
        return [key for key in self.features.images if key not in self._images and key not in self.features.masked]

    def _converted(self, values: np.ndarray, given: FieldMap, name: str) -> np.ndarray:
        """A contract's field in the policy's terms: float64[size]."""
        if given.rotation is None:
            wanted = next(f.unit for f in self.contract.observation if f.name == name)
            return values / unit_factor(given.unit, wanted, f"observation.{name}")
        factor = angle_factor(given, name)
        turned = rotations(values[None], "rot6d", name)
        near = self._mean(given.source)
        numbers = rotation_numbers(turned, given.rotation, None if near is None else near * factor)
        return np.asarray(numbers[0] / factor)

    def _mean(self, sources: Sources) -> np.ndarray | None:
        found = []
        for source in _listed(sources):
            key, place = split_reference(source)
            if key not in self.features.means:
                return None
            found.append(self.features.means[key][place or slice(None)])
        return np.concatenate(found)

    def _check_action(self) -> None:
        """Plan with actions that mean no rotation, so that what cannot work is said before anything is served."""
        given, features = self.map.action, self.features
        chunk = Foreign(NAME, {ACTION: np.zeros((EXAMPLE_ROWS, features.action_size))})
        if given.kind == "normalised":
            size = columns_of(chunk, given.source).shape[1]
            if size != self.contract.action_size:
                raise ConfigError(
                    f"action: the policy's has {size} numbers, the contract's {self.contract.action_size} "
                    f"({self.contract.action.kind}); a policy that moves joints cannot drive it"
                )
            if features.action_range is not None:
                low, high = (
                    columns_of(Foreign(NAME, {ACTION: row[None]}), given.source) for row in features.action_range
                )
                if max(-low.min(), high.max()) > 1.0 + RANGE_TOLERANCE:
                    raise ConfigError(
                        f"action.kind = normalised: the policy was trained on actions from {low.min():.3g} to "
                        f"{high.max():.3g}, the contract's own numbers are in [-1, 1]; say what they are in a mapping. "
                        "A policy that moves joints cannot drive this contract"
                    )
        elif given.rotation is not None:
            identity = rotation_numbers(R.identity(EXAMPLE_ROWS), given.rotation_kind)
            if columns_of(chunk, given.rotation).shape[1] == identity.shape[1]:
                _write(chunk, given.rotation, identity)
        self.plan(chunk.columns[ACTION], self.example())

    def _poses(self, chunk: Foreign, observation: np.ndarray) -> np.ndarray:
        """float64[n + 1, 7]: the tool's pose before the first action, and its orientation before the others if it
        follows them. Zeros where nobody asks."""
        given, rows = self.map.action, len(chunk.columns[ACTION])
        poses = np.zeros((rows + 1, 7))
        absolute = given.kind == "absolute_pose"
        if given.rotation is None or not (absolute or (given.kind == "delta_pose" and given.frame == "tool")):
            return poses
        slices = self.contract.slices()
        needed = ("tool_position_m", "tool_rot6d") if absolute else ("tool_rot6d",)
        lacking = [name for name in needed if name not in slices]
        if lacking:
            raise ConfigError(
                f"action.kind = {given.kind}: the contract's observation has no {lacking[0]}, from which the first "
                "step starts"
            )
        state = observation.astype(np.float64)
        now = rotations(state[slices["tool_rot6d"]][None], "rot6d", "tool_rot6d")
        poses[:, 3:] = now.as_quat()
        if absolute:
            poses[:, :3] = state[slices["tool_position_m"]]
            return poses
        turned = rotations(columns_of(chunk, given.rotation), given.rotation_kind, f"{NAME}: action.rotation")
        for row in range(rows):
            now = now * turned[row : row + 1]
            poses[row + 1, 3:] = now.as_quat()[0]
        return poses


def exported_map(contract_name: str, contract: Contract, features: Features) -> ImportMap:
    """What the columns of an export of inril (`inril data export --format lerobot`) mean."""
    state, images = "observation.state", "observation.images."
    observation = {}
    for f in contract.observation if state in features.numbers else ():
        place = contract.slices()[f.name]
        observation[f.name] = {"from": f"{state}[{place.start}:{place.stop}]", "unit": f.unit, "frame": f.frame}
    required = [shape.name for shape in contract.image_shapes]
    said = {
        "contract": contract_name,
        "rate_hz": contract.control_rate_hz,
        "observation": observation,
        "action": {"from": ACTION, "kind": "normalised"},
        "images": {name: images + name for name in required if images + name in features.images},
    }
    return ImportMap.model_validate(said)


def _listed(sources: Sources) -> Sequence[str]:
    return [sources] if isinstance(sources, str) else sources


def _write(foreign: Foreign, sources: Sources, values: np.ndarray) -> None:
    """The inverse of `columns_of`."""
    begin = 0
    for source in _listed(sources):
        key, place = split_reference(source)
        part = foreign.columns[key][:, place or slice(None)]
        part[:] = values[:, begin : begin + part.shape[1]]
        begin += part.shape[1]


def _ranges(places: np.ndarray) -> str:
    """``[3:5]`` of 3 and 4."""
    cuts = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return "".join(f"[{cut[0]}:{cut[-1] + 1}]" for cut in cuts)
