"""From a recorded episode to what the learner trains on."""

import numpy as np
import numpy.typing as npt
import torch

from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY, Episode
from inril_core.finetune.memory.replay import NO_ACTION, Batch
from inril_core.policies import Policy
from inril_core.vocabulary import Mark

Array = npt.NDArray[np.float32]


def acted_steps(episode: Episode) -> npt.NDArray[np.bool_]:
    """In which steps policy or human acted, ``[T]``; in the others the arm was held or reset."""
    acted: npt.NDArray[np.bool_] = np.isin(episode.source, (SOURCE_POLICY, SOURCE_HUMAN))
    return acted


IDLE = 0.02
"""Of the largest motion in a step: below it a person asks for nothing."""
GRIPPED = 0.1
"""Of a gripper's number, from -1 to 1: a smaller difference is that of a measured from a commanded width."""
MOTIONS = 6
"""Numbers of an action that move the tool, the first ones; a gripper's command follows."""


def imitated_steps(episode: Episode) -> npt.NDArray[np.bool_]:
    """Which steps of a demonstration may be imitated, ``[T]``.

    All but those that a person marked as failure, those at the start of a stretch before the person moves or works the
    gripper, and those before the policy is given back what stands still: to reach for the device and to let go of it
    is no demonstration, and a clone of it stands still where help was needed.
    """
    imitated = ~_at_rest_at_its_ends(episode)
    return imitated if episode.marks is None else imitated & (episode.marks != Mark.FAILURE)


def _at_rest_at_its_ends(episode: Episode) -> npt.NDArray[np.bool_]:
    rests = np.zeros(episode.steps, bool)
    edges = np.flatnonzero(np.diff(episode.source == SOURCE_HUMAN, prepend=False, append=False))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        actions, before = episode.actions[begin:end], episode.actions[max(begin - 1, 0)]
        asks = (np.abs(actions[:, :MOTIONS]) > IDLE).any(axis=1)
        first = _first(asks | _gripper_apart(actions, before))
        rests[begin : begin + first] = True
        if end < episode.steps and episode.source[end] == SOURCE_POLICY and first < len(actions):
            after_last = len(actions) - _first(asks[::-1])
            gripped = len(actions) - _first(
                _gripper_apart(actions, actions[-1])[::-1]
            )  # then it came to be as it stayed
            rests[begin + max(after_last, gripped + (gripped > first), first + 1) : end] = True
    return rests


def _first(flags: npt.NDArray[np.bool_]) -> int:
    """Index of the first that is set; their number where none is."""
    return int(flags.argmax()) if flags.any() else len(flags)


def _gripper_apart(actions: Array, action: Array) -> npt.NDArray[np.bool_]:
    return np.asarray((np.abs(actions[:, MOTIONS:] - action[MOTIONS:]) > GRIPPED).any(axis=1))


def shows_something(episode: Episode) -> bool:
    """Whether a recording that is given as a demonstration is one.

    A demonstration must be a success. Of a training episode the steps count in which a person took over (HG-DAgger,
    arXiv 1810.02890), whether it was a success or not. Nothing counts that a person left out.
    """
    corrected = episode.purpose == "train" and bool((episode.source == SOURCE_HUMAN).any())
    return not episode.left_out and (corrected or (episode.purpose != "train" and episode.succeeded))


def shown_steps(episode: Episode) -> npt.NDArray[np.bool_]:
    """Which steps of a recording that is given as a demonstration are shown, ``[T]``; see `shows_something`."""
    if not shows_something(episode):
        return np.zeros(episode.steps, bool)
    return episode.source == SOURCE_HUMAN if episode.purpose == "train" else np.ones(episode.steps, bool)


def last_acted(episode: Episode) -> slice:
    """The last step in which policy or human acted, as a slice of one step, or of none where nobody did.

    How an episode ended belongs to this step: a hold is no action that could be learned from, and what is noted at one
    is lost.
    """
    steps = np.flatnonzero(acted_steps(episode))
    return slice(int(steps[-1]), int(steps[-1]) + 1) if len(steps) else slice(0, 0)


