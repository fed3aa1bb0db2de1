"""Boards that cameras are calibrated with: ChArUco boards, described by a file, found in images."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.settings import Settings
from inril_core.yaml_text import read_yaml

DICTIONARIES = {
    "4x4_50": cv2.aruco.DICT_4X4_50,
    "4x4_250": cv2.aruco.DICT_4X4_250,
    "5x5_100": cv2.aruco.DICT_5X5_100,
    "5x5_250": cv2.aruco.DICT_5X5_250,
    "6x6_250": cv2.aruco.DICT_6X6_250,
    "apriltag_36h11": cv2.aruco.DICT_APRILTAG_36h11,
}
CORNERS_MIN = 6
"""Fewer found corners of a board give no pose worth using."""


class Board(Settings):
    """A ChArUco board: a chessboard whose white squares carry markers, so that a part of it suffices.

    Frame: origin at the outer corner of the first square, x along the rows, y along the columns, z into the board.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    squares_x: Annotated[int, Field(ge=3, le=50)]
    squares_y: Annotated[int, Field(ge=3, le=50)]
    square_m: Annotated[float, Field(gt=0.0, le=0.5)]
    """Side of a square: measure the print."""
    marker_m: Annotated[float, Field(gt=0.0, le=0.5)]
    dictionary: Literal["4x4_50", "4x4_250", "5x5_100", "5x5_250", "6x6_250", "apriltag_36h11"]

    @model_validator(mode="after")
    def _fits(self) -> Board:
        if not 0.4 * self.square_m <= self.marker_m <= 0.9 * self.square_m:
            raise ValueError("marker_m must be 0.4 to 0.9 of square_m")
        return self

    @cached_property
    def charuco(self) -> cv2.aruco.CharucoBoard:
        """OpenCV's own."""
        dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary])
        return cv2.aruco.CharucoBoard((self.squares_x, self.squares_y), self.square_m, self.marker_m, dictionary)

    @cached_property
    def points(self) -> np.ndarray:
        """float64[K, 3]: inner corners in the board's frame, by their number."""
        return np.array(self.charuco.getChessboardCorners(), dtype=np.float64)

    @property
    def size_m(self) -> tuple[float, float]:
        """Outer width and height."""
        return self.squares_x * self.square_m, self.squares_y * self.square_m

    def image(self, px_per_square: int = 100) -> np.ndarray:
        """uint8[H, W]: what to print or to put on a simulated board, without margin."""
        size = (self.squares_x * px_per_square, self.squares_y * px_per_square)
        return np.asarray(self.charuco.generateImage(size, marginSize=0, borderBits=1))

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corners in an image uint8[H, W] or uint8[H, W, 3]: pixels float64[n, 2], numbers int64[n]; n may be 0."""
        grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        corners, numbers, _, _ = cv2.aruco.CharucoDetector(self.charuco).detectBoard(np.ascontiguousarray(grey))
        if corners is None or numbers is None or len(corners) == 0:
            return np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
        return np.asarray(corners, dtype=np.float64).reshape(-1, 2), np.asarray(numbers).reshape(-1).astype(np.int64)


def load_board(path: Path) -> Board:
    """Read a board's file; those of the repository lie in ``calibration/boards``.

    Raises:
        ConfigError: the file is missing, or not a board; names file and field.
    """
    try:
        return Board.model_validate(read_yaml(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give the path of a board file") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML ({error})") from error
    except ValidationError as error:
        raise ConfigError(f"{path}:\n{describe(error)}") from error
