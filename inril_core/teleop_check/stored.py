"""The result of a check on disk, beside the calibrations; and whether a run may start with it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from inril_core.calibration.stored import age_days, read_checked, write_checked
from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.settings import Settings
from inril_core.teleop_check.found import Found

OVERRIDE = "without_teleop_check"
"""The graph's argument that names checks a run may do without."""
COMMAND = "inril teleop-check"
PREFIX = "teleop_check_"
MAX_AGE_DAYS = 7.0
"""Cables, firmware, load and the programs beside the graph change from week to week; a check takes two minutes."""
COMPARED = ("control_rate_hz", "base_frame", "action", "limits")
"""What of the contract decides how the arm is driven; a run with another value needs a check of its own."""


class Arm(Settings):
    """Which arm it is of."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    """As ``arm:=`` has it, or the names of the graph's own nodes."""
    namespace: str = ""
    """Of the graph: two arms of one kind in a lab differ by it."""
    settings: dict[str, Any] = {}
    """As ``arm_settings:=`` has them."""
    simulated: bool = False


class TeleopCheck(Settings):
    """What driving by hand has shown, and what it was shown with."""

    schema_version: Literal[1] = 1
    kind: Literal["teleop_check"] = "teleop_check"
    name: Annotated[str, Field(pattern=r"^teleop_check_[A-Za-z0-9_]{1,180}$")]
    created: datetime
    """With its time zone."""
    software: str
    commit: str
    operator: str
    device: str
    arm: Arm
    task: str
    interface_digest: str
    deployment_digest: str
    contract: dict[str, Any]
    """Those fields of the contract that decide how the arm is driven."""
    passed: bool
    reasons: tuple[str, ...] = ()
    """Why not; empty if passed."""
    found: Found

    @model_validator(mode="after")
    def _whole(self) -> TeleopCheck:
        if self.created.tzinfo is None:
            raise ValueError("created has no time zone; write e.g. 2026-01-31T12:00:00Z")
        if self.passed == bool(self.reasons):
            raise ValueError("passed and reasons contradict each other")
        return self


def check_name(arm: Arm, task: str) -> str:
    """Of the check of an arm and a task, and of its file."""
    words = "_".join(word for word in (arm.namespace, arm.name, task) if word)
    return PREFIX + re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_")[:180]


def compared(contract: Contract) -> dict[str, Any]:
    """The fields that a run must share with its check, as plain values."""
    whole = json.loads(contract.text)
    return {key: whole[key] for key in COMPARED}


def write_check(folder: Path, check: TeleopCheck) -> Path:
    """Write it; a crash leaves the old file or the new one. Returns the path.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = folder / f"{check.name}.yaml"
    write_checked(path, check, "calibration:=")
    return path


def read_check(path: Path) -> TeleopCheck:
    """Read and check a result.

    Raises:
        ConfigError: missing, unreadable, or no such result; names file and field.
    """
    return read_checked(path, TeleopCheck, COMMAND)


def problem(arm: Arm, contract: Contract, folder: Path, now: datetime) -> str:
    """Why the stored check of this arm and contract lets no run start; empty: it does."""
    path = folder / f"{check_name(arm, contract.task)}.yaml"
    if not path.exists():
        return f"{path} is missing; make it with `{COMMAND}`"
    try:
        check = read_check(path)
    except ConfigError as error:
        return str(error)
    wrong = too_old(check, now) or _wrong(check, arm, contract)
    return f"{path}: {wrong}" if wrong else ""


def too_old(check: TeleopCheck, now: datetime) -> str:
    """Why its date is not one of a recent check; empty: it is."""
    age = age_days(check.created, now)
    if age < -1.0 / 24.0:
        return f"made on {check.created.isoformat()}, which is to come; set the clock, or drive again (`{COMMAND}`)"
    if age > MAX_AGE_DAYS:
        return f"{age:.0f} days old, {MAX_AGE_DAYS:g} are allowed; drive again (`{COMMAND}`)"
    return ""


def _wrong(check: TeleopCheck, arm: Arm, contract: Contract) -> str:
    if not check.passed:
        return f"not passed: {'; '.join(check.reasons)}"
    if check.arm != arm:
        return f"made with {_described(check.arm)}, and this run has {_described(arm)}; drive again (`{COMMAND}`)"
    now = compared(contract)
    differ = [key for key in COMPARED if check.contract.get(key) != now[key]]
    if differ:
        return f"made under a contract with another {', '.join(differ)}; drive again (`{COMMAND}`)"
    return ""


def _described(arm: Arm) -> str:
    kind = "simulated arm" if arm.simulated else "arm"
    place = f" in namespace {arm.namespace}" if arm.namespace else ""
    return f"{kind} {arm.name}{place} and settings {json.dumps(arm.settings, sort_keys=True)}"


def require(arm: Arm, contract: Contract, folder: Path, without: Collection[str], now: datetime) -> None:
    """Let a run on a real arm start only with a recent check that it has passed.

    Args:
        without: names that are overridden; those of other arms and tasks change nothing.

    Raises:
        ConfigError: it is missing, unreadable, too old, not passed, or of another arm or contract, and not overridden.
    """
    name = check_name(arm, contract.task)
    found = "" if name in without else problem(arm, contract, folder, now)
    if found:
        raise ConfigError(f"teleop check {name}: {found}. To start all the same: {OVERRIDE}:={name}")
