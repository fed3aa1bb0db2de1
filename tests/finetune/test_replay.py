"""Replay memory: what goes in comes out, and nothing else."""

import threading

import pytest
import torch

from inril_core.finetune.memory.replay import Batch, Replay, join


def numbered(first: int, count: int) -> Batch:
    """Transitions whose every number tells which one it is."""
    n = torch.arange(first, first + count, dtype=torch.float32)
    rows, actions = n[:, None].repeat(1, 3), n[:, None].repeat(1, 2) + 0.25
    return Batch(rows, actions, n + 0.5, n + 0.75, rows + 1, actions + 1)


def test_rows_stay_whole_and_only_the_newest_are_kept() -> None:
    """Pins: columns of different transitions mixed, or an off-by-one at the ring's seam."""
    replay, generator = Replay(10, 3, 2), torch.Generator().manual_seed(0)
    for first in range(0, 21, 7):
        replay.add(numbered(first, 7))
    assert len(replay) == 10
    seen = set()
    for _ in range(40):
        batch = replay.sample(16, generator)
        n = batch.observations[:, 0]
        torch.testing.assert_close(batch.observations, n[:, None].repeat(1, 3))
        torch.testing.assert_close(batch.actions, n[:, None].repeat(1, 2) + 0.25)
        torch.testing.assert_close(batch.rewards, n + 0.5)
        torch.testing.assert_close(batch.discounts, n + 0.75)
        torch.testing.assert_close(batch.next_observations[:, 0], n + 1)
        seen |= set(n.int().tolist())
    assert seen == set(range(11, 21))


def test_more_rows_than_capacity_keep_the_newest() -> None:
    """Pins: duplicate slots in one indexed write, whose winner is undefined."""
    replay = Replay(4, 3, 2)
    replay.add(numbered(0, 11))
    assert set(replay.first(10).observations[:, 0].int().tolist()) == {7, 8, 9, 10}


def test_same_seed_same_batches_also_after_a_checkpoint() -> None:
    """Pins: sampling that depends on anything but the contents and the generator."""
    a, b = Replay(50, 3, 2), Replay(50, 3, 2)
    a.add(numbered(0, 60))
    b.load(a.state(), a.owners())
    b.add(numbered(60, 5))
    a.add(numbered(60, 5))
    ga, gb = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for _ in range(5):
        assert torch.equal(a.sample(8, ga).observations, b.sample(8, gb).observations)


def test_nan_and_wrong_shapes_are_refused() -> None:
    """Pins: one NaN in a recording that poisons the critic for ever."""
    replay = Replay(5, 3, 2)
    bad = numbered(0, 2)
    bad.rewards[1] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        replay.add(bad)
    with pytest.raises(ValueError, match="columns"):
        Replay(5, 4, 2).add(numbered(0, 2))
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, torch.Generator())


def test_filling_while_sampling_never_shows_half_a_row() -> None:
    """Pins: a torn transition when another thread ingests."""
    replay, generator = Replay(64, 3, 2), torch.Generator().manual_seed(1)
    replay.add(numbered(0, 1))
    writer = threading.Thread(target=lambda: [replay.add(numbered(i, 5)) for i in range(300)])
    writer.start()
    while writer.is_alive():
        batch = replay.sample(32, generator)
        torch.testing.assert_close(batch.rewards, batch.observations[:, 0] + 0.5)
    writer.join()


def test_join_appends() -> None:
    """Pins: demonstrations lost from a mixed batch."""
    both = join(numbered(0, 2), numbered(5, 3))
    assert len(both) == 5 and both.rewards.tolist() == [0.5, 1.5, 5.5, 6.5, 7.5]
