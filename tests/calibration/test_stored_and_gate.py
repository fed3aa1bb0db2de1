"""Pins: results on disk are checked when read, and a run does not start with a calibration that its contract names and
that is missing, old, of another camera or board, or found wrong since."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from inril_bringup import check, cli
from inril_bringup.graph import load_graph

from inril_core.calibration.gate import require
from inril_core.calibration.stored import Stored, read_stored, write_stored
from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError
from tests.calibration.made_poses import T_of, make

NOW = datetime(2026, 6, 1, tzinfo=UTC)
IDENTITY = [[1.0, 0.0, 0.0, 0.1], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.0, 1.0]]


def stored(**changed: object) -> Stored:
    whole = {
        "kind": "base_tag",
        "name": "T_base_front",
        "created": NOW - timedelta(days=3),
        "software": "inril",
        "camera": {"name": "front", "serial": "42"},
        "board": "furniture_bench_base",
        "T": IDENTITY,
    }
    return Stored.model_validate({**whole, **changed})


def contract_with(**need: object) -> Contract:
    values = json.loads(load_contract("insert_leg").text)
    values["calibration"] = [{"name": "T_base_front", **need}]
    return Contract.model_validate(values)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "T_base_front.yaml"
    write_stored(path, stored())
    assert read_stored(path) == stored()
    with pytest.raises(ConfigError, match="is called T_base_front.yaml"):
        write_stored(tmp_path / "mine.yaml", stored())
    path.rename(tmp_path / "T_base_wrist.yaml")
    with pytest.raises(ConfigError, match="holds T_base_front"):
        read_stored(tmp_path / "T_base_wrist.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not YAML"),
        ("[]", "mapping|dict"),
        ("kind: base_tag", "name"),
        ("a: 1\na: 2", "twice"),
        ("\x00", "not YAML"),
    ],
)
def test_files_that_are_none(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "T_base_front.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"T_base_front.yaml.*({words})"):
        read_stored(path)


def test_values_that_are_none(tmp_path: Path) -> None:
    for changed, words in (
        ({"T": None}, "needs T"),
        ({"T": [[2.0, 0.0, 0.0, 0.0], *IDENTITY[1:]]}, "not rigid"),
        ({"created": datetime(2026, 1, 1)}, "time zone"),
        ({"name": "../T_base_front"}, "name"),
    ):
        with pytest.raises(ValueError, match=words):
            stored(**changed)


@pytest.mark.parametrize(
    ("need", "changed", "serials", "words"),
    [
        ({}, None, {}, "is missing; make it with"),
        ({"max_age_days": 2.0}, {}, {}, "3 days old, the contract allows 2"),
        ({}, {"created": NOW + timedelta(days=1)}, {}, "set the clock"),
        ({"board": "other"}, {}, {}, "'furniture_bench_base', the contract wants 'other'"),
        ({}, {}, {"front": "43"}, "serial number 42, and front has 43"),
        (
            {},
            {"check": {"created": NOW, "passed": False, "residual_px": 9.0, "limit_px": 3.0}},
            {},
            "check of .* failed",
        ),
    ],
)
def test_a_run_is_refused_unless_the_name_is_given(
    need: dict[str, object], changed: dict[str, object] | None, serials: dict[str, str], words: str, tmp_path: Path
) -> None:
    contract = contract_with(**need)
    if changed is not None:
        write_stored(tmp_path / "T_base_front.yaml", stored(**changed))
    with pytest.raises(ConfigError, match=words) as refused:
        require(contract, tmp_path, serials, (), NOW)
    assert "without_calibration:=T_base_front" in str(refused.value)
    require(contract, tmp_path, serials, ("T_base_front",), NOW)
    with pytest.raises(ConfigError, match="the contract names T_base_front"):
        require(contract, tmp_path, serials, ("T_base_fornt",), NOW)


def test_a_good_one_passes(tmp_path: Path) -> None:
    write_stored(tmp_path / "T_base_front.yaml", stored())
    contract = contract_with(board="furniture_bench_base", max_age_days=4.0)
    require(contract, tmp_path, {"front": "42"}, (), NOW)
    require(contract, tmp_path, {"wrist": "43", "front": ""}, (), NOW)


def test_the_graph_asks_before_it_starts(tmp_path: Path) -> None:
    values = json.loads(load_contract("insert_leg").text)
    values["calibration"] = [{"name": "T_base_front"}]
    (tmp_path / "mine.yaml").write_text(json.dumps(values))
    given = {"contract": str(tmp_path / "mine.yaml"), "run_dir": str(tmp_path / "run"), "plan": "demo:1:episodes"}
    graph = load_graph("collect_demos")
    folder = {"calibration": str(tmp_path / "calibration")}
    with pytest.raises(ConfigError, match=r"T_base_front.yaml is missing.*without_calibration:=T_base_front"):
        check.check(graph.resolve({**given, **folder}))
    check.check(graph.resolve({**given, **folder, "without_calibration": "T_base_front"}))
    with pytest.raises(ConfigError, match="the contract names T_base_front"):
        check.check(graph.resolve({**given, **folder, "without_calibration": "T_base_wrist"}))


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["calibrate", *words])
    return int(end.value.code or 0)


def test_the_check_notices_that_the_camera_was_knocked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, out = make(3), tmp_path / "T_gripper_wrist.yaml"
    poses = str(made.write(tmp_path / "poses.npz"))
    assert (
        run("hand-eye", "--poses", poses, "--out", str(out), "--camera", "wrist", "--report", str(tmp_path / "r")) == 0
    )
    assert (tmp_path / "r" / "T_gripper_camera.html").exists() and (tmp_path / "r" / "overlay.png").exists()
    one = {key: made.arrays[key][:1] for key in ("T_base_gripper", "corners")}
    now = str(made.write(tmp_path / "now.npz", **one))
    assert run("check", "--calibration", str(out), "--poses", now) == 0
    assert read_stored(out).check is not None and read_stored(out).check.passed
    # a knock of 1 deg: as if the gripper were turned in the camera's place
    knocked = made.arrays["T_base_gripper"] @ T_of([0.0, np.radians(1.0), 0.0], [0.0, 0.0, 0.0])
    late = str(made.write(tmp_path / "late.npz", T_base_gripper=knocked[:4], corners=made.arrays["corners"][:4]))
    capsys.readouterr()
    assert run("check", "--calibration", str(out), "--poses", late, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["passed"] and answer["residual_px"] > answer["limit_px"]
    with pytest.raises(ConfigError, match="failed"):
        need = [{"name": "T_gripper_wrist"}]
        values = {**json.loads(load_contract("insert_leg").text), "calibration": need}
        require(Contract.model_validate(values), tmp_path, {}, (), datetime.now(UTC))


def test_the_check_with_a_board_elsewhere(tmp_path: Path) -> None:
    made, out = make(3), tmp_path / "T_gripper_wrist.yaml"
    poses = str(made.write(tmp_path / "poses.npz"))
    assert run("hand-eye", "--poses", poses, "--out", str(out), "--camera", "wrist") == 0
    # the base moved under the board: the same as a board that was moved
    elsewhere = T_of([0.0, 0.0, 0.5], [0.1, 0.2, 0.0]) @ made.arrays["T_base_gripper"]
    moved = str(made.write(tmp_path / "moved.npz", T_base_gripper=elsewhere))
    assert run("check", "--calibration", str(out), "--poses", moved) == 1
    assert run("check", "--calibration", str(out), "--poses", moved, "--board-moved") == 0


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = str(make(3).write(tmp_path / "poses.npz"))
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "T_gripper_wrist.yaml"
    assert run("hand-eye", "--poses", poses, "--out", str(out), "--camera", "wrist") == 1
    assert run("hand-eye", "--poses", poses, "--out", str(out)) == 1
    assert "Traceback" not in capsys.readouterr().err