def usable_steps(episode: Episode, known: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
    """Which steps can be learned from, ``[T]``; ``known [T]``: see `RewardConfig.known`.

    Hold and reset are not actions of the policy's kind. The last action of an episode whose outcome nobody knows
    (unlabelled, or cut off by a crash) has no reward: unlabelled is not failure. Of an episode that a person left out
    no step counts.
    """
    usable = acted_steps(episode)
    if episode.left_out:
        return np.zeros(episode.steps, bool)
    if not episode.complete or (episode.success is None and not episode.truncated):
        usable[last_acted(episode)] = False
    return usable if known is None else usable & known


def transitions(
    episode: Episode,
    rewards: Array,
    masks: Array,
    policy: Policy,
    gamma: float,
    n_steps: int = 1,
    chunk: int = 1,
    keep: npt.NDArray[np.bool_] | None = None,
    known: npt.NDArray[np.bool_] | None = None,
) -> Batch:
    """Transitions of the usable steps; a window ends at the episode's end or before an unusable step.

    reward = sum_i gamma^i r_{t+i}, discount = gamma^e * mask of the window's last step, over the e executed steps: up
    to ``n_steps`` of one action, or of one ``chunk`` of actions. A policy's chunk begins where it was planned and ends
    where the next was; a human's actions, and a residual's for its base, are cut into chunks at every step. A chunk
    that was cut short repeats its last action; ``discount`` knows how many were executed.

    Args:
        rewards, masks: ``[T]``, of the reward method.
        policy: gives the inputs.
        keep: ``[T]``, steps that may begin a transition; None: all usable ones.
        known: ``[T]``, steps whose reward is known; None: all.
    """
    usable = usable_steps(episode, known)
    begins = usable.copy() if keep is None else usable & keep
    # a residual decides at every step: its indices say nothing of the pieces that its base's plans are cloned from
    planned = chunk > 1 and chunk == policy.chunk and episode.chunk_index is not None
    if planned and episode.chunk_index is not None:
        begins &= (episode.source != SOURCE_POLICY) | (episode.chunk_index == 0)
    starts, length = np.flatnonzero(begins), max(n_steps, chunk)
    total, discount = np.zeros(len(starts), np.float32), np.zeros(len(starts), np.float32)
    following = np.zeros(len(starts), np.int64)
    for row, t in enumerate(starts):
        end = int(t) + 1
        while end < min(int(t) + length, len(usable)) and usable[end]:
            if chunk > 1 and episode.source[end] != episode.source[t]:
                break
            if planned and episode.source[end] == SOURCE_POLICY and begins[end]:
                break
            end += 1
        weights = gamma ** np.arange(end - t)
        total[row] = np.dot(weights, rewards[t:end])
        discount[row] = gamma ** (end - t) * masks[end - 1]
        following[row] = end
    inputs = policy.inputs(episode)
    return Batch(
        inputs[torch.from_numpy(starts)],
        _chunks(episode.actions, starts, following, chunk),
        torch.from_numpy(total),
        torch.from_numpy(discount),
        inputs[torch.from_numpy(following)],
        _chunks(episode.actions, following, np.full(len(starts), len(usable)), chunk),
    )


def _chunks(
    actions: np.ndarray, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], chunk: int
) -> torch.Tensor:
    """Actions ``[N, chunk * A]`` from each start, the last one before its end repeated; NO_ACTION if there is none."""
    rows = np.minimum(starts[:, None] + np.arange(chunk)[None, :], ends[:, None] - 1)
    picked = actions[np.maximum(rows, 0)]
    picked[starts >= ends] = NO_ACTION
    return torch.from_numpy(picked.reshape(len(starts), chunk * actions.shape[1]))
