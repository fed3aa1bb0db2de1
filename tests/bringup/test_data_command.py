"""Pins: `inril data` as a person types it."""

import json

import pytest
from inril_bringup.cli import main
from inril_bringup.run_dir import lock_run_dir

from inril_core.data.index import EpisodeIndex
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
    with lock_run_dir(tmp_path / "run"):  # a graph runs; the session that asked for it knows the label
        assert run("data", "annotate", str(tmp_path / "run"), "demo-0", "--label", "failure") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(line.startswith("inril data: ") for line in said) and "in use" in said[2]


def test_a_learner_that_runs_may_be_told_what_to_leave_out(tmp_path):
    record_demos(tmp_path, 2)
    with lock_run_dir(tmp_path):
        assert run("data", "drop", str(tmp_path), "demo-0") == 0
    assert EpisodeIndex(tmp_path / "episodes").dropped("demo-0")


def test_verify_says_by_its_exit_code_whether_all_is_good(tmp_path, capsys):
    names = record_demos(tmp_path, 2)
    assert run("data", "verify", str(tmp_path)) == 0
    assert capsys.readouterr().out == "2 of 2 files are good\n"
    (tmp_path / "episodes" / f"{names[1]}.mcap").write_bytes(b"")
    assert run("data", "verify", str(tmp_path), "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["good"], said["bad"]) == (1, 1) and said["files"][1]["problems"]
    assert run("data", "info", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1


def test_out_and_in_again(tmp_path, capsys):
    pytest.importorskip("h5py", reason="needs the extra `data`")
    record_demos(tmp_path / "run", 3)
    out = str(tmp_path / "out.hdf5")
    assert run("data", "export", str(tmp_path / "run"), out, "--format", "hdf5", "--episode", "demo-[01]") == 0
    assert "2 episodes, 12 steps" in capsys.readouterr().out
    assert run("data", "export", str(tmp_path / "run"), out, "--format", "hdf5") == 1
    assert "--force" in capsys.readouterr().err
    assert run("data", "import", out, str(tmp_path / "back"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert run("data", "merge", str(tmp_path / "back"), "--out", str(tmp_path / "all")) == 0
    assert run("data", "filter", str(tmp_path / "all"), "--out", str(tmp_path / "one"), "--episode", "demo-1") == 0
    assert "1 episodes, 6 steps" in capsys.readouterr().out
    assert run("data", "import", out) == 1 and run("data", "import", out, "--write-map", out + ".yaml") == 1
    for option, value in (("--steps", "9:3"), ("--human-share", "x:1"), ("--since", "yesterday")):
        assert run("data", "filter", str(tmp_path / "all"), "--out", str(tmp_path / "two"), option, value) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5 and all(line.startswith("inril data: ") for line in said)


def test_annotate(tmp_path, capsys):
    from inril_core.run import open_run

    open_run(tmp_path)
    names = record_demos(tmp_path, 2)
    words = ("data", "annotate", str(tmp_path), names[0])
    assert run(*words, "--mark", "1-3=failure", "--mark", "4=recovery", "--reward", "2=-0.5", "--label", "failure") == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and "annotation 3: steps 2 to 2 are reward -0.5" in said[2] and "failure" in said[3]
    assert run("data", "list", str(tmp_path)) == 0
    assert "failure" in capsys.readouterr().out.splitlines()[0]
    for wrong in (
        ("--mark", "1-3=loud"),
        ("--mark", "x=failure"),
        ("--reward", "1=much"),
        ("--mark", "5-9=failure"),
        (),
    ):
        assert run(*words, *wrong) == 1
    assert len(capsys.readouterr().err.splitlines()) == 5
