"""The file of lines: torn, locked, damaged, compact."""

import errno
import json
from dataclasses import replace
from unittest import mock

import pytest

from inril_core.bench import lines as lines_module
from inril_core.bench.lines import Known, LinesFile, compact
from inril_core.errors import ConfigError
from tests.bench.made import experiment, line

JOB = experiment().jobs()[0]


def test_a_torn_last_line_is_cut_off(tmp_path) -> None:
    """Pins: a kill in the middle of writing makes the whole file unreadable, or glues two lines together."""
    path = tmp_path / "made.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":"\xc3')  # torn within a letter
    with LinesFile(path) as file:
        file.append({"c": 2})
    assert path.read_text() == '{"a":1}\n{"c":2}\n'


def test_a_whole_last_line_without_its_end_is_kept(tmp_path) -> None:
    path = tmp_path / "made.jsonl"
    path.write_text('{"a":1}\n{"b":2}')
    with LinesFile(path) as file:
        assert file.lines == [{"a": 1}, {"b": 2}]
        file.append({"c": 3})
    assert path.read_text() == '{"a":1}\n{"b":2}\n{"c":3}\n'


def test_damage_before_the_end_is_told(tmp_path) -> None:
    """Pins: results that vanish without a word."""
    path = tmp_path / "made.jsonl"
    path.write_text('{"a":1}\n{"b"\n{"c":3}\n')
    with pytest.raises(ConfigError, match="line 2"):
        LinesFile(path)


def test_two_benches_at_once_are_refused(tmp_path) -> None:
    """Pins: every run done twice, lines of two writers in one another."""
    path = tmp_path / "made.jsonl"
    with LinesFile(path), pytest.raises(ConfigError, match="another bench"):
        LinesFile(path)
    with LinesFile(path):
        pass  # free again


def test_lines_are_compact_and_plain_json() -> None:
    text = compact({"a": 0.123456789, "b": [1.0, float("nan"), float("inf")], "c": {"d": (1, 2)}})
    assert text == '{"a":0.123457,"b":[1.0,null,null],"c":{"d":[1,2]}}'


def test_the_last_line_counts_but_a_failure_never_replaces_a_result() -> None:
    first, second, bad = line(JOB, 90), line(JOB, 91), line(JOB, error="E")
    assert Known([first, second]).of(JOB)["final_successes"] == 91
    assert Known([bad, first]).of(JOB)["error"] is None
    assert Known([first, bad]).of(JOB)["error"] is None
    assert Known([bad]).of(JOB)["error"] == "E"


def test_lines_of_settings_that_no_longer_exist_are_left_alone() -> None:
    """Pins: an old line stops the bench."""
    old = json.loads(compact(line(JOB)))
    old["config"]["rl"]["method"] = "gone"
    assert Known([old, {"other": "format"}]).of(JOB) is None


@pytest.mark.parametrize("change", [{"config": "x"}, {"task_digest": ...}, {"error": ...}])
def test_lines_of_another_make_are_left_alone(change) -> None:
    """Pins: a line that another program wrote ends `--list` with a traceback. ...: the line has no such part."""
    odd = {key: value for key, value in (line(JOB) | change).items() if value is not ...}
    assert Known([odd]).of(JOB) is None


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path) -> None:
    path = tmp_path / "made.jsonl"
    path.write_bytes(b'{"a":1}\n\xff\xfe\n')
    with pytest.raises(ConfigError, match=r"line 2: .*delete this line"):
        LinesFile(path)


def test_a_full_disk_is_told_and_leaves_no_half_line(tmp_path, monkeypatch) -> None:
    """Pins: a traceback after an hour of a run, and half a line that the next one is glued to."""
    path = tmp_path / "made.jsonl"
    full = OSError(errno.ENOSPC, "No space left on device")
    with LinesFile(path) as file:
        file.append({"a": 1})
        with monkeypatch.context() as patch:
            patch.setattr(lines_module.os, "fsync", mock.Mock(side_effect=full))
            with pytest.raises(ConfigError, match=r"made\.jsonl: .*No space left .*same command"):
                file.append({"b": 2})
        file.append({"c": 3})
        assert file.lines == [{"a": 1}, {"c": 3}]
    assert path.read_text() == '{"a":1}\n{"c":3}\n'


def test_a_folder_that_cannot_be_is_told(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written.*--out"):
        LinesFile(tmp_path / "file" / "made.jsonl")


def test_a_stopped_run_counts_only_for_those_who_would_stop_it_too() -> None:
    """Pins: raising or removing cap_s changes nothing, the stopped runs stay in the table."""
    stopped = Known([line(JOB, capped=True, fine_tune_s=60.1)])
    assert stopped.of(replace(JOB, cap_s=60.0)) is not None
    assert stopped.of(replace(JOB, cap_s=120.0)) is None and stopped.of(JOB) is None
    assert Known([line(JOB, fine_tune_s=60.1)]).of(replace(JOB, cap_s=30.0)) is not None
