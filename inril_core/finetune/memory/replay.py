"""Replay memory: preallocated, constant-time sampling, safe to fill from another thread."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inril_core import distributed
from inril_core.finetune.memory.frames import Frames, Shift, to_bytes
from inril_core.networks.encoder import PixelColumns

NO_ACTION = 2.0  # beyond any action: those are in [-1, 1], and standing still is one of them


@dataclass(frozen=True)
class Batch:
    """B transitions. Observations are the policy's inputs (`Policy.inputs`)."""

    observations: Tensor
    """[B, D_in]."""
    actions: Tensor
    """[B, chunk * A], as executed."""
    rewards: Tensor
    """[B], discounted sum over the n steps."""
    discounts: Tensor
    """[B], gamma^n where the target bootstraps, else 0."""
    next_observations: Tensor
    """[B, D_in]."""
    next_actions: Tensor
    """[B, chunk * A], executed from `next_observations` on; NO_ACTION where nothing followed."""
    demos: int = 0
    """So many rows at the end are demonstrations, where a batch mixes both."""

    def __len__(self) -> int:
        return self.observations.shape[0]


class Replay:
    """A ring of transitions in one array, so that a batch is one gather.

    Memory per transition: 4 bytes per number of both observations and actions, reward and discount. Pixels take 1 byte,
    and a frame that is one transition's next and another's own observation is stored once: 21 kB a step for one 84 x 84
    image, 2.1 GB for 100,000. `state` copies all of it.

    Args:
        capacity: rows kept; the oldest are overwritten.
        observation_size, action_size: widths of inputs and actions.
        device: where the rows live and batches are made; pixels stay in the machine's memory until they are drawn.
        pixels: which columns of the inputs hold pixels; `sample` shifts them at random, `first` does not.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        device: torch.device | str = "cpu",
        pixels: PixelColumns | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: must be >= 1")
        d, a = observation_size, action_size
        self.capacity = capacity
        self._frames = Frames(2 * capacity, pixels) if pixels is not None and pixels.shapes else None
        kept = d if self._frames is None else d - self._frames.pixels.size
        self._widths = (d, a, 1, 1, d, a)
        self._columns = (kept, a, 1, 1, kept, a)
        self._rows = torch.zeros((capacity, sum(self._columns)), device=device)
        self._at = np.zeros((capacity, 2), np.int64)  # frames of the observation and of the next
        self._owners = np.zeros(capacity, np.int64)
        self._forgot = -1  # the newest owner of which a row was overwritten
        self._added = 0
        self._lock = threading.Lock()

    @property
    def added(self) -> int:
        """Rows ever added, those that were overwritten included."""
        return self._added

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(self, batch: Batch, owner: int = 0) -> None:
        """Append transitions in order.

        Args:
            owner: number of the episode that they come from, not below that of any row before.

        Raises:
            ValueError: as `check`.
        """
        rows = self.check(batch)
        with self._lock:
            slots = (self._added + np.arange(len(rows))) % self.capacity
            if self._frames is not None:
                self._add_frames(self._frames, batch, slots[-self.capacity :])
            self._rows[torch.from_numpy(slots[-self.capacity :])] = rows[-self.capacity :]
            lost = self._owners[slots[slots < len(self)]]
            self._forgot = max([self._forgot, *lost[-1:].tolist()] + [owner] * (len(rows) > self.capacity))
            self._owners[slots] = owner
            self._added += len(rows)

    def replace(self, owner: int, batch: Batch | None) -> None:
        """Put the transitions of ``batch`` (None: none) in the place of those that ``owner`` has.

        The memory is then what it were if ``batch`` had been added at the time of ``owner``'s first rows, as long as
        nothing was forgotten; rows that were forgotten do not come back.

        Raises:
            ValueError: as `check`.
        """
        new = self._rows[:0] if batch is None else self.check(batch)
        with self._lock:
            order = self._order()
            owners = self._owners[order]
            first, end = (int(np.searchsorted(owners, owner, side)) for side in ("left", "right"))
            if owner <= self._forgot:  # in part, or all of it
                new = new[len(new) - min(len(new), end - first) :]
            over = max(len(order) - (end - first) + len(new) - self.capacity, 0)
            dropped = min(over, first)
            before, after, new = order[dropped:first], order[end:], new[over - dropped :]
            if over:
                self._forgot = max(self._forgot, owner if over > dropped else int(owners[dropped - 1]))
            total = self._added - (end - first) + len(new) + (over - dropped)
            added = np.zeros((len(new), 2), np.int64)
            if self._frames is not None:
                self._frames.release(self._at[np.concatenate((order[:dropped], order[first:end]))].ravel())
                if batch is not None and len(new):
                    added = self._put_frames(self._frames, batch, len(new))
            kept = [torch.from_numpy(slots) for slots in (before, after)]
            rows = torch.cat((self._rows[kept[0]], new, self._rows[kept[1]]))
            at = np.concatenate((self._at[before], added, self._at[after]))
            owners = np.concatenate((owners[dropped:first], np.full(len(new), owner), owners[end:]))
            # a full memory of which rows are gone has room again
            self._added = total if len(rows) == min(total, self.capacity) else len(rows)
            slots = self._order()
            self._rows[torch.from_numpy(slots)], self._at[slots], self._owners[slots] = rows, at, owners

    def owned(self, owner: int) -> int:
        """Rows of an owner."""
        return int((self._owners[: len(self)] == owner).sum())

    def _order(self) -> np.ndarray:
        """Slots of the rows, the oldest first."""
        order: np.ndarray = (self._added - len(self) + np.arange(len(self))) % self.capacity
        return order

    def check(self, batch: Batch) -> Tensor:
        """The rows that `add` would store, without pixels; what passes here can be added.

        Raises:
            ValueError: a shape does not fit, a value or its square is not finite in float32, or a pixel is no byte.
        """
        parts = (
            batch.observations,
            batch.actions,
            batch.rewards[:, None],
            batch.discounts[:, None],
            batch.next_observations,
            batch.next_actions,
        )
        if tuple(part.shape[1] for part in parts) != self._widths:
            raise ValueError(f"columns {[part.shape[1] for part in parts]}: must be {list(self._widths)}")
        observations, following = (self._without_pixels(parts[i]) for i in (0, 4))
        kept = (observations, *parts[1:4], following, parts[5])
        rows = torch.cat([part.to(self._rows.device) for part in kept], 1)
        if not torch.isfinite(rows.square()).all():  # losses square them
            raise ValueError("a transition contains NaN, infinity, or a number whose square is beyond float32")
        if self._frames is not None:
            p = self._frames.pixels
            for part in (batch.observations, batch.next_observations):
                to_bytes(part[:, p.first : p.end])
        return rows

    def _without_pixels(self, rows: Tensor) -> Tensor:
        if self._frames is None:
            return rows
        p = self._frames.pixels
        return torch.cat((rows[:, : p.first], rows[:, p.end :]), 1)

    def _add_frames(self, frames: Frames, batch: Batch, slots: np.ndarray) -> None:
        frames.release(self._at[slots[slots < len(self)]].ravel())
        self._at[slots] = self._put_frames(frames, batch, len(slots))

    @staticmethod
    def _put_frames(frames: Frames, batch: Batch, n: int) -> np.ndarray:
        """Store the frames of the last ``n`` rows of ``batch``; returns their slots ``[n, 2]``."""
        p = frames.pixels
        both = [to_bytes(rows[-n:, p.first : p.end]) for rows in (batch.observations, batch.next_observations)]
        return frames.put(torch.cat(both)).reshape(2, n).T

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """``size`` transitions, uniformly with replacement; in a data-parallel run this process's part of them.

        Raises:
            ValueError: the memory is empty, or ``size`` cannot be cut evenly.
        """
        if size % distributed.size():
            raise ValueError(f"{size} rows: must be a multiple of the {distributed.size()} processes")
        with self._lock:
            if self._added == 0:
                raise ValueError("replay is empty: ingest episodes before training")
            picks = torch.randint(len(self), (size,), generator=generator)
            own = distributed.own(picks)
            shifts = None
            if self._frames is not None:  # drawn for all processes, as the picks are
                drawn = [self._frames.draw(size, generator) for _ in range(2)]
                shifts = [[distributed.own(shift) for shift in shifts_of] for shifts_of in drawn]
            rows = self._rows.index_select(0, own if self._rows.is_cpu else own.to(self._rows.device))
            return self._batch(rows, self._frames_at(own), shifts)

    def first(self, size: int) -> Batch:
        """The first ``size`` rows in memory (fewer if there are fewer): a fixed set to measure on."""
        with self._lock:
            size = min(size, len(self))
            return self._batch(self._rows[:size].clone(), self._at[:size], None)

    def _frames_at(self, picks: Tensor) -> np.ndarray:
        return self._at if self._frames is None else self._at[picks.numpy()]

    def _batch(self, rows: Tensor, at: np.ndarray, shifts: Sequence[Sequence[Shift]] | None) -> Batch:
        observations, actions, rewards, discounts, following, next_actions = torch.split_with_sizes(
            rows, self._columns, 1
        )
        if self._frames is not None:
            observations = self._with_pixels(observations, at[:, 0], None if shifts is None else shifts[0])
            following = self._with_pixels(following, at[:, 1], None if shifts is None else shifts[1])
        return Batch(observations, actions, rewards.squeeze(1), discounts.squeeze(1), following, next_actions)

    def _with_pixels(self, kept: Tensor, at: np.ndarray, shifts: Sequence[Shift] | None) -> Tensor:
        assert self._frames is not None
        p = self._frames.pixels
        whole = torch.empty((len(kept), kept.shape[1] + p.size), device=kept.device)
        whole[:, : p.first], whole[:, p.end :] = kept[:, : p.first], kept[:, p.first :]
        self._frames.write(whole, at, shifts)
        return whole

    @property
    def row_bytes(self) -> int:
        """Memory per transition; of pixels, where each follows the one before."""
        pixels = 0 if self._frames is None else self._frames.pixels.size
        return self._rows.shape[1] * self._rows.element_size() + pixels

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        with self._lock:
            state = {"rows": self._rows[: len(self)].clone(), "added": torch.tensor([self._added])}
            if self._frames is not None:
                state |= {"frames": self._frames.state().clone(), "at": torch.tensor(self._at[: len(self)])}
            return state

    def owners(self) -> Tensor:
        """The owner of each row, in the order of `state`'s rows, and last the newest one that lost a row (-1: none)."""
        with self._lock:
            return torch.tensor([*self._owners[: len(self)].tolist(), self._forgot])

    def load(self, state: dict[str, Tensor], owners: Tensor) -> None:
        """Continue from what `state` and `owners` returned; MUST have the same capacity and columns."""
        with self._lock:
            rows = state["rows"]
            self._owners[: len(rows)], self._forgot = owners[:-1].numpy(), int(owners[-1])
            self._rows[: len(rows)] = rows
            self._added = int(state["added"])
            if self._frames is not None:
                self._at[: len(rows)] = state["at"].numpy()
                self._frames.load(state["frames"], self._at[: len(rows)].ravel())


def join(online: Batch, demos: Batch) -> Batch:
    """Both batches' rows, the demonstrations last."""
    first, second = online, demos
    return Batch(
        torch.cat((first.observations, second.observations)),
        torch.cat((first.actions, second.actions)),
        torch.cat((first.rewards, second.rewards)),
        torch.cat((first.discounts, second.discounts)),
        torch.cat((first.next_observations, second.next_observations)),
        torch.cat((first.next_actions, second.next_actions)),
        len(second),
    )
