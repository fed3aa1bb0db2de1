"""Pins: a restart or a kill that loses the active policy, or takes an old version again."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.weights import Refusal, WeightsRefused
from inril_core.weights.store import STATE_NAME, WeightStore
from tests.strategies import JSON


class Killed(Exception):
    """The process is gone: nothing after this line happens."""


def memory(kept):
    return np.empty(kept.size_bytes, np.uint8)


def test_a_restart_finds_the_active_pack_the_highest_version_and_the_pin(tmp_path, make):
    store = WeightStore(tmp_path)
    first = make.kept(store, 1)
    store.activate(first.digest, pinned=False)
    make.kept(store, 2)
    again = WeightStore(tmp_path)
    assert again.active() == first
    assert again.read(first, memory(first)).data.tobytes() == make.pack(1)
    assert (again.state.run_id, again.state.highest_n, again.state.pinned) == ("run-1", 2, False)
    again.activate(first.digest, pinned=True)
    assert WeightStore(tmp_path).state.pinned
    again.unpin()
    assert not WeightStore(tmp_path).state.pinned


def test_a_bounded_number_is_kept_and_never_without_the_active_one(tmp_path, make):
    store = WeightStore(tmp_path, keep=3)
    store.activate(make.kept(store, 1).digest, pinned=False)
    for n in range(2, 8):
        make.kept(store, n)
    assert [kept.n for kept in store.state.packs] == [1, 6, 7]
    assert len(list(tmp_path.glob("*.pack"))) == 3
    assert store.find("run-1", 6).n == 6
    with pytest.raises(WeightsRefused, match=r"\(run-1, 7\)") as caught:
        store.find("run-1", 3)
    assert caught.value.reason is Refusal.NOT_KEPT


@pytest.mark.parametrize("dies_at", range(1, 25))
def test_killed_at_any_call_to_the_disk_the_old_or_the_new_state_is_found_whole(tmp_path, make, monkeypatch, dies_at):
    """Every file operation of `add` and `activate` in turn is the last one of the process."""
    store = WeightStore(tmp_path)
    first = make.kept(store, 1)
    store.activate(first.digest, pinned=False)
    calls = 0

    def dying(real):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == dies_at:
                raise Killed
            return real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "ftruncate", "write", "fsync", "replace"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            second = make.kept(store, 2)
            store.activate(second.digest, pinned=False)
        except Killed:
            pass
    again = WeightStore(tmp_path)
    assert again.state.highest_n in (1, 2)
    active = again.active()
    assert active.n in (1, 2)
    assert again.read(active, memory(active)).data.tobytes() == make.pack(active.n)
    assert not list(tmp_path.glob("*.tmp"))
    assert {path.name for path in tmp_path.glob("*.pack")} == {kept.file_name for kept in again.state.packs}


def test_truncated_temporary_files_and_unnamed_packs_are_cleared(tmp_path, make):
    store = WeightStore(tmp_path)
    make.kept(store, 1)
    (tmp_path / f"{STATE_NAME}.tmp").write_text('{"run_id": "ru')
    (tmp_path / "00000002-feedfeedfeedfeed.pack").write_bytes(make.pack(2)[:100])
    (tmp_path / "a_note.txt").write_text("not ours")
    WeightStore(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        store.state.packs[0].file_name,
        "a_note.txt",
        "incoming",
        STATE_NAME,
    ]


def test_damage_is_named_with_the_fix(tmp_path, make):
    store = WeightStore(tmp_path)
    kept = make.kept(store, 1)
    (tmp_path / kept.file_name).write_bytes(make.pack(1)[:-1] + b"x")
    with pytest.raises(ConfigError, match="has changed on disk"):
        store.read(kept, memory(kept))
    (tmp_path / kept.file_name).unlink()
    with pytest.raises(ConfigError, match=kept.file_name):
        store.read(kept, memory(kept))
    for content in ("", "[]", '{"packs": [{}]}', json.dumps({"packs": [], "unknown": 1})):
        (tmp_path / STATE_NAME).write_text(content)
        with pytest.raises(ConfigError, match="restore it or remove the folder"):
            WeightStore(tmp_path)
    with pytest.raises(ConfigError, match="keep"):
        WeightStore(tmp_path, keep=1)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["run_id", "highest_n", "pinned", "active", "packs"]),
    inner=st.sampled_from(["run_id", "n", "size_bytes", "digest", "mac"]) | st.none(),
    value=JSON,
)
def test_a_state_with_any_other_value_is_taken_or_refused_with_the_fix(tmp_path_factory, make, key, inner, value):
    folder = tmp_path_factory.mktemp("weights")
    store = WeightStore(folder)
    store.activate(make.kept(store, 1).digest, pinned=False)
    state = json.loads((folder / STATE_NAME).read_text())
    if inner is None:
        state[key] = value
    else:
        state["packs"][0][inner] = value
    (folder / STATE_NAME).write_text(json.dumps(state))
    try:
        again = WeightStore(folder)
    except ConfigError as error:
        assert "restore it or remove the folder" in str(error)
    else:
        make.kept(again, 2)
