"""From recorded episodes to what on-policy learning may use of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inril_core.data.episode import SOURCE_POLICY, Episode
from inril_core.finetune.memory.transitions import usable_steps
from inril_core.policies import Policy

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RolloutSegment:
    """T consecutive steps of one policy version, with nobody else in between."""

    inputs: Tensor
    """[T + 1, D_in]."""
    raw: Tensor
    """[T, A], samples before squashing and clipping."""
    log_prob: Tensor
    """[T], of `raw`, as it was when the robot acted."""
    aux: Tensor
    """[T, N]."""
    chunk_index: npt.NDArray[np.int32]
    """[T]."""
    rewards: Tensor
    """[T]."""
    bootstrap: bool
    """There is a value beyond the last step: a time limit, a takeover or a hold cut it off."""
    informative: int = 0
    """Steps that tell good from bad, see `RewardConfig.informative`."""

    def check(self) -> None:
        """Raises:
        ValueError: a number or its square is not finite in float32.
        """
        for name in ("inputs", "raw", "log_prob", "aux", "rewards"):
            if not torch.isfinite(getattr(self, name).square()).all():  # losses square them
                raise ValueError(f"{name} contains NaN, infinity, or a number whose square is beyond float32")

    def __len__(self) -> int:
        return len(self.raw)


def segments(
    episode: Episode,
    rewards: Array,
    masks: Array,
    policy: Policy,
    version: int,
    known: npt.NDArray[np.bool_] | None = None,
    informative: npt.NDArray[np.bool_] | None = None,
) -> tuple[list[RolloutSegment], int]:
    """Segments of the episode's steps that ``version`` of the policy acted, and how many steps others made.

    Human, hold and reset steps cut: the value function continues beyond them, their reward does not. A step whose
    log-probability was not recorded, or whose reward is not ``known [T]``, cannot be used either.
    """
    own = (
        usable_steps(episode, known)
        & (episode.source == SOURCE_POLICY)
        & (episode.policy_n == version)
        & np.isfinite(episode.log_prob)
    )
    inputs = policy.inputs(episode)
    width = policy.aux_size
    aux = np.zeros((episode.steps, width), np.float32)
    if width and episode.aux is not None and episode.aux.shape[1] == width:
        aux = np.nan_to_num(episode.aux)
    index = np.zeros(episode.steps, np.int32) if episode.chunk_index is None else episode.chunk_index
    found = []
    for first, end in _runs(own):
        # a plan that began before this version, or under someone else's control, is not this version's decision
        while first < end and index[first] != 0:
            first += 1
        if first == end:
            continue
        found.append(
            RolloutSegment(
                inputs[first : end + 1],
                torch.tensor(episode.raw[first:end]),
                torch.tensor(episode.log_prob[first:end]),
                torch.tensor(aux[first:end]),
                index[first:end],
                torch.tensor(rewards[first:end]),
                bool(masks[end - 1] > 0.0),
                0 if informative is None else int(informative[first:end].sum()),
            )
        )
    return found, episode.steps - sum(map(len, found))


def _runs(flags: npt.NDArray[np.bool_]) -> Sequence[tuple[int, int]]:
    """(first, end) of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


_TENSORS = ("raw", "log_prob", "aux", "rewards")


def pack_segments(rollout: Sequence[RolloutSegment]) -> dict[str, Tensor]:
    """Segments as one table of tensors; empty if there are none. `unpack_segments` gives them back."""
    if not rollout:
        return {}
    table = {name: torch.cat([getattr(s, name) for s in rollout]) for name in ("inputs", *_TENSORS)}
    table["chunk_index"] = torch.from_numpy(np.concatenate([s.chunk_index for s in rollout]))
    table["lengths"] = torch.tensor([len(s) for s in rollout])
    table["bootstrap"] = torch.tensor([s.bootstrap for s in rollout])
    table["informative"] = torch.tensor([s.informative for s in rollout])
    return table


def unpack_segments(table: dict[str, Tensor]) -> list[RolloutSegment]:
    """What `pack_segments` was given."""
    if not table:
        return []
    lengths = table["lengths"].tolist()
    inputs = table["inputs"].split([length + 1 for length in lengths])
    columns = {name: table[name].split(lengths) for name in (*_TENSORS, "chunk_index")}
    found = []
    facts = zip(table["bootstrap"].tolist(), table["informative"].tolist(), strict=True)
    for i, (bootstrap, informative) in enumerate(facts):
        row = {name: column[i] for name, column in columns.items()}
        index = row.pop("chunk_index").numpy()
        found.append(
            RolloutSegment(inputs=inputs[i], chunk_index=index, bootstrap=bootstrap, informative=informative, **row)
        )
    return found


def generalised_advantages(
    rewards: Tensor, values: Tensor, bootstrap: bool, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """GAE (arXiv 1506.02438, eq. 16) of one segment: advantages and returns ``[T]``.

    Args:
        rewards: ``[T]``. values: ``[T + 1]``, the last one counts only with ``bootstrap``.
        gamma, lam: discount and GAE's lambda per step.
    """
    following = values[1:].clone()
    if not bootstrap:
        following[-1] = 0.0
    errors = rewards + gamma * following - values[:-1]
    advantages, running = torch.zeros_like(rewards), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        running = float(errors[t]) + gamma * lam * running
        advantages[t] = running
    return advantages, advantages + values[:-1]
