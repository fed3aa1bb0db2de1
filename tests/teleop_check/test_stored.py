"""Pins: a run on a real arm that nobody has driven by hand, or long ago, or another arm, or under other limits."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.teleop_check.found import Found
from inril_core.teleop_check.report import report_lines
from inril_core.teleop_check.stored import (
    MAX_AGE_DAYS,
    Arm,
    TeleopCheck,
    check_name,
    compared,
    read_check,
    require,
    write_check,
)
from inril_core.teleop_check.verdict import reasons
from tests.teleop_check.made import contract, found, whole

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ARM = Arm(name="franky", settings={"host": "172.16.0.2", "motion": {"relative_dynamics_factor": 0.3}})
NAME = "teleop_check_franky_insert_leg"


def made(under: Contract, arm: Arm = ARM, numbers: Found | None = None, **changed: object) -> TeleopCheck:
    numbers = numbers or found(whole(under, delay_s=0.03), under)
    why = reasons(numbers, under)
    values = {
        "name": check_name(arm, under.task),
        "created": NOW - timedelta(days=2),
        "software": "inril",
        "commit": "0" * 12,
        "operator": "ada",
        "device": "spacemouse",
        "arm": arm,
        "task": under.task,
        "interface_digest": under.interface_digest,
        "deployment_digest": under.deployment_digest,
        "contract": compared(under),
        "passed": not why,
        "reasons": why,
        "found": numbers,
    }
    return TeleopCheck.model_validate(values | changed)


def with_limits(**changed: object) -> Contract:
    values = json.loads(contract().text)
    values["limits"] |= changed
    return Contract.model_validate(values)


def test_what_is_written_is_read_and_lets_the_run_start(tmp_path: Path) -> None:
    """In lockstep too, where numbers are left out; limits with optional sections included."""
    under = with_limits(space={"tool_radius_m": 0.05, "floor_m": 0.0})
    for numbers in (found(whole(under), under), found(whole(under), under).model_copy(update={"cadence": None})):
        check = made(under, numbers=numbers)
        path = write_check(tmp_path / "deep", check)
        assert path.name == f"{NAME}.yaml" and read_check(path) == check
        require(ARM, under, path.parent, (), NOW)
    assert any("passed" in line for line in report_lines(check))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"created": NOW - timedelta(days=MAX_AGE_DAYS + 3)}, "10 days old, 7 are allowed; drive again"),
        ({"created": NOW + timedelta(days=1)}, "is to come; set the clock"),
        ({"passed": False, "reasons": ("x 0.25 of the commanded speed",)}, "not passed: x 0.25 of the commanded speed"),
        ({"arm": ARM.model_copy(update={"settings": {"host": "172.16.0.3"}})}, "made with arm franky .*0.3.*has .*0.2"),
        ({"arm": ARM.model_copy(update={"simulated": True})}, "made with simulated arm franky"),
        ({"contract": compared(with_limits(max_tilt_rad=0.3))}, "another limits; drive again"),
        ({"contract": {}}, "another control_rate_hz, base_frame, action, limits"),
    ],
)
def test_a_check_that_does_not_hold_for_this_run(tmp_path: Path, changed: dict[str, object], told: str) -> None:
    write_check(tmp_path, made(contract(), **changed))
    with pytest.raises(ConfigError, match=told) as refused:
        require(ARM, contract(), tmp_path, ("teleop_check_other",), NOW)
    assert str(refused.value).endswith(f"To start all the same: without_teleop_check:={NAME}")
    require(ARM, contract(), tmp_path, (NAME,), NOW)


def test_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{NAME}.yaml is missing; make it with `inril teleop-check`"):
        require(ARM, contract(), tmp_path, (), NOW)
    path = write_check(tmp_path, made(contract()))
    whole_text = path.read_text()
    for text, told in (
        ("{", "not YAML"),
        (whole_text.replace("passed: true", "passed: false"), "contradict"),
        (re.sub(r"gain: [0-9.]+", "gain: .nan", whole_text), "gain: .*make it anew with `inril teleop-check`"),
        (whole_text.replace(NAME, "teleop_check_other"), "holds teleop_check_other"),
        ("", "dictionary|mapping|valid"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=told):
            require(ARM, contract(), tmp_path, (), NOW)


def test_each_arm_namespace_and_task_has_a_file_of_its_own() -> None:
    names = {
        check_name(Arm(name=name, namespace=place), task)
        for name in ("franky", "my_lab.arm:Config")
        for place in ("", "left", "right")
        for task in ("insert_leg", "one_leg")
    }
    assert len(names) == 12 and "teleop_check_left_my_lab_arm_Config_one_leg" in names


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written.*another calibration:="):
        write_check(tmp_path / "file", made(contract()))
