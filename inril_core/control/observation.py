"""From measurements to the contract's state vector and images: the one place where that is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image as PillowImage

from inril_core.contract import Contract, ImageField, ImageShape
from inril_core.contract.definitions import Features
from inril_core.errors import InrilError


class BadMeasurement(InrilError):
    """A measurement that must not reach a policy; the message names the field."""


class StateVector:
    """Builds the state vector of a contract.

    features: what gives the contract's observation fields; default: those of the task's definition.
    """

    def __init__(self, contract: Contract, features: Features | None = None) -> None:
        self._features = contract.task_definition.features if features is None else features
        self._fields = [(field.name, field.size) for field in contract.observation]
        self._size = contract.state_size

    def __call__(
        self,
        tool_pose: np.ndarray,
        tool_twist: np.ndarray,
        gripper_width_m: float,
        parts: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """float32[D], SI units, fields in the contract's order.

        Raises:
            BadMeasurement: a part is missing, a field has another size, or a value is not finite.
        """
        try:
            values = self._features(tool_pose, tool_twist, gripper_width_m, parts)
        except KeyError as error:
            raise BadMeasurement(f"part {error} has no pose (known: {sorted(parts)})") from error
        vector = np.empty(self._size, np.float32)
        start = 0
        for name, size in self._fields:
            if name not in values or np.size(values[name]) != size:
                raise BadMeasurement(f"observation field {name}: the task's features do not give {size} numbers")
            vector[start : start + size] = np.ravel(values[name])
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
    if field.crop_px is not None:
        left, top, width, height = field.crop_px
        pixels = pixels[top : top + height, left : left + width]
        if pixels.shape[:2] != (height, width):
            raise BadMeasurement(f"image {field.name}: the crop {field.crop_px} reaches beyond the camera's image")
    if pixels.shape[:2] != (field.height_px, field.width_px):
        scaled = PillowImage.fromarray(pixels).resize((field.width_px, field.height_px), PillowImage.Resampling.BOX)
        pixels = np.asarray(scaled)
    return pixels


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
