"""What an episode is once it has been read: arrays, one row a step, facts only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from inril_core.data.measured import Measured
from inril_core.errors import InrilError
from inril_core.vocabulary import PURPOSES, Mark, Source

SOURCE_POLICY, SOURCE_HUMAN, SOURCE_HOLD, SOURCE_RESET = (int(source) for source in Source)
MAX_NUMBER = 1e15
"""Larger numbers are damage: sums of their squares overflow float32, after part of the episode was learned from."""
RANGE_LIMIT = "action_range"
"""Name of the limit that keeps actions of tasks without an arbiter, and of imported episodes, in [-1, 1]."""
EPISODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class InvalidEpisode(InrilError):
    """Parts of an episode do not fit together; the message names the field, its value and what is allowed."""


@dataclass(frozen=True, eq=False)
class Episode:
    """T executed actions and the T + 1 observations around them. Rows are steps; arrays are read-only."""

    episode_id: str
    run_id: str
    task: str
    purpose: str
    seed: int
    explore: bool
    contract_text: str
    interface_digest: str
    deployment_digest: str
    observations: np.ndarray
    """float32[T+1, D], the contract's fields in order, SI units."""
    actions: np.ndarray
    """float32[T, A], executed, contract units, after all limits."""
    proposed: np.ndarray
    """float32[T, A], what the source asked for, contract units."""
    raw: np.ndarray
    """float32[T, A], the policy's sample before squashing; NaN where no policy answered."""
    log_prob: np.ndarray
    """float32[T] of `raw`; NaN where there is none."""
    source: np.ndarray
    """uint8[T], the `Source` that was in control."""
    policy_run_ids: tuple[str, ...]
    """T run ids of the version (run_id, n) that answered the step, also while a human was in control; "" where none
    did."""
    policy_n: np.ndarray
    """int64[T], n of the same version; -1 where none answered."""
    limits: tuple[tuple[str, ...], ...]
    """Per step, the names of the limits that changed the action."""
    stamps_ns: np.ndarray
    """int64[T+1], ROS time of the observation."""
    tool_pose: np.ndarray
    """float64[T+1, 7], base frame, m and xyzw."""
    link_age_s: np.ndarray
    """float32[T+1, L], NaN where a link is not due or was never heard."""
    success: bool | None
    """None means nobody said: it is not failure."""
    terminated: bool
    """The task ended."""
    truncated: bool
    """Something else ended it, the value function still bootstraps."""
    outcome_source: str
    """Who said how it ended."""
    outcome_reason: str
    complete: bool
    """The closing observation is there and no step is missing."""
    qpos: np.ndarray | None = None
    """float64[T+1, nq] of a simulated cell, NaN rows where unknown; None without a simulator."""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """uint8[n, H, W, 3] by name."""
    image_steps: Mapping[str, np.ndarray] = field(default_factory=dict)
    """int32[n] by name, the observation that each image belongs to."""
    sha256: str = ""
    """Hex, of the file that was read."""
    aux: np.ndarray | None = None
    """float32[T, N], what the policy noted besides (a denoising chain, a base's action); NaN where nothing."""
    chunk_index: np.ndarray | None = None
    """int32[T], place of the step in the policy's plan; 0 where a plan was made; -1 where no policy answered."""
    rewards: np.ndarray | None = None
    """float32[T], the simulator's own; None where there is no simulator that gives any."""
    expert_actions: np.ndarray | None = None
    """float32[T, A], what an expert would have done; NaN where nobody was asked."""
    marks: np.ndarray | None = None
    """uint8[T], a `Mark` of each step, by later annotations; None where nobody marked any."""
    given_rewards: np.ndarray | None = None
    """float32[T], rewards that a person gave by later annotations; NaN elsewhere, None where there are none."""
    left_out: bool = False
    """A person took it out by a later annotation: nothing learns from it."""
    disagreement: np.ndarray | None = None
    """float32[T], root mean square, over the numbers that move the tool, of what the policy proposed in the shadow
    minus what the person did; NaN where no person drove or no policy answered, None where it was never known."""
    measured: Measured | None = None
    """What arm and tracker measured; None unless `read_episode` was asked for it, and where it was not recorded."""

    def __post_init__(self) -> None:
        """Check everything.

        Raises:
            InvalidEpisode: a shape, dtype or value that breaks the promises above.
        """
        check_episode_id(self.episode_id)
        if self.purpose not in PURPOSES:
            raise InvalidEpisode(f"purpose = {self.purpose!r}: must be one of {PURPOSES}")
        if self.actions.ndim != 2 or self.observations.ndim != 2 or self.steps < 1:
            raise InvalidEpisode(
                f"actions{list(self.actions.shape)}, observations{list(self.observations.shape)}: "
                "must be two-dimensional with at least one step"
            )
        self._check_arrays()
        for name, values in (("policy_run_ids", self.policy_run_ids), ("limits", self.limits)):
            if len(values) != self.steps:
                raise InvalidEpisode(f"{name} has {len(values)} entries for {self.steps} steps")
        if self.terminated and self.truncated:
            raise InvalidEpisode("an episode is terminated or truncated, not both")
        self._check_images()

    @property
    def steps(self) -> int:
        """T, the number of executed actions."""
        return int(self.actions.shape[0])

    @property
    def succeeded(self) -> bool:
        """Somebody said that it succeeded; an unlabelled episode did not, as far as is known."""
        return self.success is True

    def labelled(self, success: bool | None, source: str) -> Episode:
        """The same episode with a later annotation."""
        return dataclasses.replace(self, success=success, outcome_source=source)

    def marked(self, first_step: int, last_step: int, mark: Mark) -> Episode:
        """The same episode with a stretch of steps, both ends included, marked."""
        marks = np.zeros(self.steps, np.uint8) if self.marks is None else self.marks.copy()
        marks[first_step : last_step + 1] = mark
        return dataclasses.replace(self, marks=marks)

    def rewarded(self, first_step: int, last_step: int, reward: float) -> Episode:
        """The same episode with a reward that a person gives a stretch of steps, both ends included."""
        rewards = np.full(self.steps, np.nan, np.float32) if self.given_rewards is None else self.given_rewards.copy()
        rewards[first_step : last_step + 1] = reward
        return dataclasses.replace(self, given_rewards=rewards)

    def _check_arrays(self) -> None:
        steps, (rows, size), action_size = self.steps, self.observations.shape, self.actions.shape[1]
        if rows != steps + 1:
            raise InvalidEpisode(f"{rows} observations for {steps} actions: there must be one more")
        links = self.link_age_s.shape[-1] if self.link_age_s.ndim == 2 else 0
        _check("observations", self.observations, np.float32, (rows, size), "finite")
        _check("actions", self.actions, np.float32, (steps, action_size), "finite")
        _check("proposed", self.proposed, np.float32, (steps, action_size), "finite")
        _check("raw", self.raw, np.float32, (steps, action_size), "finite or NaN")
        _check("log_prob", self.log_prob, np.float32, (steps,), "finite or NaN")
        _check("source", self.source, np.uint8, (steps,))
        _check("policy_n", self.policy_n, np.int64, (steps,))
        _check("stamps_ns", self.stamps_ns, np.int64, (rows,))
        _check("tool_pose", self.tool_pose, np.float64, (rows, 7), "finite")
        _check("link_age_s", self.link_age_s, np.float32, (rows, links), "finite or NaN")
        if self.aux is not None:
            _check("aux", self.aux, np.float32, (steps, self.aux.shape[-1]), "finite or NaN")
        if self.chunk_index is not None:
            _check("chunk_index", self.chunk_index, np.int32, (steps,))
        if self.rewards is not None:
            _check("rewards", self.rewards, np.float32, (steps,), "finite")
        if self.expert_actions is not None:
            _check("expert_actions", self.expert_actions, np.float32, (steps, action_size), "finite or NaN")
        if self.marks is not None:
            _check("marks", self.marks, np.uint8, (steps,))
        if self.given_rewards is not None:
            _check("given_rewards", self.given_rewards, np.float32, (steps,), "finite or NaN")
        if self.disagreement is not None:
            _check("disagreement", self.disagreement, np.float32, (steps,), "finite or NaN")
        if self.qpos is not None:
            _check("qpos", self.qpos, np.float64, (rows, self.qpos.shape[-1]), "finite or NaN")
        if int(self.source.max()) > SOURCE_RESET:
            raise InvalidEpisode(f"source = {int(self.source.max())}: must be 0 to {SOURCE_RESET}")

    def _check_images(self) -> None:
        if set(self.images) != set(self.image_steps):
            raise InvalidEpisode(f"images {sorted(self.images)} and image_steps {sorted(self.image_steps)} differ")
        for name, pixels in self.images.items():
            count = len(self.image_steps[name])
            _check(f"images[{name}]", pixels, np.uint8, (count, *pixels.shape[1:3], 3))
            _check(f"image_steps[{name}]", self.image_steps[name], np.int32, (count,))
            if count and not 0 <= int(self.image_steps[name].min()) <= int(self.image_steps[name].max()) <= self.steps:
                raise InvalidEpisode(f"image_steps[{name}] leaves 0 to {self.steps}")


