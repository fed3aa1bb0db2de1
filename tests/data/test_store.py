"""Pins: an episode announced too early, twice, out of order, or served with other bytes than were announced."""

import hashlib

from inril_core.data import EpisodeIndex, EpisodeStore, finalise
from tests.data.synthetic import Synthetic

SECOND = 1_000_000_000


def add(folder, name, label=1, until=None):
    """List an episode as the recorder does."""
    made = Synthetic(steps=2, episode_id=name, label=label, succeeds=bool(label == 1))
    if not label:
        made = Synthetic(steps=2, episode_id=name)
        until = len(list(made.messages())) - 5  # neither END nor the observation that closes it
    (folder / "raw").mkdir(exist_ok=True)
    return finalise(made.record(folder / "raw", until), folder, EpisodeIndex(folder))


def names(announcements):
    """Episode ids."""
    return [announcement.entry.episode_id for announcement in announcements]


def test_labelled_episodes_are_announced_at_once_and_once(tmp_path):
    store = EpisodeStore(tmp_path, label_timeout_s=10)
    assert store.poll(0) == []
    add(tmp_path, "a")
    add(tmp_path, "b", label=2)
    news = store.poll(0)
    assert names(news) == ["a", "b"] and [n.said.success for n in news] == [True, False]
    assert store.poll(0) == [] and store.total == 2


def test_an_unlabelled_episode_waits_for_its_label_or_the_time_out(tmp_path):
    store = EpisodeStore(tmp_path, label_timeout_s=10)
    for name in ("a", "b"):
        add(tmp_path, name, label=0)
    add(tmp_path, "c")
    assert store.poll(SECOND) == [] and store.total == 0, "no gap: c waits behind a"
    EpisodeIndex(tmp_path).annotate("a", False, "ada", 5)
    (news,) = store.poll(2 * SECOND)
    assert (news.entry.episode_id, news.said.success, news.said.by) == ("a", False, "ada")
    assert store.poll(11 * SECOND - 1) == []
    late = store.poll(11 * SECOND)
    assert names(late) == ["b", "c"] and late[0].said.success is None, "unlabelled is not failure"


def test_a_later_label_is_announced_again(tmp_path):
    store = EpisodeStore(tmp_path)
    add(tmp_path, "a")
    store.poll(0)
    EpisodeIndex(tmp_path).annotate("a", False, "ada", 5)
    (news,) = store.poll(0)
    assert (news.said.success, news.entry.index) == (False, 0) and store.listed(0, 9) == [news]


def test_a_store_that_restarts_lists_the_same(tmp_path):
    for name in ("a", "b", "c"):
        add(tmp_path, name)
    first, second = EpisodeStore(tmp_path), EpisodeStore(tmp_path)
    assert first.poll(0) == second.poll(0)
    assert names(first.listed(1, 1)) == ["b"] and names(first.listed(1, 9)) == ["b", "c"]
    assert first.listed(7, 9) == []


def test_an_episode_without_a_whole_step_is_not_announced(tmp_path):
    add(tmp_path, "a", until=2)
    add(tmp_path, "b")
    store = EpisodeStore(tmp_path, label_timeout_s=0)
    assert names(store.poll(SECOND)) == ["b"]
    assert names(store.listed(0, 9)) == names_of(store) == ["b"] and store.total == 2


def names_of(store):
    """Ids of the entries."""
    return [entry.episode_id for entry in store.entries()]


def test_the_bytes_served_are_the_bytes_listed(tmp_path):
    served = {}
    entry, store = add(tmp_path, "a"), EpisodeStore(tmp_path, serve=served.__setitem__)
    assert not served
    store.poll(0)
    ((digest, path),) = served.items()
    assert digest.hex() == entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
