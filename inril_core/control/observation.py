"""From measurements to the contract's state vector and images: the one place where that is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image as PillowImage

from inril_core.contract import Contract, ImageField, ImageShape
from inril_core.contract.definitions import Features
from inril_core.control.measurement import BadMeasurement, check_pose, check_tool

_SOMEWHERE = np.array([0.5, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0])


class PartMissing(BadMeasurement):
    """A part that the task uses has no pose."""


class StateVector:
    """Builds the state vector of a contract.

    features: what gives the contract's observation fields; default: those of the task's definition.
    """

    def __init__(self, contract: Contract, features: Features | None = None) -> None:
        self._features = contract.task_definition.features if features is None else features
        self._sufficient: frozenset[str] | None = None  # names of parts that were enough for the features
        self._fields = [(field.name, field.size) for field in contract.observation]
        self._size = contract.state_size
        self.looks_at_parts = self._are_parts_needed()
        """Whether the features need the pose of any part; without, nobody has to publish one."""

    def _are_parts_needed(self) -> bool:
        try:
            self._features(_SOMEWHERE, np.zeros(6), 0.0, {})
        except KeyError:
            return True
        except Exception:  # of this tool pose; features may come from outside inril
            return True
        return False

    def usable_parts(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The parts whose pose (float64[7]) can be. Parts that the task does not use may be bad.

        Raises:
            PartMissing: one that the task uses is missing or bad.
        """
        bad: dict[str, str] = {}
        for name, pose in parts.items():
            try:
                check_pose(f"part {name}", pose.tolist())
            except BadMeasurement as error:
                bad[name] = str(error)
        usable = {name: pose for name, pose in parts.items() if name not in bad}
        if self._sufficient is None or not self._sufficient <= usable.keys():
            try:
                self(_SOMEWHERE, np.zeros(6), 0.0, usable)
                self._sufficient = frozenset(usable)
            except PartMissing as error:
                raise PartMissing("; ".join([*bad.values(), str(error)])) from error
            except BadMeasurement:
                pass  # of this tool pose; the tick looks at the measured one
        return usable

    def __call__(
        self,
        tool_pose: np.ndarray,
        tool_twist: np.ndarray,
        gripper_width_m: float,
        parts: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """float32[D], SI units, fields in the contract's order.

        Raises:
            BadMeasurement: a value that was measured cannot be, a part is missing, a field has another size or is not
                finite, or the features cannot be computed.
        """
        check_tool(tool_pose.tolist(), tool_twist.tolist(), gripper_width_m)
        for name, pose in parts.items():
            check_pose(f"part {name}", pose.tolist())
        return self.of_checked(tool_pose, tool_twist, gripper_width_m, parts)

    def of_checked(
        self,
        tool_pose: np.ndarray,
        tool_twist: np.ndarray,
        gripper_width_m: float,
        parts: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """The same for measurements that `check_tool` and `usable_parts` have passed.

        Raises:
            BadMeasurement: a part is missing, a field has another size or is not finite, or the features cannot be
                computed.
        """
        try:
            values = self._features(tool_pose, tool_twist, gripper_width_m, parts)
        except KeyError as error:
            raise PartMissing(
                f"part {error} has no pose (named: {sorted(parts)}); let the tracker name its parts as the task does"
            ) from error
        except Exception as error:  # features may come from outside inril and raise whatever they stumble over
            raise BadMeasurement(f"the task's features: {type(error).__name__}: {error}") from error
        vector = np.empty(self._size, np.float32)
        start = 0
        for name, size in self._fields:
            field = np.asarray(values.get(name, ())).ravel()  # faster than the functions of the same names
            if field.size != size:
                raise BadMeasurement(f"observation field {name}: the task's features do not give {size} numbers")
            vector[start : start + size] = field
            start += size
        if not np.isfinite(vector).all():
            bad = [name for name, size in self._fields if not np.isfinite(np.ravel(values[name])).all()]
            raise BadMeasurement(f"observation fields {bad} are not finite")
        return vector


def prepare_image(pixels: np.ndarray, field: ImageField) -> np.ndarray:
    """Crop and resize a camera's uint8[H, W, 3] to the contract's uint8[height_px, width_px, 3].

    Raises:
        BadMeasurement: not an RGB image, or smaller than the crop.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise BadMeasurement(f"image {field.name}: {pixels.dtype}{list(pixels.shape)} is not uint8[H, W, 3]")
    check_crop(field, *pixels.shape[:2])
    if field.crop_px is not None:
        left, top, width, height = field.crop_px
        pixels = pixels[top : top + height, left : left + width]
    if pixels.shape[:2] != (field.height_px, field.width_px):
        scaled = PillowImage.fromarray(pixels).resize((field.width_px, field.height_px), PillowImage.Resampling.BOX)
        pixels = np.asarray(scaled)
    return pixels


def check_crop(field: ImageField, height_px: int, width_px: int) -> None:
    """Check that a camera's image holds what the contract cuts out of it.

    Raises:
        BadMeasurement: it is smaller than the crop.
    """
    if field.crop_px is None:
        return
    left, top, width, height = field.crop_px
    if left < 0 or top < 0 or left + width > width_px or top + height > height_px:
        raise BadMeasurement(
            f"image {field.name}: crop_px {field.crop_px} (left, top, width, height) reaches beyond the camera's "
            f"{width_px}x{height_px} pixels; set the camera's resolution or change the contract"
        )


def observation_vector(shapes: Sequence[ImageShape], state: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a policy is given: float32[..., D], the state and then the pixels (0 to 255) of the images of ``shapes``.

    Acting and learning both build it here. Without ``shapes`` it is the state itself.

    Args:
        state: float32[..., S].
        images: uint8[..., H, W, 3] by name; others than those asked for are left out.

    Raises:
        BadMeasurement: an image is missing, or is not the size announced.
    """
    if not shapes:
        return state
    parts = [state]
    for name, height_px, width_px in shapes:
        wanted = (*state.shape[:-1], height_px, width_px, 3)
        if name not in images:
            raise BadMeasurement(f"image {name}: is missing (there are: {sorted(images)})")
        if images[name].shape != wanted or images[name].dtype != np.uint8:
            raise BadMeasurement(
                f"image {name}: is {images[name].dtype}{list(images[name].shape)}, not uint8{list(wanted)}"
            )
        parts.append(images[name].reshape(*state.shape[:-1], -1))
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def split_observations(shapes: Sequence[ImageShape], rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The inverse of `observation_vector`: states float32[..., S] and images uint8[..., H, W, 3]."""
    end = rows.shape[-1] - sum(shape.size for shape in shapes)
    states, images = np.ascontiguousarray(rows[..., :end]), {}
    for shape in shapes:
        pixels = rows[..., end : end + shape.size].astype(np.uint8)
        images[shape.name] = pixels.reshape(*rows.shape[:-1], shape.height_px, shape.width_px, 3)
        end += shape.size
    return states, images
