"""Whether a run may start with the calibrations that its contract names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

from inril_core.calibration.stored import Stored, read_stored
from inril_core.contract import Contract
from inril_core.errors import ConfigError

OVERRIDE = "without_calibration"
"""The graph's argument that names calibrations a run may do without."""


def problems(contract: Contract, folder: Path, serials: Mapping[str, str], now: datetime) -> dict[str, str]:
    """What is wrong with each calibration that the contract names; those that are fine are left out.

    Args:
        folder: where the files lie, called after the calibrations.
        serials: of the cameras that the run will use, by the contract's names; a camera without one is not compared.
        now: with its time zone.
    """
    found = {}
    for need in contract.calibration:
        path = folder / f"{need.name}.yaml"
        if not path.exists():
            found[need.name] = f"{path} is missing; make it with `inril calibrate`"
            continue
        try:
            stored = read_stored(path)
        except ConfigError as error:
            found[need.name] = str(error)
            continue
        wrong = _wrong(stored, need.max_age_days, need.board, serials, now)
        if wrong:
            found[need.name] = f"{path}: {wrong}"
    return found


def _wrong(stored: Stored, max_age_days: float, board: str | None, serials: Mapping[str, str], now: datetime) -> str:
    age = stored.age_days(now)
    if age < -1.0 / 24.0:
        return f"made on {stored.created.isoformat()}, which is to come; set the clock, or calibrate again"
    if age > max_age_days:
        return f"{age:.0f} days old, the contract allows {max_age_days:g}; calibrate again"
    if board is not None and stored.board != board:
        return f"made with board {stored.board or 'unknown'!r}, the contract wants {board!r}; calibrate with that one"
    if stored.camera is not None:
        serial = serials.get(stored.camera.name, "")
        if serial and serial != stored.camera.serial:
            return (
                f"of the camera with serial number {stored.camera.serial or 'unknown'}, and {stored.camera.name} has "
                f"{serial}; calibrate this camera"
            )
    if stored.check is not None and not stored.check.passed:
        return (
            f"its check of {stored.check.created.isoformat()} failed ({stored.check.residual_px:.1f} px, at most "
            f"{stored.check.limit_px:.1f} px): something moved; calibrate again"
        )
    return ""


def require(
    contract: Contract, folder: Path, serials: Mapping[str, str], without: Collection[str], now: datetime
) -> None:
    """Let a run start only with the calibrations that its contract names.

    Args:
        without: names that are overridden.

    Raises:
        ConfigError: one is missing, unreadable, too old, of another camera or board, or failed its check, and is not
            overridden; or an overridden one is not in the contract.
    """
    known = {need.name for need in contract.calibration}
    unknown = sorted(set(without) - known)
    if unknown:
        raise ConfigError(f"{OVERRIDE} = {', '.join(unknown)}: the contract names {', '.join(sorted(known)) or 'none'}")
    found = {name: text for name, text in problems(contract, folder, serials, now).items() if name not in without}
    if found:
        lines = "; ".join(f"calibration {name}: {text}" for name, text in found.items())
        raise ConfigError(f"{lines}. To start all the same: {OVERRIDE}:={','.join(sorted({*found, *without}))}")
