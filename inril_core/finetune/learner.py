"""The learner: episodes in, updates, metrics and weights out. Knows no ROS and reads no clock.

Over 400 lines: taking in, correcting, training and resuming must agree on what is in the memory.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from inril_core import distributed
from inril_core.contract import Interface
from inril_core.data.episode import Episode
from inril_core.data.said import digest_of
from inril_core.errors import ConfigError, InrilError
from inril_core.files import append_line, write_lines
from inril_core.finetune import checkpoint
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.ingest_log import INGEST_LOG_NAME, IngestRecord
from inril_core.finetune.loop import Counts, Loop, Taken
from inril_core.finetune.memory.buffers import Cut
from inril_core.finetune.memory.transitions import shows_something
from inril_core.finetune.metrics import numbers
from inril_core.finetune.off_policy import OffPolicyLoop
from inril_core.finetune.on_policy import OnPolicyLoop
from inril_core.finetune.parts import build_parts
from inril_core.finetune.published import PublishedStates, go_back, snapshot
from inril_core.networks.compute import precision
from inril_core.policies import Policy

STEPS_TAKEN = ("actor_updates", "insertions", "il_steps")
"""Of `Counts`, in the metrics: what was really done, so far."""
_STREAM, _MEASURING_STREAM = 2, 3


class EpisodeNotTaken(ConfigError):
    """An episode that cannot be learned from; the message names it. The learner is as it was before."""


@dataclass(frozen=True)
class Ingested:
    """What became of an episode."""

    steps: int
    """Of the episode; 0 where it was not taken in."""
    reason: str = ""
    """Why not; empty if all is well."""


class UpdateObserver(Protocol):
    """Looks on while a learner trains, e.g. with a clock."""

    def update_begins(self, learner: "Learner") -> None:
        """Before each update."""

    def update_ended(self, learner: "Learner") -> None:
        """After each update that did not fail."""


def new_policy(config: FineTuneConfig, interface: Interface, demos: Sequence[Episode]) -> Policy:
    """An untrained policy, its normaliser fitted on those ``demos`` that show something; decided by ``config.seed``.

    Raises:
        ConfigError: no successful demonstration, and no correction.
    """
    good = [demo for demo in demos if shows_something(demo)]
    if not good:
        raise ConfigError(
            f"{len(demos)} demonstrations, none successful: record or label at least one as a success, or record "
            "corrections"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        settings = config.policy.seeing(interface.image_shapes)
        policy = settings.build(interface.observation_size, interface.action_size)
    policy.fit_normaliser(np.concatenate([demo.observations for demo in good]), config.pretrain.std_floor)
    return policy


def seeded(config: FineTuneConfig, stream: int) -> torch.Generator:
    """A generator for one purpose, decided by ``config.seed``."""
    digest = hashlib.sha256(f"{config.seed}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class Learner:
    """Trains a policy on what episodes bring in, at the configured update-to-data ratio.

    The caller decides when: `ingest` what was recorded, then `train_step` while ``updates < updates_due``. An on-policy
    method calls for updates whenever a rollout is full, and learns from steps of the newest published version alone:
    tell each version that acts by `published`, and publish only while `may_publish`; where another version acts after
    all, `go_on_from` it.

    Everything random comes from one generator, so the same episodes ingested before the same updates give the
    same numbers, bit for bit, also across `checkpoint` and `resume`.

    Args:
        config: settings.
        interface: the task's; episodes of another interface are refused.
        policy: pre-trained; trained in place.
        demos: demonstrations, of which successful ones are imitated, and training episodes, of which corrections are.
        run_dir: where the checkpoint and the ingest log go.
        observer: looks on.

    Raises:
        ConfigError: a demonstration was recorded under another interface or is not fit to learn from, none was
            successful, they do not fit into the memory, or the device is not there.
    """

    def __init__(
        self,
        config: FineTuneConfig,
        interface: Interface,
        policy: Policy,
        demos: Sequence[Episode],
        run_dir: Path,
        observer: UpdateObserver | None = None,
    ) -> None:
        self.config, self.interface, self.policy, self.run_dir = config, interface, policy, Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.initial_weights = checkpoint.weights_digest(policy)
        self.counts = Counts()
        self.version = 0
        self.last_metrics: dict[str, float] = {}
        self.log: list[IngestRecord] = []
        self.window: dict[str, list[float | Tensor]] = {}
        """Metrics since the last group was closed."""
        self._known: dict[str, tuple[str, str]] = {}
        self.owners: dict[str, int] = {}
        """Numbers of demonstrations and training episodes in the order in which they were taken in."""
        self._observer = observer
        self.parts = build_parts(config, policy, interface.action_size, seeded(config, _STREAM))
        self.buffers = self.parts.buffers
        self.on_policy = config.rl.collection == "on_policy"
        self.loop: Loop = (OnPolicyLoop if self.on_policy else OffPolicyLoop)(self.parts, self.counts)
        self.published_states = PublishedStates(self.parts)
        if self.on_policy:
            self.published_states.keep(0)
        self.given = {demo.episode_id: demo for demo in demos}
        """Demonstrations, until the first update: a resumed run is compared with them."""
        self.added_demos: list[str] = []
        """Demonstrations that a resumed run did not begin with."""
        self.demos: dict[str, list[str]] = {}
        """SHA-256 of each demonstration, and the digest of what was said of it."""
        for demo in demos:
            self.show(demo)
        self._refuse_lost_demonstrations(demos)

    def show(self, demo: Episode) -> None:
        """Take in a demonstration; nothing of it is imitated unless it shows something (`shows_something`).

        Raises:
            ConfigError: of another interface, or not fit to learn from; nothing was taken in.
        """
        cut = self._cut_first(demo)
        self.buffers.store(cut, self._number(demo))
        self.demos[demo.episode_id] = [demo.sha256, digest_of(demo)]

    def _cut_first(self, demo: Episode) -> Cut:
        self._refuse_other_interface(demo)
        try:
            return self.buffers.cut_first(demo)
        except ValueError as error:
            raise EpisodeNotTaken(
                f"demonstration {demo.episode_id}: {error}; leave it out, or record it again"
            ) from error

    def _number(self, episode: Episode) -> int:
        return self.owners.setdefault(episode.episode_id, len(self.owners))

    def _refuse_lost_demonstrations(self, demos: Sequence[Episode]) -> None:
        capacity = self.config.schedule.replay_capacity
        if any(buffer.added > capacity for buffer in self.buffers.all()):
            raise ConfigError(
                f"schedule.replay_capacity = {capacity}: the demonstrations alone are more steps, and the oldest would "
                "be forgotten; set it higher or give fewer demonstrations"
            )
        checkpoint.refuse_empty(demos, len(self.buffers.clones))

    @property
    def updates(self) -> int:
        """Updates so far."""
        return self.counts.updates

    @property
    def actor_updates(self) -> int:
        """Updates so far in which the actor was trained."""
        return self.counts.actor_updates

    @property
    def ingested_steps(self) -> int:
        """Steps of the training episodes taken in."""
        return self.counts.ingested_steps

    @property
    def rejected_steps(self) -> int:
        """See `Counts.rejected_steps`."""
        return self.counts.rejected_steps

    @property
    def ingested_episodes(self) -> int:
        """Training episodes taken in."""
        return len(self._known)

    @property
    def updates_due(self) -> int:
        """Updates that the ingested steps call for."""
        return self.loop.updates_due

    @property
    def waits_for_reward(self) -> bool:
        """Whether the actor is not trained because the critics have seen too little to tell good from bad."""
        return self.loop.waits_for_reward

    @property
    def informative_steps(self) -> int:
        """See `Loop.informative_steps`."""
        return self.loop.informative_steps

    @property
    def may_publish(self) -> bool:
        """Whether the policy may be given to the robot now; an on-policy one not in the middle of an iteration."""
        return self.loop.may_publish

    @property
    def done(self) -> bool:
        """The step budget is spent and trained on."""
        return self.ingested_steps >= self.config.schedule.budget_steps and self.updates >= self.updates_due

    def ingest(self, episode: Episode) -> Ingested:
        """Take in a finished episode, the whole of it or nothing; a known ``episode_id`` is taken once.

        Evaluation episodes never enter replay. Training episodes must be of this task's interface.

        Raises:
            EpisodeNotTaken: it cannot be learned from: of another interface, the same ``episode_id`` with other
                content, or a number that is not finite in float32.
            RemoteError: a base in another process gave no answer; it may be ingested again.
            OSError: the ingest log cannot be written; it may be ingested again.
        """
        known = self._known.get(episode.episode_id)
        if known is not None:
            self._refuse_other_content(episode, known[0])
            return Ingested(0, "already ingested")
        if episode.episode_id in self.demos:
            return Ingested(0, "already a demonstration")
        if episode.purpose != "train":
            return Ingested(0, f"purpose is {episode.purpose}")
        taken = self._prepared(episode)
        record = self._log(episode, episode.steps)
        self._accepted(episode)
        # from here on nothing fails
        self.log.append(record)
        self._known[episode.episode_id] = (episode.sha256, record.said)
        self.counts.ingested_steps += record.steps
        self.loop.take(taken, self._number(episode))
        self.parts.combine.episode_finished(episode)
        return Ingested(record.steps)

    def revise(self, episode: Episode) -> bool:
        """Take in what was said of a known episode or demonstration since; whether there was anything new.

        The memory becomes what it were if the episode had come like this in the first place, see `Replay.replace`;
        updates that were made stay as they are, and so does the number of steps that call for updates.

        Raises:
            EpisodeNotTaken: it is not known, has other content, or cannot be learned from as it is now. What was taken
                in of it stays.
            RemoteError, OSError: as `ingest`.
        """
        name = episode.episode_id
        before = self._known.get(name, self.demos.get(name))
        if before is None:
            raise EpisodeNotTaken(f"episode {name}: was never taken in, so nothing of it can be corrected")
        self._refuse_other_content(episode, before[0])
        if digest_of(episode) == before[1]:
            return False
        is_demo = name in self.demos
        taken = Taken(self._cut_first(episode)) if is_demo else self._prepared(episode)
        if self.demos and self.buffers.leaves_nothing(taken.cut, self.owners[name]):
            raise EpisodeNotTaken(
                f"episode {name}: without it nothing is left to imitate; add demonstrations and start the learner again"
            )
        record = self._log(episode, 0)
        self._revised(episode)
        self.log.append(record)
        if is_demo:
            self.demos[name] = [episode.sha256, record.said]
            self.buffers.replace(taken.cut, self.owners[name])
        else:
            self._known[name] = (episode.sha256, record.said)
            self.loop.revise(taken, self.owners[name])
        return True

    def said(self, episode_id: str) -> str | None:
        """Digest of what was said of an episode or demonstration as it was taken in; None: it is not known."""
        known = self._known.get(episode_id, self.demos.get(episode_id))
        return None if known is None else known[1]

    def _log(self, episode: Episode, steps: int) -> IngestRecord:
        record = IngestRecord(self.updates, episode.episode_id, episode.sha256, steps, digest_of(episode))
        path = self.run_dir / INGEST_LOG_NAME
        if not self.log:  # one left by a run that died before its first checkpoint
            write_lines(path, [])
        append_line(path, vars(record))
        return record

    @staticmethod
    def _refuse_other_content(episode: Episode, sha256: str) -> None:
        if sha256 != episode.sha256:
            raise EpisodeNotTaken(
                f"episode {episode.episode_id}: came with sha256 {episode.sha256[:12]}, but was ingested with "
                f"{sha256[:12]}; an episode's content cannot change"
            )

    def _prepared(self, episode: Episode) -> Taken:
        """What an episode gives; nothing has changed yet, whatever is raised."""
        name = f"episode {episode.episode_id}"
        try:
            self._refuse_other_interface(episode)
            return self.loop.prepare(episode, self.version)
        except ConfigError as error:
            raise EpisodeNotTaken(str(error) if name in str(error) else f"{name}: {error}") from error
        except (InrilError, MemoryError, OSError):
            raise
        except Exception as error:  # whatever a method stumbles over: the recording is named, and the run goes on
            raise EpisodeNotTaken(
                f"{name}: cannot be learned from ({type(error).__name__}: {error}); it stays in the store, and "
                "nothing of it was taken in"
            ) from error

    def _accepted(self, episode: Episode) -> None:
        """Called when an episode will be taken in."""

    def _revised(self, episode: Episode) -> None:
        """Called when something new that was said of an episode will be taken in."""

    def _refuse_other_interface(self, episode: Episode) -> None:
        if episode.interface_digest != self.interface.interface_digest:
            raise EpisodeNotTaken(
                f"episode {episode.episode_id}: interface {episode.interface_digest[:12]} is not this task's "
                f"{self.interface.interface_digest[:12]}; record it again under this contract"
            )

    def knows(self, episode_id: str) -> bool:
        """Whether this episode was ingested."""
        return episode_id in self._known

    def published(self, version: int) -> None:
        """The policy as it is now acts from here on, under this number.

        Steps of an unfinished rollout belong to the version before; they are dropped and counted.
        """
        if version != self.version:
            self.loop.version_changed()
        self.version = version
        if self.on_policy:
            self.published_states.keep(version)

    def go_on_from(self, version: int) -> bool:
        """Go back to a published version, which acts after all: the newest was refused, or a person rolled back.

        On-policy learning needs this: every step of ``version`` is of no use to another one. Policy and optimizers
        become what they were when it was published; critics keep what they have learned. False, and nothing happens,
        where the version is not known: it was published too long ago, or by another learner.
        """
        if not self.published_states.restore(version):
            return False
        self.loop.version_changed()
        self.version = version
        return True

    def snapshot(self) -> dict[str, Tensor]:
        """Policy and its optimizers as they are now, for `go_back_to`."""
        return snapshot(self.parts)

    def go_back_to(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier `snapshot`; replay and critics stay what they have become."""
        go_back(self.parts, state)
        self.loop.version_changed()
        if self.on_policy:
            self.published_states.keep(self.version)

    def train_step(self) -> dict[str, float] | None:
        """One update; at the end of each group of ``metrics_every_updates`` its mean metrics, otherwise None.

        Raises:
            ValueError: nothing was ingested yet, or a gradient is not finite.
        """
        self.given = {}
        if self._observer is not None:
            self._observer.update_begins(self)
        self.loop.begin()
        with precision(self.config.compute):
            metrics = self.loop.step()
        self.counts.updates += 1
        for name, value in metrics.items():
            self.window.setdefault(name, []).append(value)
        closed = self._close_window() if self.updates % self.config.metrics_every_updates == 0 else None
        if self._observer is not None:
            self._observer.update_ended(self)
        return closed

    def _close_window(self) -> dict[str, float]:
        means = {name: distributed.mean_number(sum(v) / len(v)) for name, v in numbers(self.window).items()}
        newest = next((record.update for record in reversed(self.log) if record.steps), 0)
        means["data_age_updates"] = float(self.updates - newest)
        means["temperature"] = self.parts.rl.temperature
        means |= {name: float(getattr(self.counts, name)) for name in STEPS_TAKEN}
        if "il_loss" not in means:
            with torch.no_grad(), distributed.whole():
                rows = self.buffers.clones.first(512)
                # with noise of its own, so that how often one looks does not move the training's numbers
                noise = seeded(self.config, _MEASURING_STREAM)
                means["il_loss"] = float(self.parts.il.loss(rows.observations, rows.actions, noise))
        self.window = {}
        self.last_metrics = means
        return means

    def policy_state(self) -> dict[str, Tensor]:
        """A copy of the policy's parameters and buffers, ready to be packed."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.policy.state_dict().items()}

    def checkpoint(self, extra: dict[str, Any] | None = None) -> Path:
        """Write everything `resume` needs into one file, atomically; returns its path.

        Args:
            extra: JSON values of the caller, given back by `resume`.
        """
        return checkpoint.write(self, extra or {})

    def resume(self) -> dict[str, Any]:
        """Continue from the run's checkpoint; returns the caller's ``extra``.

        Episodes ingested after the checkpoint are forgotten and can be ingested again. Demonstrations that the run did
        not have are taken in; ``added_demos`` says which. What was said of the others since is taken in, too.

        Raises:
            ConfigError: no readable checkpoint; or it was made with other settings, another interface, other initial
                weights, or demonstrations that are missing now or are other recordings.
        """
        given = self.given
        extra = checkpoint.resume(self)
        records = [record for record in self.log if record.episode_id not in self.demos]
        self._known = {record.episode_id: (record.sha256, record.said) for record in records}
        write_lines(self.run_dir / INGEST_LOG_NAME, [vars(record) for record in self.log])
        for name in self.demos:  # what was said of them while no learner ran
            self.revise(given[name])
        return extra
