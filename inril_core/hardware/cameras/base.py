"""What a source of camera images is to the node that publishes them.

A source is one file here, an entry point ``inril.cameras`` or ``module:class``: a settings class `CameraConfig`, called
``Config`` in a file of this package, that makes the `CameraSource` of one camera of the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from inril_core.contract import Contract
from inril_core.errors import ConfigError, InrilError
from inril_core.hardware.arms.base import Arm
from inril_core.plugins import Kind
from inril_core.settings import Settings, read_mapping, read_settings

CELL_SOURCE = "rendered"
"""The source that draws the simulated cell: of every camera for which nothing else is chosen."""


class CameraLost(InrilError):
    """The camera is not there or gives no images. The message names why and what to do."""


class BadImage(InrilError):
    """This one image cannot be used, and the camera goes on. The message names why and what to do."""


class Frame(NamedTuple):
    """One image."""

    pixels: np.ndarray
    """uint8[H, W, 3], red, green, blue; at least as large as the contract's crop of it."""
    stamp_ns: int | None
    """When it was exposed, on the ROS clock; None: at the arm's newest state, of a camera of the simulated cell."""
    number: int | None = None
    """Of the camera's own count of images, for finding those that were lost; None: it does not count."""
    depth_mm: np.ndarray | None = None
    """uint16[H, W], of the same pixels as the colour; 0: not known. None: there is none of this time."""


class CameraSource(ABC):
    """One camera. One thread calls it, one call at a time; that of a camera of the cell is the cell's own."""

    serial: str = ""
    """The device's serial number, known once it is open; empty: it has none."""

    def open(self) -> None:  # noqa: B027 a rendered camera has nothing to connect to
        """Connect; may take seconds. Called again, after `close`, where the camera was lost.

        Raises:
            CameraLost: the message says what is missing; any other exception is treated alike.
        """

    @abstractmethod
    def read(self) -> Frame | None:
        """The next image, or the newest of several; None: there is none yet.

        It may wait for one, for 0.2 s at most: the camera has a thread of its own. A camera of the cell MUST NOT wait.

        Raises:
            BadImage: the image is of an encoding that cannot be read, or damaged.
            CameraLost: it gives no images any more; any other exception is treated alike.
        """

    def close(self) -> None:  # noqa: B027 as `open`
        """Disconnect. MUST be idempotent, also after an `open` that failed half-way."""


class CameraConfig(Settings):
    """Settings of a camera; a subclass adds its own and makes the source."""

    of_the_cell: ClassVar[bool] = False
    """It looks at the simulated cell, whose node reads it; camera_node reads all others."""

    @abstractmethod
    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> CameraSource:
        """The source of one camera; not yet opened.

        Args:
            camera: its name in the contract.
            width_px, height_px: least size of its images.
            arm: whose cell it looks at; None for all but cameras of the cell.

        Raises:
            ConfigError: these settings do not fit, or a package is missing.
        """


KIND = Kind("cameras", "inril_core.hardware.cameras", "Config", CameraConfig)


def camera_configs(contract: Contract, chosen: Mapping[str, Any] | str = "") -> dict[str, CameraConfig]:
    """The checked settings of each camera of a contract, by its name there.

    Args:
        chosen: ``{CAMERA: {source: NAME, SETTING: VALUE, ...}}``, or its YAML; NAME: of the source's file, entry point
            or ``module:class``. A camera that it leaves out is ``rendered``.

    Raises:
        ConfigError: the contract has no such camera; no such source; or a setting is unknown, missing or out of its
            range.
    """
    given, known = read_mapping(chosen, "cameras"), sorted({field.camera for field in contract.images})
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"cameras: {unknown} are not in the contract; it has {known}")
    configs = {}
    for name in known:
        settings = dict(read_mapping(given.get(name, {}), f"cameras.{name}"))
        found: type[CameraConfig] = KIND.find(settings.pop("source", CELL_SOURCE), f"cameras.{name}.source")
        configs[name] = read_settings(found, settings, f"cameras.{name}")
    return configs


def least_sizes(contract: Contract) -> dict[str, tuple[int, int]]:
    """Width and height [px] that each camera's images need at least, for all crops that the contract takes of them."""
    sizes: dict[str, tuple[int, int]] = {}
    for field in contract.images:
        left, top, width_px, height_px = field.crop_px or (0, 0, field.width_px, field.height_px)
        known = sizes.get(field.camera, (0, 0))
        sizes[field.camera] = max(known[0], left + width_px), max(known[1], top + height_px)
    return sizes
