"""AprilTags: where they are stuck, found in images, and the pose of what they are stuck to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import yaml
from pydantic import Field, ValidationError, field_validator
from scipy.spatial.transform import Rotation

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera, board_view
from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.settings import Settings
from inril_core.transforms import quat_problem
from inril_core.yaml_text import read_yaml

_DICTIONARY = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
_SIGNS = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]])
"""Corners in OpenCV's order, in AprilTag 3's frame (x right, y down, z into the tag, the tag upright as AprilTag draws
it): OpenCV begins with the corner opposite to AprilTag's."""


class StuckTag(Settings):
    """One tag on a body."""

    size_m: Annotated[float, Field(gt=0.0, le=1.0)]
    """Side of the black square."""
    position_m: tuple[float, float, float]
    """Its middle in the body's frame."""
    quaternion_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @field_validator("quaternion_xyzw")
    @classmethod
    def _is_unit(cls, q: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        if problem := quat_problem(q, 1e-3):
            raise ValueError(f"{problem}; give a unit quaternion x, y, z, w")
        return q

    @property
    def corners(self) -> np.ndarray:
        """float64[4, 3] in the body's frame, in the order of `find_tags`."""
        T = rigid.compose(Rotation.from_quat(self.quaternion_xyzw).as_matrix(), np.array(self.position_m))
        return rigid.apply(T, _SIGNS * 0.5 * self.size_m)


class TagLayout(Settings):
    """Bodies and the tags (family 36h11) on them."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    bodies: dict[str, dict[int, StuckTag]]
    """By the body's name and the tag's number. For the base, the body is the arm's base frame itself."""

    @field_validator("bodies")
    @classmethod
    def _once(cls, bodies: dict[str, dict[int, StuckTag]]) -> dict[str, dict[int, StuckTag]]:
        numbers = [number for tags in bodies.values() for number in tags]
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        if twice:
            raise ValueError(f"tags {twice} are on two bodies; each number once")
        if not numbers or min(numbers) < 0 or max(numbers) > 586:
            raise ValueError("family 36h11 has the tags 0 to 586; give at least one")
        return bodies


def load_layout(path: Path) -> TagLayout:
    """Read a layout of tags.

    Raises:
        ConfigError: the file is missing or not a layout; names file and field.
    """
    try:
        return TagLayout.model_validate(read_yaml(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give the path of a layout of tags") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML ({error})") from error
    except ValidationError as error:
        raise ConfigError(f"{path}:\n{describe(error)}") from error


def find_tags(image: np.ndarray) -> dict[int, np.ndarray]:
    """Corners float64[4, 2] (pixels) of each tag of family 36h11 in an image uint8[H, W] or uint8[H, W, 3].

    A number that is seen twice is left out: nobody knows which is which.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    settings = cv2.aruco.DetectorParameters()
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    corners, numbers, _ = cv2.aruco.ArucoDetector(_DICTIONARY, settings).detectMarkers(np.ascontiguousarray(grey))
    if numbers is None:
        return {}
    flat = [int(n) for n in np.asarray(numbers).reshape(-1)]
    found = zip(flat, corners, strict=True)
    return {n: np.asarray(seen, dtype=np.float64).reshape(4, 2) for n, seen in found if flat.count(n) == 1}


@dataclass(frozen=True)
class BodyView:
    """A body's pose from the tags of one image."""

    T_camera_body: np.ndarray
    residual_px: float
    tags: tuple[int, ...]


def locate(camera: Camera, tags: dict[int, StuckTag], seen: dict[int, np.ndarray]) -> BodyView | None:
    """The pose of a body from all its tags that are seen, at once; None: no tag of it, or no pose fits."""
    numbers = tuple(sorted(set(tags) & set(seen)))
    if not numbers:
        return None
    points = np.concatenate([tags[n].corners for n in numbers])
    corners = np.concatenate([seen[n] for n in numbers])
    view = board_view(camera, points, corners)
    return None if view is None else BodyView(view.T_camera_board, view.residual_px, numbers)
