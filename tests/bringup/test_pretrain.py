"""Pins: a policy that is lost after all updates because its folder cannot be written; half a file after a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.files import ResultFile


def test_the_output_is_opened_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "bc.inril", tmp_path, Path("/proc/none/bc.inril")):
        with pytest.raises(ConfigError, match="--out = "), ResultFile(path):
            raise AssertionError("the work has begun")


def test_a_folder_that_is_not_there_is_made_and_taken_away_again_if_the_work_fails(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "bc.inril"
    with pytest.raises(KeyboardInterrupt), ResultFile(path):
        assert path.parent.is_dir()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with ResultFile(path) as output:
        output.write(b"policy")
    assert [file.name for file in path.parent.iterdir()] == ["bc.inril"] and path.read_text() == "policy"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bc.inril"
    path.write_text("old")

    def disk_full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(ConfigError, match="free some space"), ResultFile(path) as output:
        output.write(b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["bc.inril"] and path.read_text() == "old"
