"""Replay memory: preallocated, constant-time sampling, safe to fill from another thread."""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from inril_core import shards


@dataclass(frozen=True)
class Batch:
    """B transitions. Observations are the policy's inputs (`Policy.inputs`).

    ``discounts`` is gamma^n where the target bootstraps, else 0. The last ``demos`` rows are demonstrations, where a
    batch mixes both.
    """

    observations: Tensor  # [B, D_in]
    actions: Tensor  # [B, chunk * A], as executed
    rewards: Tensor  # [B], discounted sum over the n steps
    discounts: Tensor  # [B]
    next_observations: Tensor  # [B, D_in]
    next_actions: Tensor  # [B, chunk * A], executed from next_observations on; zeros where nothing followed
    demos: int = 0

    def __len__(self) -> int:
        return self.observations.shape[0]


class Replay:
    """A ring of transitions in one array, so that a batch is one gather.

    Args:
        capacity: rows kept; the oldest are overwritten.
        observation_size, action_size: widths of inputs and actions.
        device: where the rows live and batches are made.
    """

    def __init__(
        self, capacity: int, observation_size: int, action_size: int, device: torch.device | str = "cpu"
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: must be >= 1")
        d, a = observation_size, action_size
        self.capacity = capacity
        self._columns = (d, a, 1, 1, d, a)
        self._rows = torch.zeros((capacity, sum(self._columns)), device=device)
        self._added = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(self, batch: Batch) -> None:
        """Append transitions in order.

        Raises:
            ValueError: a shape does not fit or a value is not finite.
        """
        parts = (
            batch.observations,
            batch.actions,
            batch.rewards[:, None],
            batch.discounts[:, None],
            batch.next_observations,
            batch.next_actions,
        )
        if tuple(part.shape[1] for part in parts) != self._columns:
            raise ValueError(f"columns {[part.shape[1] for part in parts]}: must be {list(self._columns)}")
        rows = torch.cat([part.to(self._rows.device) for part in parts], 1)
        if not torch.isfinite(rows).all():
            raise ValueError("a transition contains NaN or infinity")
        with self._lock:
            slots = (self._added + torch.arange(len(rows))) % self.capacity
            self._rows[slots[-self.capacity :]] = rows[-self.capacity :]
            self._added += len(rows)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """``size`` transitions, uniformly with replacement; in a data-parallel run this process's part of them.

        Raises:
            ValueError: the memory is empty, or ``size`` cannot be cut evenly.
        """
        if size % shards.size():
            raise ValueError(f"{size} rows: must be a multiple of the {shards.size()} processes")
        with self._lock:
            if self._added == 0:
                raise ValueError("replay is empty: ingest episodes before training")
            picks = torch.randint(len(self), (size,), generator=generator)
            rows = self._rows.index_select(0, shards.own(picks).to(self._rows.device))
        return self._batch(rows)

    def first(self, size: int) -> Batch:
        """The first ``size`` rows in memory (fewer if there are fewer): a fixed set to measure on."""
        with self._lock:
            return self._batch(self._rows[: min(size, len(self))].clone())

    def _batch(self, rows: Tensor) -> Batch:
        observations, actions, rewards, discounts, following, next_actions = rows.split(self._columns, 1)
        return Batch(observations, actions, rewards.squeeze(1), discounts.squeeze(1), following, next_actions)

    @property
    def row_bytes(self) -> int:
        """Memory per transition."""
        return self._rows.shape[1] * self._rows.element_size()

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        with self._lock:
            return {"rows": self._rows[: len(self)].clone(), "added": torch.tensor([self._added])}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned; MUST have the same capacity and columns."""
        with self._lock:
            rows = state["rows"]
            self._rows[: len(rows)] = rows
            self._added = int(state["added"])


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
