"""Pins: files are whole or absent, one process wins a race, and no JSON line is lost or believed that should not be."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.files import (
    AtomicFile,
    FileBusy,
    append_line,
    create_once,
    lock_file,
    read_lines,
    read_sound_lines,
    write_atomically,
    write_lines,
)
from tests.strategies import JSON


@dataclass(frozen=True)
class Fact:
    """A line."""

    n: int
    name: str
    share: float = 0.5


def failing(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", ["os.write", "os.fsync", "os.replace"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(call, failing)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["state.json"]


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AtomicFile(tmp_path / "absent" / "policy")
    with AtomicFile(tmp_path / "policy"):
        pass  # the work failed
    assert names(tmp_path) == []


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with AtomicFile(path) as first:
        with pytest.raises(FileBusy, match="another process"):
            AtomicFile(path)
        first.commit(b"first")
    with AtomicFile(path) as second:
        second.commit(b"2")
    assert path.read_bytes() == b"2" and names(tmp_path) == ["policy"]


def test_a_killed_writer_leaves_the_old_file_and_does_not_block_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; import inril_core.files as files\n"
        "files.os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomically(Path(sys.argv[1]), b'x' * 100)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old" and names(tmp_path) == ["state.json", "state.json.tmp"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["state.json"]


def test_a_draft_that_another_writer_has_just_put_in_place_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, calls = tmp_path / "state.json", fcntl.flock, []
    (tmp_path / "state.json.tmp").write_bytes(b"another")

    def late(fd: int, how: int) -> None:
        if not calls:
            os.replace(tmp_path / "state.json.tmp", path)  # between our opening and our lock
        calls.append(fd)
        lock(fd, how)

    monkeypatch.setattr("fcntl.flock", late)
    with AtomicFile(path) as file:
        assert path.read_bytes() == b"another"
        file.commit(b"ours")
    assert path.read_bytes() == b"ours" and names(tmp_path) == ["state.json"]


def make_id(path: str, value: int) -> tuple[bool, bytes]:
    return create_once(Path(path), b"%d" % value * 5000), Path(path).read_bytes()


def test_of_processes_that_race_to_make_a_file_one_wins_and_all_read_the_same(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        for attempt in range(20):
            path = str(tmp_path / f"id{attempt}")
            made = pool.starmap(make_id, [(path, value) for value in range(8)])
            assert sum(here for here, _ in made) == 1
            assert len({content for _, content in made}) == 1
    assert names(tmp_path) == sorted(f"id{attempt}" for attempt in range(20))


def test_it_works_where_there_are_no_hard_links_locks_or_folder_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    fsync = os.fsync
    monkeypatch.setattr("os.link", unsupported)
    monkeypatch.setattr("fcntl.flock", unsupported)
    monkeypatch.setattr("os.fsync", lambda fd: unsupported() if os.path.isdir(f"/proc/self/fd/{fd}") else fsync(fd))
    assert create_once(tmp_path / "a", b"1", 0o600) and not create_once(tmp_path / "a", b"2", 0o600)
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4), st.data())
def test_of_a_file_cut_anywhere_the_whole_lines_are_read_and_the_next_one_stands_alone(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, object]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("lines") / "log.jsonl"
    for line in lines:
        append_line(path, line)
    whole = path.read_bytes() if lines else b""
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = [json.loads(line) for line in whole[:cut].split(b"\n")[:-1]]
    assert json.dumps(read_lines(path, dict)) == json.dumps(kept)
    append_line(path, {"n": 1})
    assert json.dumps(read_lines(path, dict)) == json.dumps([*kept, {"n": 1}])


def test_a_very_long_unfinished_line_is_removed_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_lines(path, [{"n": 1}])
    with path.open("a") as file:
        file.write("x" * 200_000)
    append_line(path, {"n": 2})
    assert path.read_text() == '{"n":1}\n{"n":2}\n'


def test_a_line_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    write_lines(path, [{"n": 1}])
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing)
        with pytest.raises(OSError, match="No space"):
            append_line(path, {"n": 2})
    append_line(path, {"n": 3})
    assert read_lines(path, dict) == [{"n": 1}, {"n": 3}]


@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from(["n", "name", "share", "other", ""]))
def test_a_value_of_another_type_is_named_with_its_line_and_never_raises(
    tmp_path_factory: pytest.TempPathFactory, value: object, key: str
) -> None:
    good = {"n": 1, "name": "a"}
    path = tmp_path_factory.mktemp("lines") / "facts.jsonl"
    write_lines(path, [good, {**good, key: value} if key else value, good])  # type: ignore[list-item]
    found = read_sound_lines(path, Fact)
    assert len(found.values) + len(found.problems) == 3 and len(found.values) >= 2
    assert all(type(f.n) is int and type(f.name) is str and type(f.share) is float for f in found.values)
    if found.problems:
        assert found.problems[0].startswith(f"{path}, line 2: ")
        with pytest.raises(ConfigError, match="line 2: .*; fix or delete this line"):
            read_lines(path, Fact)


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[" * 100_000, b"9" * 100_000, b'{"n": 1e999, "name": "\\ud800"}', b""])
def test_bytes_that_are_no_json_are_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'{"n": 1, "name": "a"}\n' + line + b'\n{"n": 2, "name": "b"}\n')
    found = read_sound_lines(path, Fact)
    assert [fact.n for fact in found.values] == [1, 2] and len(found.problems) == 1


def test_a_missing_file_has_no_lines_but_is_refused_where_it_must_be_there(tmp_path: Path) -> None:
    assert read_sound_lines(tmp_path / "absent", dict).values == []
    with pytest.raises(ConfigError, match="no such file"):
        read_lines(tmp_path / "absent", dict)


def test_a_held_lock_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.lock"
    with path.open("a") as mine, path.open("a") as theirs:
        lock_file(theirs, 0.0)
        with pytest.raises(FileBusy, match=r"another process.*notes\.lock"):
            lock_file(mine, 0.0)
        releases = threading.Timer(0.05, lambda: fcntl.flock(theirs, fcntl.LOCK_UN))
        releases.start()
        lock_file(mine, 60.0)
        with pytest.raises(FileBusy):
            lock_file(theirs, 0.0)
