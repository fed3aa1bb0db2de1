"""Pins: a command whose result goes to a file that cannot be written says so before it computes anything."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.files import ResultFile, check_writable

ROOT = Path(__file__).resolve().parents[1]
OPTION = re.compile(r'add_argument\(\s*"--(?:out|json|report)",\s*type=Path')
OPENS_FIRST = re.compile(r"check_writable\(|ResultFile\(|\bOutput\(|write_picture\(")
ELSEWHERE = {
    "inril_core/bench/command.py": "the runner opens the file of lines before the first run",
    "ros2_ws/src/inril_bringup/inril_bringup/cli.py": "its pretrain.py does it",
    "ros2_ws/src/inril_bringup/inril_bringup/data_exchange.py": "inril_core/exchange does it",
}


class Computed(Exception):
    """The command went on."""


def test_every_command_with_an_output_file_tries_it_first() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("inril_core", "ros2_ws/src")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if OPTION.search(text := path.read_text()) and not OPENS_FIRST.search(text)
    ]
    assert set(found) <= set(ELSEWHERE), f"open the output before the work, see files.ResultFile: {found}"


@pytest.mark.parametrize(
    ("module", "arguments", "works"),
    [
        ("inril_core.bench.speed", ["--out", "OUT"], "measure"),
        ("inril_core.bench.task_speed", ["insert_leg", "--json", "OUT"], "measure"),
        ("inril_core.calibration.evidence", ["--out", "OUT"], "hand_eye_table"),
        ("inril_core.calibration.evidence", ["--example", "OUT"], "write_example"),
        ("inril_bringup.graph_benchmark", ["--out", "OUT"], "updates_per_s_alone"),
        ("inril_bringup.recording_benchmark", ["--out", "OUT"], "draw_pictures"),
        ("inril_bringup.takeover_benchmark", ["--out", "OUT"], "takeovers"),
        ("inril_bringup.weights_benchmark", ["--out", "OUT"], "_tcp_pair"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    module: str, arguments: list[str], works: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    if module.startswith("inril_bringup"):
        pytest.importorskip("rclpy")
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "page.md")
    command = importlib.import_module(module)

    def work(*_: object, **__: object) -> None:
        raise Computed

    monkeypatch.setattr(command, works, work)
    monkeypatch.setattr(sys, "argv", [module, *(out if text == "OUT" else text for text in arguments)])
    try:
        said = str(command.main())
    except SystemExit as error:
        said = str(error)
    said += capsys.readouterr().err
    assert "give a path that you may write to" in said and str(tmp_path / "file") in said


@pytest.mark.parametrize("name", ["folder", "file/x", "missing/deeper/x"])
def test_what_cannot_be_written_is_refused_and_what_can_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    if name.startswith("missing"):
        check_writable(tmp_path / name)
    else:
        with pytest.raises(ConfigError, match="--json = .*give"):
            check_writable(tmp_path / name, "--json")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "kept"


def test_a_result_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(Computed), ResultFile(path):
        raise Computed
    assert path.read_text() == "old" and sorted(tmp_path.iterdir()) == [path]
    with ResultFile(path) as file:
        file.write(b"new")
    assert path.read_text() == "new" and sorted(tmp_path.iterdir()) == [path]
