"""Pins: a restart or a kill that loses the active policy, or takes an old version again."""

import json
import os
from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.weights import Refusal, WeightsRefused
from inril_core.weights.store import STATE_NAME, WeightStore


class Killed(Exception):
    """The process is gone: nothing after this line happens."""


def test_a_restart_finds_the_active_pack_the_highest_version_and_the_pin(tmp_path, make):
    store = WeightStore(tmp_path)
    first = store.add(make.pack(1), "run-1", 1)
    store.activate(first.sha256, pinned=False)
    store.add(make.pack(2), "run-1", 2)
    again = WeightStore(tmp_path)
    assert again.active() == first
    assert again.read(first) == make.pack(1)
    assert (again.state.run_id, again.state.highest_n, again.state.pinned) == ("run-1", 2, False)
    again.activate(first.sha256, pinned=True)
    assert WeightStore(tmp_path).state.pinned
    again.unpin()
    assert not WeightStore(tmp_path).state.pinned


def test_a_bounded_number_is_kept_and_never_without_the_active_one(tmp_path, make):
    store = WeightStore(tmp_path, keep=3)
    store.activate(store.add(make.pack(1), "run-1", 1).sha256, pinned=False)
    for n in range(2, 8):
        store.add(make.pack(n), "run-1", n)
    assert [kept.n for kept in store.state.packs] == [1, 6, 7]
    assert len(list(tmp_path.glob("*.pack"))) == 3
    assert store.find("run-1", 6).n == 6
    with pytest.raises(WeightsRefused, match=r"\(run-1, 7\)") as caught:
        store.find("run-1", 3)
    assert caught.value.reason is Refusal.NOT_KEPT


@pytest.mark.parametrize("dies_at", range(1, 13))
def test_killed_at_any_call_to_the_disk_the_old_or_the_new_state_is_found_whole(tmp_path, make, monkeypatch, dies_at):
    """Every file operation of `add` and `activate` in turn is the last one of the process."""
    store = WeightStore(tmp_path)
    first = store.add(make.pack(1), "run-1", 1)
    store.activate(first.sha256, pinned=False)
    calls = 0
    open_path = Path.open

    def dying(real):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == dies_at:
                if real is open_path:
                    real(*arguments, **named).close()  # emptied, and nothing written
                raise Killed
            return real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "open", dying(Path.open))
        try:
            second = store.add(make.pack(2), "run-1", 2)
            store.activate(second.sha256, pinned=False)
        except Killed:
            pass
    again = WeightStore(tmp_path)
    assert again.state.highest_n in (1, 2)
    active = again.active()
    assert active.n in (1, 2)
    assert again.read(active) == make.pack(active.n)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]
    assert {path.name for path in tmp_path.glob("*.pack")} == {kept.file_name for kept in again.state.packs}


def test_truncated_temporary_files_and_unnamed_packs_are_cleared(tmp_path, make):
    store = WeightStore(tmp_path)
    store.add(make.pack(1), "run-1", 1)
    (tmp_path / f".tmp-{STATE_NAME}-abc").write_text('{"run_id": "ru')
    (tmp_path / "00000002-feedfeedfeedfeed.pack").write_bytes(make.pack(2)[:100])
    (tmp_path / "a_note.txt").write_text("not ours")
    WeightStore(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        store.state.packs[0].file_name,
        "a_note.txt",
        STATE_NAME,
    ]


def test_damage_is_named_with_the_mend(tmp_path, make):
    store = WeightStore(tmp_path)
    kept = store.add(make.pack(1), "run-1", 1)
    (tmp_path / kept.file_name).write_bytes(make.pack(1)[:-1] + b"x")
    with pytest.raises(ConfigError, match="has changed on disk"):
        store.read(kept)
    (tmp_path / kept.file_name).unlink()
    with pytest.raises(ConfigError, match=kept.file_name):
        store.read(kept)
    for content in ("", "[]", '{"packs": [{}]}', json.dumps({"packs": [], "unknown": 1})):
        (tmp_path / STATE_NAME).write_text(content)
        with pytest.raises(ConfigError, match="restore it or remove the folder"):
            WeightStore(tmp_path)
    with pytest.raises(ConfigError, match="keep"):
        WeightStore(tmp_path, keep=1)
