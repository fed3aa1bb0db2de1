"""Results of calibrations on disk: one YAML file each, named like what it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import scipy  # its parts are loaded at first use
import yaml
from pydantic import Field, ValidationError, model_validator

from inril_core.calibration.camera import Camera
from inril_core.calibration.refused import CalibrationRefused
from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.settings import Settings
from inril_core.yaml_text import read_yaml

Kind = Literal["intrinsics", "hand_eye", "base_tag", "latency"]
Row = tuple[float, float, float, float]
NAME = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
MAX_TEXT_BYTES = 4 << 20
_R = TypeVar("_R", bound=Settings)


class StoredCamera(Settings):
    """Which camera it is of."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    """As the contract names it."""
    serial: str
    """Of the device; empty where it has none."""


class StoredIntrinsics(Settings):
    """A camera matrix and distortion in OpenCV's order."""

    width_px: Annotated[int, Field(ge=8, le=16384)]
    height_px: Annotated[int, Field(ge=8, le=16384)]
    K: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    distortion: tuple[float, ...]

    def camera(self) -> Camera:
        """For computing."""
        return Camera(np.array(self.K), np.array(self.distortion))


class StoredCheck(Settings):
    """The last quick check against a board or tag that was seen anew."""

    created: datetime
    passed: bool
    residual_px: float
    limit_px: float


class Stored(Settings):
    """What a calibration found, and what it was found with."""

    schema_version: Literal[1] = 1
    kind: Kind
    name: Annotated[str, Field(pattern=NAME)]
    """``T_parent_child``, ``intrinsics_CAMERA`` or ``latency_CAMERA``."""
    created: datetime
    """With its time zone."""
    software: str
    camera: StoredCamera | None = None
    board: str = ""
    """Name of the board's or tags' file."""
    T: tuple[Row, Row, Row, Row] | None = None
    """Coordinates of the child's frame to the parent's, metres; cameras: optical frames (REP 103)."""
    T_board: tuple[Row, Row, Row, Row] | None = None
    """The board of a hand-eye calibration: in the base (eye in hand) or in the gripper (eye to hand)."""
    mode: Literal["eye_in_hand", "eye_to_hand"] | None = None
    intrinsics: StoredIntrinsics | None = None
    delay_s: dict[str, float] | None = None
    residual_px: Annotated[float, Field(ge=0.0)] | None = None
    covariance: tuple[tuple[float, ...], ...] | None = None
    """Of T: a step in the child's own frame, rotation vector (rad), then translation (m); of intrinsics: fx, fy, cx,
    cy (px), then the distortion."""
    details: dict[str, Any] = {}
    """What else the command printed."""
    check: StoredCheck | None = None

    @model_validator(mode="after")
    def _whole(self) -> Stored:
        if self.created.tzinfo is None:
            raise ValueError("created has no time zone; write e.g. 2026-01-31T12:00:00Z")
        needs = {"intrinsics": "intrinsics", "hand_eye": "T", "base_tag": "T", "latency": "delay_s"}[self.kind]
        if getattr(self, needs) is None:
            raise ValueError(f"a calibration of kind {self.kind} needs {needs}")
        if self.T is not None:
            T = np.array(self.T)
            if np.abs(T[:3, :3].T @ T[:3, :3] - np.eye(3)).max() > 1e-6 or np.linalg.det(T[:3, :3]) < 0.0:
                raise ValueError("T is not rigid")
        return self

    def age_days(self, now: datetime) -> float:
        """Since it was made."""
        return age_days(self.created, now)

    def quaternion_xyzw(self) -> list[float]:
        """Of T, as messages carry it."""
        assert self.T is not None
        return [float(q) for q in scipy.spatial.transform.Rotation.from_matrix(np.array(self.T)[:3, :3]).as_quat()]


def software_version() -> str:
    """What is written into results."""
    return f"inril {metadata.version('inril')}"


def now() -> datetime:
    """The system clock, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def rows(T: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """A matrix as plain numbers."""
    return tuple(tuple(float(x) for x in row) for row in T)


def age_days(created: datetime, now: datetime) -> float:
    """Between two times."""
    return (now - created).total_seconds() / 86400.0


def write_stored(path: Path, stored: Stored) -> None:
    """Write it; a crash leaves the old file or the new one.

    Raises:
        ConfigError: the file cannot be written, or has another name than the calibration.
    """
    if path.suffix not in (".yaml", ".yml") or path.stem != stored.name:
        raise ConfigError(f"{path}: the file of {stored.name} is called {stored.name}.yaml; give that name")
    write_checked(path, stored, "--out")


def write_checked(path: Path, values: Settings, given_by: str) -> None:
    """Write a result as YAML; a crash leaves the old file or the new one.

    Args:
        given_by: the option that chose the path, for the message.

    Raises:
        ConfigError: the file cannot be written.
    """
    plain = values.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); give another {given_by}") from error


def read_stored(path: Path) -> Stored:
    """Read and check a result of a calibration.

    Raises:
        ConfigError: missing, unreadable, or not a calibration; names file and field.
    """
    return read_checked(path, Stored, "inril calibrate")


def read_checked(path: Path, kind: type[_R], made_with: str) -> _R:
    """Read a result that is named like its file.

    Args:
        kind: with a field ``name``.
        made_with: the command that writes it, for messages.

    Raises:
        ConfigError: missing, unreadable, or not of this kind; names file and field.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_TEXT_BYTES >> 20} MiB; this is no result of `{made_with}`")
        found = kind.model_validate(read_yaml(data.decode()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}; make it anew with `{made_with}`") from error
    name = str(getattr(found, "name", ""))
    if name != path.stem:
        raise ConfigError(f"{path}: holds {name}; rename the file, or make the right one")
    return found


def intrinsics_for(folder: Path, camera: str, serial: str, width_px: int, height_px: int) -> StoredIntrinsics | None:
    """The stored camera matrix that fits a camera which is running; None: there is no file `intrinsics_CAMERA.yaml`.

    Args:
        serial: of the device; empty: it has none, and is not compared.
        width_px, height_px: of its images.

    Raises:
        ConfigError: the file cannot be read, or is of another device or another size of images.
    """
    path = folder / f"intrinsics_{camera}.yaml"
    if not path.exists():
        return None
    stored, _ = read_intrinsics(path)
    found = stored.intrinsics
    assert found is not None
    of = stored.camera.serial if stored.camera is not None else ""
    if serial and of != serial:
        raise CalibrationRefused(
            "wrong_camera",
            f"{path}: of the camera with serial number {of or 'unknown'}, and {camera} has {serial}; calibrate this "
            "camera, or plug in the other one",
        )
    if (found.width_px, found.height_px) != (width_px, height_px):
        raise CalibrationRefused(
            "wrong_size",
            f"{path}: for images of {found.width_px}x{found.height_px}, and {camera} gives {width_px}x{height_px}; set "
            "that resolution, or calibrate with this one",
        )
    return found


def read_intrinsics(path: Path) -> tuple[Stored, Camera]:
    """A stored camera matrix.

    Raises:
        ConfigError: as `read_stored`, or the file is of another kind.
    """
    found = read_stored(path)
    if found.intrinsics is None:
        raise CalibrationRefused("wrong_kind", f"{path}: holds {found.kind}; give the file of `calibrate intrinsics`")
    return found, found.intrinsics.camera()
