"""Pins: something that a person said and that is another thing, or nothing, when the learner has heard it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from inril_learner.episode_pull import EpisodePull, said_of
from inril_msgs.msg import EpisodeReady
from inril_session.store_node import _message

from inril_core.data import EpisodeIndex, EpisodeStore
from inril_core.vocabulary import Mark


def listed(folder: Path, count: int) -> EpisodeIndex:
    index = EpisodeIndex(folder)
    for number in range(count):
        facts = {"episode_id": f"train-{number}", "run_id": "run", "purpose": "train", "steps": 6, "complete": True}
        index.add(**facts, success=True, by="cell", sha256=f"{number:064x}", size_bytes=1)
    return index


def test_what_the_store_announces_is_what_was_said(tmp_path: Path) -> None:
    index = listed(tmp_path, 3)
    index.mark("train-0", (1, 4), "ada", 1, mark=Mark.FAILURE)
    index.mark("train-0", (2, 2), "ada", 2, mark=Mark.NONE)
    index.mark("train-0", (3, 5), "ada", 3, reward=-0.1)
    index.annotate("train-1", None, "bea", 4)
    index.drop("train-2", "bea", 5)
    store = EpisodeStore(tmp_path, 0.0)
    store.poll(1)
    assert [a.entry.episode_id for a in store.listed(0, 9)] == ["train-0", "train-1"]
    revised = store.revised(3, 9)
    assert [(a.entry.episode_id, a.line) for a in revised] == [("train-0", 6), ("train-1", 7), ("train-2", 8)]
    assert [a.entry.episode_id for a in store.revised(6, 9)] == ["train-1", "train-2"] and len(store.revised(0, 2)) == 2
    for announced in revised:
        message = _message(announced)
        assert isinstance(message, EpisodeReady)
        said = said_of(message)
        assert said.digest == announced.said.digest == index.said(announced.entry).digest
        assert said.left_out == index.dropped(announced.entry.episode_id)
    index.drop("train-2", "bea", 6, dropped=False)
    (news,) = store.poll(2)
    assert not news.said.left_out and news.line == 9 and store.poll(3) == []


class Store:
    """Answers a pull's questions from a list, in its place."""

    def __init__(self, folder: Path) -> None:
        self.store = EpisodeStore(folder, 0.0)

    def call(
        self, kind: Any, name: str, request: Any, now_ns: int, timeout_s: float, replied: Any, failed: Any
    ) -> None:
        self.store.poll(now_ns)
        answer = [
            [_message(a) for a in self.store.listed(request.first_index, request.limit)],
            [_message(a) for a in self.store.revised(request.after_line, request.limit)],
        ]
        replied(SimpleNamespace(address="", episodes=answer[0], revised=answer[1]))


def test_an_episode_comes_again_once_for_each_news(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    index = listed(tmp_path / "list", 3)
    index.drop("train-1", "ada", 1)
    known: dict[str, str] = {}

    def wanted(ready: EpisodeReady) -> bool:
        said = said_of(ready)
        return known.get(ready.episode_id, "") != said.digest and not (said.left_out and ready.episode_id not in known)

    pull = EpisodePull(
        Store(tmp_path / "list"), tmp_path / "pulled", b"", 1.0, wanted, lambda path, ready: True, lambda _: None
    )  # type: ignore[arg-type]

    pull._not_before_ns = 2  # lists are asked for, nothing is pulled

    def take() -> list[str]:
        pull._look = True
        pull._ask(1)
        came = [ready.episode_id for ready in pull._queue]
        known.update({ready.episode_id: said_of(ready).digest for ready in pull._queue})
        pull._queue.clear()
        return came

    assert take() == ["train-0", "train-2"] and take() == []
    index.mark("train-0", (1, 4), "ada", 2, mark=Mark.FAILURE)
    index.drop("train-1", "ada", 3, dropped=False)
    assert take() == ["train-0", "train-1"] and take() == []
    index.drop("train-2", "ada", 4)
    assert take() == ["train-2"] and take() == []
    pull.close()
