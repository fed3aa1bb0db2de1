"""Pins: a run has one id, whatever the file system can, and what stands in the way is named."""

from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.run import open_run


def test_a_run_keeps_its_id_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", unsupported)
    assert open_run(tmp_path / "run").run_id == open_run(tmp_path / "run").run_id


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"run_dir = .*/file/run: .*/file is a file; give a folder"):
        open_run(tmp_path / "file" / "run")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run_id": 3}', '{"run_id": ""}'])
def test_a_damaged_identity_is_refused_with_the_fix(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json: .*restore the file"):
        open_run(tmp_path)
