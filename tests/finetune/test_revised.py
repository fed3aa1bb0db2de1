"""Pins: a label, a mark or a reward that a person corrects, and that a running learner never hears of."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.data.episode import Episode
from inril_core.data.said import Said, SaidStretch, digest_of
from inril_core.errors import ConfigError
from inril_core.finetune.ingest_log import read_ingest_log, replay_run
from inril_core.finetune.learner import EpisodeNotTaken, Learner, new_policy
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.on_policy import OnPolicyLoop
from inril_core.networks.encoder import PixelColumns
from inril_core.vocabulary import Mark
from tests.finetune.point_task import contract, demos, make_episode, policy_roll, small_config
from tests.finetune.test_learner import QUICK, feed, numbers
from tests.finetune.test_on_policy import make_learner as make_on_policy
from tests.finetune.test_on_policy import rollout
from tests.finetune.test_pixels import COLUMNS

STEPS = 6
KINDS = {
    "hil_serl": {"rl.demo_share": 0.5},
    "interleave": {"schedule.demo_growth": ["successes", "corrections"]},
    "hg_dagger": {},
    "rlif": {},
}


def make(folder, kind: str, shown: list[Episode]) -> Learner:
    changes = {} if kind == "rlif" else {"rl.target_range": [-1.0, 1.0]}
    if kind == "rlif":
        changes = {"rl.gamma": 0.97}
    config = small_config(kind, **{**QUICK, **changes, **KINDS[kind]})
    return Learner(config, contract(), new_policy(config, contract(), demos()), shown, folder)


def recorded(number: int, purpose: str = "train") -> Episode:
    """An episode with takeovers, holds, and rows that name it."""
    rng = np.random.default_rng([number, purpose == "demo"])
    source = rng.choice([0, 0, 1, 1, 2], STEPS).astype(np.uint8)
    rows = rng.uniform(-1, 1, (STEPS + 1, 4))
    success = purpose == "demo" or [True, False, None][number % 3]
    name = f"{purpose}-{number}"
    return make_episode(rows, rng.uniform(-1, 1, (STEPS, 6)), success, purpose, name, bool(success), source)


stretch = st.builds(
    lambda steps, mark, reward, marks: (
        SaidStretch(min(steps), max(steps), mark) if marks else SaidStretch(min(steps), max(steps), None, reward)
    ),
    st.tuples(st.integers(0, STEPS - 1), st.integers(0, STEPS - 1)),
    st.sampled_from(list(Mark)),
    st.sampled_from([-1.0, -0.5, 0.0]),
    st.booleans(),
)
said = st.builds(
    Said,
    st.just(STEPS),
    st.sampled_from([True, False, None]),
    st.sampled_from(["ada", "cell"]),
    st.booleans(),
    st.lists(stretch, max_size=3).map(tuple),
)


def memory(learner: Learner) -> dict[str, torch.Tensor]:
    found = {f"{part}/{name}": t for part, names in learner.buffers.state().items() for name, t in names.items()}
    return found | {"told": torch.tensor(learner.informative_steps)}


def assert_same_memory(one: Learner, other: Learner) -> None:
    a, b = memory(one), memory(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(words=st.lists(st.tuples(st.sampled_from(["demo", "train"]), st.integers(0, 3), said), max_size=6))
def test_the_memory_is_what_the_annotated_recordings_give(kind: str, words, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("revised")
    now = {f"{purpose}-{n}": recorded(n, purpose) for purpose in ("demo", "train") for n in range(4)}
    now["demo-9"] = recorded(9, "demo")  # one that nobody speaks of
    learner = make(folder / "a", kind, [e for name, e in now.items() if name.startswith("demo")])
    came = []
    for number, (purpose, n, word) in enumerate(words):
        name = f"{purpose}-{n}"
        now[name] = word.on(now[name])
        if number < 4:
            came.append(f"train-{number}")
            learner.ingest(now[came[-1]])
        if learner.said(name) is not None:
            assert learner.revise(now[name]) in (True, False) and learner.said(name) == word.digest
    for n in range(len(came), 4):
        came.append(f"train-{n}")
        learner.ingest(now[came[-1]])
    fresh = make(folder / "b", kind, [e for name, e in now.items() if name.startswith("demo")])
    for name in came:
        fresh.ingest(now[name])
    assert_same_memory(learner, fresh)


def rows_of(first: int, count: int) -> Batch:
    n = torch.arange(first, first + count, dtype=torch.float32)
    wide = n[:, None].expand(-1, 3)
    return Batch(wide, wide[:, :2], n, n, wide + 1, wide[:, :2])


def pixel_rows(first: int, count: int) -> Batch:
    """Each row shows its number, and the next one that of the row after."""
    n = torch.arange(first, first + count, dtype=torch.float32)

    def seen(numbers: torch.Tensor) -> torch.Tensor:
        return torch.cat((numbers[:, None].expand(-1, 3), (numbers % 251)[:, None].expand(-1, COLUMNS.size)), 1)

    return Batch(seen(n), n[:, None], n, n, seen(n + 1), n[:, None])


@pytest.mark.parametrize("pixels", [None, COLUMNS])
@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(1, 12),
    deeds=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 6)), max_size=14),
)
def test_replacing_rows_is_what_a_list_would_do(pixels: PixelColumns | None, capacity: int, deeds) -> None:
    """Pins: rows of another episode overwritten, an order that changes, and what was forgotten coming back."""
    width, made = (3, rows_of) if pixels is None else (3 + pixels.size, pixel_rows)
    replay = Replay(capacity, width, 2 if pixels is None else 1, pixels=pixels)
    twin: list[tuple[int, float]] = []
    forgot, newest, number = -1, -1, 0
    for adds, owner, count in deeds:
        if adds or newest < 0:
            newest += 1
            replay.add(made(number, count), newest)
            twin += [(newest, float(n)) for n in range(number, number + count)]
        else:
            owner = min(owner, newest)
            batch = made(number, count)
            replay.replace(owner, batch if count else None)
            new = [(owner, float(n)) for n in range(number, number + count)]
            old = [row for row in twin if row[0] == owner]
            if owner <= forgot:
                new = new[len(new) - min(len(new), len(old)) :]
            twin = [r for r in twin if r[0] < owner] + new + [r for r in twin if r[0] > owner]
        number += count
        gone, twin = twin[: max(len(twin) - capacity, 0)], twin[-capacity:]
        forgot = max([forgot, *(row[0] for row in gone)])
        held = replay.first(capacity)
        order = replay._order()
        assert [(int(replay._owners[slot]), float(held.rewards[slot])) for slot in order] == twin
        assert torch.equal(held.observations, made(0, number + 1).observations[held.rewards.long()])
        assert torch.equal(held.next_observations, made(0, number + 1).next_observations[held.rewards.long()])


def test_a_memory_that_was_full_goes_on_like_one_that_was_not() -> None:
    replay, fresh = Replay(6, 3, 2), Replay(6, 3, 2)
    for owner in range(4):
        replay.add(rows_of(10 * owner, 2), owner)  # the first is forgotten
        if owner > 0:
            fresh.add(rows_of(10 * owner, 2), owner)
    replay.replace(2, None)
    fresh.replace(2, None)
    for memory_of in (replay, fresh):
        memory_of.add(rows_of(90, 4), 4)
    assert sorted(replay.first(6).rewards.tolist()) == sorted(fresh.first(6).rewards.tolist())


def test_a_learner_that_was_killed_and_told_again_is_the_same(tmp_path) -> None:
    """Pins: a correction that a restart forgets, or takes in twice."""
    shown, came = demos(4), [policy_roll(new_policy(small_config(), contract(), demos()), seed) for seed in range(12)]
    learner = make(tmp_path / "a", "interleave", shown)
    for episode in came:
        learner.ingest(episode)
    learner.checkpoint()
    words = Said(came[2].steps, False, "ada", False, (SaidStretch(0, 1, Mark.FAILURE), SaidStretch(2, 2, None, -0.5)))
    corrected, dropped = words.on(came[2]), dataclasses.replace(shown[1], left_out=True)
    assert learner.revise(corrected) and learner.revise(dropped)
    while learner.updates < learner.updates_due:
        learner.train_step()
    again = make(tmp_path / "a", "interleave", [shown[0], dropped, *shown[2:]])
    again.resume()  # of before both corrections; that of a demonstration is found by itself
    assert again.said(dropped.episode_id) == digest_of(dropped) and again.said("train-2") == digest_of(came[2])
    assert again.revise(corrected) and not again.revise(corrected)
    while again.updates < again.updates_due:
        again.train_step()
    assert_same_memory(again, learner)
    assert torch.equal(numbers(again), numbers(learner)) and again.updates > 0
    again.checkpoint()
    third = make(tmp_path / "a", "interleave", [shown[0], dropped, *shown[2:]])
    third.resume()
    assert not third.revise(corrected) and third.ingested_episodes == 12
    assert_same_memory(third, learner)


def test_a_run_with_corrections_can_be_replayed_from_its_log(tmp_path) -> None:
    learner, seen = make(tmp_path / "a", "interleave", demos(4)), []
    for seed in range(12):
        seen.append(policy_roll(learner.policy, seed))
        learner.ingest(seen[-1])
        for _ in range(max(0, learner.updates_due - learner.updates)):
            learner.train_step()
        if seed % 4 == 3:
            seen.append(seen[-2].labelled(not seen[-2].success, "ada"))
            learner.revise(seen[-1])
    log = read_ingest_log(tmp_path / "a")
    assert [record.steps == 0 for record in log].count(True) == 3
    again = make(tmp_path / "b", "interleave", demos(4))
    replay_run(again, log, seen, learner.updates)
    assert torch.equal(numbers(again), numbers(learner))
    assert_same_memory(again, learner)


def test_what_cannot_be_taken_in_changes_nothing(tmp_path) -> None:
    learner = make(tmp_path, "interleave", demos(4))
    feed(learner, 0, 3)
    before, episode = memory(learner), policy_roll(new_policy(learner.config, contract(), demos()), 99)
    with pytest.raises(EpisodeNotTaken, match="never taken in"):
        learner.revise(episode)
    learner.ingest(episode)
    after, lines = memory(learner), len(read_ingest_log(tmp_path))
    assert after["replay/added"] > before["replay/added"]
    with pytest.raises(EpisodeNotTaken, match=r"rewards from 3 to 3, and rl.target_range = .*inril data annotate"):
        learner.revise(episode.rewarded(0, 0, 3.0))
    with pytest.raises(EpisodeNotTaken, match="content cannot change"):
        learner.revise(dataclasses.replace(episode, sha256="f" * 64))
    now = memory(learner)
    assert all(torch.equal(after[name], now[name]) for name in after) and len(read_ingest_log(tmp_path)) == lines
    assert learner.said(episode.episode_id) == digest_of(episode)


def test_a_reward_of_a_person_stands_in_the_place_of_the_methods(tmp_path) -> None:
    learner = make(tmp_path, "interleave", demos(4))
    episode = make_episode(np.zeros((4, 4)), np.full((3, 6), 0.5), True)
    learner.ingest(episode)
    learner.revise(episode.rewarded(1, 1, -0.5))
    assert learner.buffers.replay.first(99).rewards.tolist()[-3:] == [0.0, -0.5, 1.0]
    with pytest.raises(ConfigError, match="target_range"):
        make(tmp_path / "b", "interleave", [*demos(3), demos(4)[3].rewarded(0, 0, -7.0)])


def test_the_last_that_can_be_imitated_stays_and_an_empty_replay_waits(tmp_path) -> None:
    """Pins: a learner that ends because a person dropped everything."""
    shown = demos(2)
    learner = make(tmp_path, "interleave", shown)
    assert learner.revise(dataclasses.replace(shown[0], left_out=True))
    with pytest.raises(EpisodeNotTaken, match="nothing is left to imitate"):
        learner.revise(dataclasses.replace(shown[1], left_out=True))
    came = [policy_roll(learner.policy, seed) for seed in range(8)]
    for episode in came:
        learner.ingest(episode)
    assert learner.updates_due > 0
    for episode in came:
        learner.revise(dataclasses.replace(episode, left_out=True))
    assert learner.updates_due == 0 and len(learner.buffers.replay) == 0
    learner.revise(came[3])
    assert learner.updates_due > 0 and learner.train_step() is None


def test_on_policy_a_rollout_that_is_collected_follows_and_one_that_was_trained_on_stays(tmp_path) -> None:
    learner = make_on_policy(tmp_path / "a")
    loop = learner.loop
    assert isinstance(loop, OnPolicyLoop)
    first = rollout(learner, 0, 0)
    learner.ingest(first)
    revised = dataclasses.replace(first, success=None, truncated=False, terminated=False)
    learner.revise(dataclasses.replace(revised, left_out=True))
    assert sum(map(len, loop.rollout)) == 0 and learner.rejected_steps == first.steps
    learner.revise(first)
    fresh = make_on_policy(tmp_path / "b")
    fresh.ingest(first)
    assert isinstance(fresh.loop, OnPolicyLoop) and learner.rejected_steps == fresh.rejected_steps
    assert [s.rewards.tolist() for s in loop.rollout] == [s.rewards.tolist() for s in fresh.loop.rollout]
    loop.version_changed()
    learner.revise(dataclasses.replace(first, left_out=True))
    assert loop.rollout == []
