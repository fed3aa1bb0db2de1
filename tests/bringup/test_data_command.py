"""Pins: `inril data` as a person types it."""

import json

import pytest
from inril_bringup.cli import main
from inril_bringup.run_dir import lock_run_dir

from tests.data.recorded_run import record_demos


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_list_drop_and_undo(tmp_path, capsys):
    names = record_demos(tmp_path, 4, spoil=1)
    assert run("data", "list", str(tmp_path)) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert names[0] in first and "6 steps  success" in first
    assert "outlier: step 3 tool_position_m[0] = 10000" in second and "3 more outliers" in second
    assert run("data", "drop", str(tmp_path), names[0]) == 0
    assert run("data", "list", str(tmp_path), "--json") == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [episode["dropped"] for episode in listed["episodes"]] == [True, False, False, False]
    assert listed["episodes"][1]["outliers"][0]["step"] == 3 and listed["problems"] == listed["unlisted"] == []
    assert run("data", "drop", str(tmp_path), names[0], "--undo") == 0
    assert run("data", "list", str(tmp_path)) == 0
    assert "dropped" not in capsys.readouterr().out


def test_a_mistake_is_one_line_and_changes_nothing(tmp_path, capsys):
    record_demos(tmp_path / "run", 1)
    assert run("data", "drop", str(tmp_path / "run"), "demo-9") == 1
    assert run("data", "drop", str(tmp_path / "none"), "demo-0") == 1
    assert not (tmp_path / "none").exists()
    with lock_run_dir(tmp_path / "run"):
        assert run("data", "drop", str(tmp_path / "run"), "demo-0") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(line.startswith("inril data: ") for line in said) and "in use" in said[2]
