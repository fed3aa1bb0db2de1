"""Pins: a key that others can read, a key that is half-written, and two processes with two keys."""

import os
import stat
import threading

import pytest

from inril_core.errors import ConfigError
from inril_core.weights.key import KEY_BYTES, load_or_create_key


def test_it_is_made_once_for_the_owner_alone(tmp_path):
    path = tmp_path / "config" / "weights.key"
    key = load_or_create_key(path)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path) == key
    assert os.listdir(path.parent) == ["weights.key"]


def test_it_is_made_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", unsupported)
    assert len(load_or_create_key(tmp_path / "weights.key")) == KEY_BYTES


def test_the_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"File exists .*config.*INRIL_KEY"):
        load_or_create_key(tmp_path / "config" / "weights.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_others_can_touch_is_refused(tmp_path, mode):
    path = tmp_path / "weights.key"
    load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:o}"):
        load_or_create_key(path)


@pytest.mark.parametrize("size", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_a_wrong_size_is_refused(tmp_path, size):
    path = tmp_path / "weights.key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(ConfigError, match="32 bytes"):
        load_or_create_key(path)


def test_links_folders_and_dangling_links_are_refused(tmp_path):
    real = tmp_path / "real.key"
    load_or_create_key(real)
    (tmp_path / "link.key").symlink_to(real)
    (tmp_path / "dangling.key").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.key").mkdir()
    for name in ("link.key", "dangling.key", "folder.key"):
        with pytest.raises(ConfigError, match=name):
            load_or_create_key(tmp_path / name)


def test_many_first_calls_at_once_give_one_key(tmp_path):
    path = tmp_path / "weights.key"
    barrier, keys = threading.Barrier(8), []

    def first_call():
        barrier.wait(timeout=10)
        keys.append(load_or_create_key(path))

    threads = [threading.Thread(target=first_call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(keys) == 8 and len(set(keys)) == 1
