"""Pins: an episode announced too early, twice, out of order, or pulled with other bytes than were
announced."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.data import (
    BlobCorrupt,
    BlobPull,
    BlobRefused,
    BlobShelf,
    EpisodeIndex,
    EpisodeStore,
    finalise,
    pull_blob,
)
from inril_core.data.blobs import MAX_READ_BYTES
from tests.data.synthetic import Synthetic

SECOND = 1_000_000_000
CONTENT = bytes(range(256)) * 9000  # two whole reads and a bit
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def shelf(tmp_path):
    """Serves CONTENT."""
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    served = BlobShelf()
    served.put(DIGEST, path)
    return served


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
    assert names(news) == ["a", "b"] and [n.success for n in news] == [True, False]
    assert store.poll(0) == [] and store.total == 2


def test_an_unlabelled_episode_waits_for_its_label_or_the_time_out(tmp_path):
    store = EpisodeStore(tmp_path, label_timeout_s=10)
    for name in ("a", "b"):
        add(tmp_path, name, label=0)
    add(tmp_path, "c")
    assert store.poll(SECOND) == [] and store.total == 0, "no gap: c waits behind a"
    EpisodeIndex(tmp_path).annotate("a", False, "ada", 5)
    (news,) = store.poll(2 * SECOND)
    assert (news.entry.episode_id, news.success, news.by) == ("a", False, "ada")
    assert store.poll(11 * SECOND - 1) == []
    late = store.poll(11 * SECOND)
    assert names(late) == ["b", "c"] and late[0].success is None, "unlabelled is not failure"


def test_a_later_label_is_announced_again(tmp_path):
    store = EpisodeStore(tmp_path)
    add(tmp_path, "a")
    store.poll(0)
    EpisodeIndex(tmp_path).annotate("a", False, "ada", 5)
    (news,) = store.poll(0)
    assert (news.success, news.entry.index) == (False, 0) and store.listed(0, 9) == [news]


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
    entry, store = add(tmp_path, "a"), EpisodeStore(tmp_path)
    with pytest.raises(BlobRefused, match="not served here"):
        store.read(entry.sha256, 0, 10)
    store.poll(0)
    path = pull_blob(store.read, entry.sha256, entry.size_bytes, tmp_path / "pulled")
    assert path.read_bytes() == store.path("a").read_bytes()


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, MAX_READ_BYTES + 1), (-1, 5), (len(CONTENT) + 1, 5), (0, -1)]
)
def test_reads_are_bounded(shelf, offset, length):
    with pytest.raises(BlobRefused, match="must be"):
        shelf.read(DIGEST, offset, length)


def test_a_file_that_is_gone_is_named(shelf, tmp_path):
    (tmp_path / "blob").unlink()
    with pytest.raises(BlobRefused, match="No such file"):
        shelf.read(DIGEST, 0, 1)


@settings(max_examples=40, deadline=None)
@given(breaks=st.lists(st.integers(1, 3), max_size=6), most=st.integers(300_000, MAX_READ_BYTES))
def test_a_pull_goes_on_where_it_broke_off(tmp_path_factory, breaks, most):
    """The link breaks after so many answers, which may be shorter than asked for; no byte is asked for
    twice."""
    folder, asked = tmp_path_factory.mktemp("pull"), []
    breaks = list(breaks)

    def attempt():
        left = breaks.pop(0) if breaks else 99

        def read(sha256, offset, length):
            nonlocal left
            left -= 1
            if left < 0:
                raise TimeoutError
            data = CONTENT[offset : offset + min(length, most)]
            asked.append((offset, len(data)))
            return len(CONTENT), data

        return pull_blob(read, DIGEST, len(CONTENT), folder / "blob")

    for _ in range(10):
        try:
            path = attempt()
            break
        except TimeoutError:
            assert not (folder / "blob").exists(), "half a blob has no name"
    assert path.read_bytes() == CONTENT
    assert sum(length for _, length in asked) == len(CONTENT)
    assert sorted(p.name for p in folder.iterdir()) == ["blob"]


def test_other_bytes_than_announced_are_thrown_away(tmp_path):
    def lying(sha256, offset, length):
        return len(CONTENT), bytes(len(CONTENT[offset : offset + length]))

    with pytest.raises(BlobCorrupt, match="announced"):
        pull_blob(lying, DIGEST, len(CONTENT), tmp_path / "blob")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [(9, b"x"), (len(CONTENT), b""), (len(CONTENT), bytes(MAX_READ_BYTES + 1))])
def test_answers_of_another_size_are_refused(tmp_path, answer):
    with pytest.raises(BlobCorrupt):
        pull_blob(lambda sha256, offset, length: answer, DIGEST, len(CONTENT), tmp_path / "blob")


@pytest.mark.parametrize("size_bytes", [0, 1 << 40])
def test_an_announced_size_out_of_bounds_is_not_pulled(tmp_path, size_bytes):
    with pytest.raises(BlobRefused, match="1 to"):
        BlobPull(DIGEST, size_bytes, tmp_path / "blob")


def test_an_answer_to_an_earlier_question_is_ignored(tmp_path):
    pull = BlobPull(DIGEST, len(CONTENT), tmp_path / "blob")
    for _ in range(2):
        pull.accept(0, len(CONTENT), CONTENT[:1000])
    assert pull.next_request() == (1000, len(CONTENT) - 1000)