def stated_rewards(episode: Episode) -> np.ndarray:
    """float32[T], for people and files: the simulator's own rewards, or 1 for the last action of a success and 0
    elsewhere; a reward that a person gave stands in their place."""
    rewards = np.zeros(episode.steps, np.float32)
    rewards[-1] = float(episode.succeeded)
    rewards = rewards if episode.rewards is None else episode.rewards
    given = episode.given_rewards
    return rewards if given is None else np.where(np.isnan(given), rewards, given).astype(np.float32)


def stack_aux(rows: Sequence[np.ndarray]) -> np.ndarray | None:
    """What a policy noted per step, as float32[T, N] with NaN where it noted nothing; None if it never did.

    Raises:
        InvalidEpisode: the notes differ in length.
    """
    lengths = {len(row) for row in rows} - {0}
    if not lengths:
        return None
    if len(lengths) > 1:
        raise InvalidEpisode(f"aux of {sorted(lengths)} numbers in one episode; all must be of one length or empty")
    stacked = np.full((len(rows), lengths.pop()), np.nan, np.float32)
    for place, row in zip(stacked, rows, strict=True):
        if len(row):
            place[:] = row
    return stacked


def check_episode_id(episode_id: str) -> str:
    """Return `episode_id`, which also names files.

    Raises:
        InvalidEpisode: empty, too long, or with a character that could lead out of the folder.
    """
    if not EPISODE_ID.fullmatch(episode_id):
        raise InvalidEpisode(
            f"episode_id = {episode_id[:140]!r}: must be 1 to 128 letters, digits, dots, dashes or "
            "underscores and begin with a letter or digit"
        )
    return episode_id


def _check(name: str, values: np.ndarray, dtype: type, shape: tuple[int, ...], allowed: str = "") -> None:
    if values.dtype != dtype or values.shape != shape:
        raise InvalidEpisode(f"{name} is {values.dtype}{list(values.shape)}: must be {np.dtype(dtype)}{list(shape)}")
    if allowed:
        bad = ~(np.abs(values) <= MAX_NUMBER)
        if allowed == "finite or NaN":
            bad &= ~np.isnan(values)
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            raise InvalidEpisode(f"{name}{list(place)} = {values[place]}: must be {allowed}, at most {MAX_NUMBER:g}")
    values.flags.writeable = False
