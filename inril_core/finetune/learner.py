"""The learner: episodes in, updates, metrics and weights out. Knows no ROS and reads no clock."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inril_core import distributed
from inril_core.contract import Interface
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.files import append_line, write_lines
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.ingest_log import INGEST_LOG_NAME, IngestRecord
from inril_core.finetune.memory.buffers import Memories, store
from inril_core.finetune.memory.replay import Batch, join
from inril_core.finetune.memory.rollout import Segment, pack_segments, segments, unpack_segments
from inril_core.networks.checkpoint import read_checkpoint, write_checkpoint
from inril_core.networks.compute import compiled, precision, usable_device
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Policy

CHECKPOINT_NAME = "checkpoint.safetensors"
_STREAM, _MEASURING_STREAM = 2, 3


@dataclass(frozen=True)
class Ingested:
    """What became of an episode: rows added to replay, or why none were (``reason`` is empty if all is well)."""

    steps: int
    reason: str = ""


def new_policy(config: FineTuneConfig, interface: Interface, demos: Sequence[Episode]) -> Policy:
    """An untrained policy, its normaliser fitted on the successful ``demos``; decided by ``config.seed``.

    Raises:
        ConfigError: no successful demonstration.
    """
    good = [demo for demo in demos if demo.success]
    if not good:
        raise ConfigError(f"{len(demos)} demonstrations, none successful: record or label at least one as a success")
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
    tell each version that acts by `published`, and publish only while `may_publish`.

    Everything random comes from one generator, so the same episodes ingested before the same updates give the
    same numbers, bit for bit, also across `checkpoint` and `resume`.

    Args:
        config: settings.
        interface: the task's; episodes of another interface are refused.
        policy: pre-trained; trained in place.
        demos: demonstrations; only successful ones are imitated.
        run_dir: where the checkpoint and the ingest log go.

    Raises:
        ConfigError: a demonstration was recorded under another interface, none was successful, or they do not fit
            into the memory.
    """

    def __init__(
        self,
        config: FineTuneConfig,
        interface: Interface,
        policy: Policy,
        demos: Sequence[Episode],
        run_dir: Path,
    ) -> None:
        self.config, self.interface, self.policy, self.run_dir = config, interface, policy, Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.updates = 0
        self.ingested_steps = 0
        self.actor_updates = 0
        self.rejected_steps = 0
        self.version = 0
        self._iterations = 0
        self._iteration_due = 0
        self._rollout: list[Segment] = []
        self._rollout_rewards = 0
        self._prepared = False
        self.last_metrics: dict[str, float] = {}
        self._log: list[IngestRecord] = []
        self._known: dict[str, str] = {}
        self._window: dict[str, list[float]] = {}
        self._generator = seeded(config, _STREAM)
        device = usable_device(config.compute)
        policy.to(device)
        policy.prepare_finetuning()
        self._actor = FlatParameters(p for p in policy.parameters() if p.requires_grad)
        self._rl = config.rl.build(policy, self._actor, self._generator)  # type: ignore[attr-defined]
        reward = config.rewards.model(policy)  # type: ignore[attr-defined]
        if reward is not None:
            self._rl.reward = reward
        self._learned_reward = reward is not None
        self._il = config.il.build(policy, self._actor, self._generator)  # type: ignore[attr-defined]
        self._combine = config.combine.build(self._actor, config.rl.actor_lr)  # type: ignore[attr-defined]
        compiled(config.compute, policy, self._rl)
        self._base_lrs = {name: adam.lr for name, adam in self._combine.adams.items()}
        rl: Any = config.rl
        self.on_policy = rl.collection == "on_policy"
        self.memories = Memories(config, policy, interface.action_size, device)
        for demo in demos:
            self._refuse_other_interface(demo)
            if demo.success:
                store(self.memories.cut_first(demo))
        self._refuse_lost_demonstrations()
        if len(self.memories.demos) == 0:
            raise ConfigError(f"{len(demos)} demonstrations, none successful: record at least one success")

    def _refuse_lost_demonstrations(self) -> None:
        capacity = self.config.schedule.replay_capacity
        if any(memory.added > capacity for memory in self.memories.all()):
            raise ConfigError(
                f"schedule.replay_capacity = {capacity}: the demonstrations alone are more steps, and the oldest would "
                "be forgotten; set it higher or give fewer demonstrations"
            )

    def ingest(self, episode: Episode) -> Ingested:
        """Take in a finished episode; a known ``episode_id`` is taken once.

        Evaluation episodes never enter replay. Training episodes must be of this task's interface.

        Raises:
            ConfigError: another interface, or the same ``episode_id`` with other content.
        """
        known = self._known.get(episode.episode_id)
        if known is not None:
            if known != episode.sha256:
                raise ConfigError(
                    f"episode {episode.episode_id}: came with sha256 {episode.sha256[:12]}, but was ingested with "
                    f"{known[:12]}; an episode's content cannot change"
                )
            return Ingested(0, "already ingested")
        if episode.purpose != "train":
            return Ingested(0, f"purpose is {episode.purpose}")
        self._refuse_other_interface(episode)
        aggregate = getattr(self.config.il, "aggregate", None)
        grown = aggregate(episode) if aggregate is not None else None  # may refuse, before anything has changed
        # rows before memory: a base behind a server may give no answer, and the episode may then be ingested again
        rows = self.memories.cut_training(episode, grown)
        if self.on_policy:
            self._collect(episode)
        store(rows)
        steps = len(episode.actions)
        record = IngestRecord(self.updates, episode.episode_id, episode.sha256, steps)
        self._log.append(record)
        self._known[episode.episode_id] = episode.sha256
        self.ingested_steps += steps
        if len(self._log) == 1:  # a log left by a run that died before its first checkpoint
            write_lines(self.run_dir / INGEST_LOG_NAME, [])
        append_line(self.run_dir / INGEST_LOG_NAME, vars(record))
        return Ingested(steps)

    def knows(self, episode_id: str) -> bool:
        """Whether this episode was ingested."""
        return episode_id in self._known

    @property
    def ingested_episodes(self) -> int:
        """Episodes in replay."""
        return len(self._log)

    def _collect(self, episode: Episode) -> None:
        rewards, masks = self.config.rewards.label(episode)  # type: ignore[attr-defined]
        known = self.config.rewards.known(episode)  # type: ignore[attr-defined]
        found, rejected = segments(episode, rewards, masks, self.policy, self.version, known)
        self._rollout += found
        self.rejected_steps += rejected
        if self.updates >= self._iteration_due and sum(map(len, self._rollout)) >= self.config.rl.rollout_steps:  # type: ignore[attr-defined]
            self._iteration_due = self.updates + self._rl.begin_iteration(self._rollout)
            self._rollout_rewards += sum(int(torch.count_nonzero(segment.rewards)) for segment in self._rollout)
            self._rollout = []

    def _refuse_other_interface(self, episode: Episode) -> None:
        if episode.interface_digest != self.interface.interface_digest:
            raise ConfigError(
                f"episode {episode.episode_id}: interface {episode.interface_digest[:12]} is not this task's "
                f"{self.interface.interface_digest[:12]}; record it again under this contract"
            )

    @property
    def updates_due(self) -> int:
        """Updates that the ingested steps call for.

        Off-policy: the critic warm-up, then ``utd`` per step after the warm-up. On-policy: those of the full rollouts.
        """
        s = self.config.schedule
        if self.on_policy:
            return self._iteration_due
        if self.ingested_steps < s.warmup_steps or self.ingested_steps == 0:
            return 0
        return s.critic_warmup_updates + int(s.utd * (self.ingested_steps - s.warmup_steps))

    @property
    def waits_for_reward(self) -> bool:
        """Whether the actor is not trained because the critics have seen too few rewards to tell good from bad."""
        waits = self._combine.uses_rl and not (self._learned_reward or self.actor_updates)
        return waits and self.rewarded_steps < self.config.schedule.rewards_before_actor

    @property
    def rewarded_steps(self) -> int:
        """Steps with a reward other than 0 among what the critics learn, or have learned (on-policy), from."""
        return self._rollout_rewards if self.on_policy else self.memories.rewarded

    @property
    def may_publish(self) -> bool:
        """Whether the policy may be given to the robot now; an on-policy one not in the middle of an iteration."""
        return not self.on_policy or self.updates >= self._iteration_due

    def published(self, version: int) -> None:
        """The policy as it is now acts from here on, under this number.

        Steps of an unfinished rollout belong to the version before; they are dropped and counted.
        """
        if version != self.version:
            self.rejected_steps += sum(map(len, self._rollout))
            self._rollout = []
        self.version = version

    @property
    def done(self) -> bool:
        """The step budget is spent and trained on."""
        return self.ingested_steps >= self.config.schedule.budget_steps and self.updates >= self.updates_due

    def train_step(self) -> dict[str, float] | None:
        """One update; at the end of each group of ``metrics_every_updates`` its mean metrics, otherwise None.

        Raises:
            ValueError: nothing was ingested yet, or a gradient is not finite.
        """
        if not self._prepared and hasattr(self._rl, "prepare"):
            self._rl.prepare(self.memories.demos)
        self._prepared = True
        with precision(self.config.compute):
            metrics = self._on_policy_step() if self.on_policy else self._off_policy_step()
        self.updates += 1
        for name, value in metrics.items():
            self._window.setdefault(name, []).append(value)
        if self.updates % self.config.metrics_every_updates != 0:
            return None
        return self._close_window()

    def _off_policy_step(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        batch = self._batch()
        if self._combine.uses_rl:
            for step in range(self.config.rl.critic_steps):  # type: ignore[attr-defined]
                batch = batch if step == 0 else self._batch()
                metrics.update(self._rl.critic_step(batch))
        if self.updates >= self.config.schedule.critic_warmup_updates and not self.waits_for_reward:
            metrics.update(self._actor_step(batch))
            metrics.update(self._end_update(batch))
        return metrics

    def _on_policy_step(self) -> dict[str, float]:
        if self.updates >= self._iteration_due:
            raise ValueError("no rollout is full: ingest episodes before training")
        metrics: dict[str, float] = {}
        batch = self._rl.next_minibatch()
        warm = self._iterations >= self.config.rl.critic_warmup_iterations  # type: ignore[attr-defined]
        trains_actor = warm and not self.waits_for_reward
        if not self._rl.stopped:
            if self._combine.uses_rl:
                metrics.update(self._rl.critic_step(batch))
            if trains_actor:
                metrics.update(self._actor_step(batch))
        if self.updates + 1 >= self._iteration_due:
            if trains_actor:
                metrics.update(self._end_update(batch))
            self._iterations += 1
        return metrics

    def _actor_step(self, batch: Any) -> dict[str, float]:
        for name, lr in self._base_lrs.items():
            self._combine.adams[name].lr = lr * self._lr_share()
        metrics: dict[str, float] = self._combine.step(
            lambda: self._rl.actor_gradient(batch), lambda: self._il.gradient(self.memories.clones)
        )
        if "entropy" in metrics:
            self._rl.actor_stepped(distributed.mean_number(metrics["entropy"]))
        self.actor_updates += 1
        return metrics

    def _end_update(self, batch: Any) -> dict[str, float]:
        metrics: dict[str, float] = self._combine.end_update(
            lambda: self._rl.actor_gradient(batch), lambda: self._il.gradient(self.memories.clones)
        )
        return metrics

    def _lr_share(self) -> float:
        """Share of the actor's learning rates at the present update, see `ScheduleConfig.actor_lr_end`."""
        s = self.config.schedule
        if self.on_policy:
            done = self.ingested_steps / s.budget_steps
        else:
            done = (self.updates - s.critic_warmup_updates) / max(int(s.utd * (s.budget_steps - s.warmup_steps)), 1)
        return 1.0 - min(done, 1.0) * (1.0 - s.actor_lr_end)

    def _batch(self) -> Batch:
        c: Any = self.config.rl
        n_demo = round(c.batch * c.demo_share)
        batch = self.memories.replay.sample(c.batch - n_demo, self._generator)
        if n_demo:
            batch = join(batch, self.memories.demos.sample(n_demo, self._generator))
        refresh = self.policy.refresh
        return replace(
            batch,
            observations=refresh(batch.observations),
            next_observations=refresh(batch.next_observations),
        )

    def _close_window(self) -> dict[str, float]:
        means = {name: distributed.mean_number(sum(v) / len(v)) for name, v in self._window.items()}
        newest = self._log[-1].update if self._log else 0
        means["data_age_updates"] = float(self.updates - newest)
        means["temperature"] = self._rl.temperature
        if "il_loss" not in means:
            with torch.no_grad(), distributed.whole():
                rows = self.memories.clones.first(512)
                # with noise of its own, so that how often one looks does not move the training's numbers
                noise = seeded(self.config, _MEASURING_STREAM)
                means["il_loss"] = float(self._il.loss(rows.observations, rows.actions, noise))
        self._window = {}
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
        parts = {
            "policy": self.policy.state_dict(),
            "rl": self._rl.state(),
            "combine": self._combine.state(),
            **self.memories.state(),
            "segments": pack_segments(self._rollout),
            "generator": {"state": self._generator.get_state()},
        }
        facts = {
            "config": self.config.model_dump(mode="json"),
            "interface_digest": self.interface.interface_digest,
            "policy": self.policy.manifest(),
            "updates": self.updates,
            "actor_updates": self.actor_updates,
            "rejected_steps": self.rejected_steps,
            "iterations": self._iterations,
            "iteration_due": self._iteration_due,
            "version": self.version,
            "rollout_rewards": self._rollout_rewards,
            "prepared": self._prepared,
            "ingested_steps": self.ingested_steps,
            "log": [vars(record) for record in self._log],
            "window": self._window,
            "extra": extra or {},
        }
        path = self.run_dir / CHECKPOINT_NAME
        write_checkpoint(path, parts, facts)
        return path

    def resume(self) -> dict[str, Any]:
        """Continue from the run's checkpoint; returns the caller's ``extra``.

        Episodes ingested after the checkpoint are forgotten and can be ingested again.

        Raises:
            ConfigError: no readable checkpoint, or it was made with other settings or another interface.
        """
        path = self.run_dir / CHECKPOINT_NAME
        parts, facts = read_checkpoint(path)
        for name, here in (
            ("config", self.config.model_dump(mode="json")),
            ("interface_digest", self.interface.interface_digest),
            ("policy", self.policy.manifest()),
        ):
            if facts[name] != here:
                raise ConfigError(f"{path}: was made with another {name}; use a new run or the settings of that run")
        self.policy.load_state_dict(parts["policy"])
        self._rl.load(parts["rl"])
        self._combine.load(parts["combine"])
        self.memories.load(parts)
        self._generator.set_state(parts["generator"]["state"])
        self.updates, self.ingested_steps = facts["updates"], facts["ingested_steps"]
        self.actor_updates, self.rejected_steps = facts["actor_updates"], facts["rejected_steps"]
        self._iterations, self._prepared = facts["iterations"], facts["prepared"]
        self._rollout_rewards = facts["rollout_rewards"]
        self._iteration_due, self.version = facts["iteration_due"], facts["version"]
        self._rollout = unpack_segments(parts.get("segments", {}))
        self._window = facts["window"]
        self._log = [IngestRecord(**record) for record in facts["log"]]
        self._known = {record.episode_id: record.sha256 for record in self._log}
        write_lines(self.run_dir / INGEST_LOG_NAME, [vars(record) for record in self._log])
        extra: dict[str, Any] = facts["extra"]
        return extra
