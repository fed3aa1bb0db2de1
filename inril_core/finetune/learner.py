"""The learner: episodes in, updates, metrics and weights out. Knows no ROS and reads no clock."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inril_core.contract import Contract
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.checkpoint import (
    append_line,
    read_checkpoint,
    read_lines,
    write_checkpoint,
    write_lines,
)
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.flat import FlatParameters
from inril_core.finetune.replay import Batch, Replay, join
from inril_core.finetune.transitions import Transitions, transitions
from inril_core.policies import GaussianPolicy

CHECKPOINT_NAME = "checkpoint.safetensors"
INGEST_LOG_NAME = "ingest.jsonl"
_STREAM = 2


@dataclass(frozen=True)
class Ingested:
    """What became of an episode: rows added to replay, or why none were (``reason`` is empty if all is well)."""

    steps: int
    reason: str = ""


@dataclass(frozen=True)
class IngestRecord:
    """One line of the ingest log: before which update an episode came in, and its content."""

    update: int
    episode_id: str
    sha256: str
    steps: int


def new_policy(config: FineTuneConfig, contract: Contract, demos: Sequence[Episode]) -> GaussianPolicy:
    """An untrained policy, its normaliser fitted on the successful ``demos``; decided by ``config.seed``.

    Raises:
        ConfigError: no successful demonstration.
    """
    settings = config.policy.model_dump(exclude={"std_floor"})
    good = [demo for demo in demos if demo.success]
    if not good:
        raise ConfigError(f"{len(demos)} demonstrations, none successful: record or label at least one as a success")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = GaussianPolicy(contract.observation_size, contract.action.size, **settings)
    policy.fit_normaliser(np.concatenate([demo.observations for demo in good]), config.policy.std_floor)
    return policy


def seeded(config: FineTuneConfig, stream: int) -> torch.Generator:
    """A generator for one purpose, decided by ``config.seed``."""
    digest = hashlib.sha256(f"{config.seed}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class Learner:
    """Trains a policy on what episodes bring in, at the configured update-to-data ratio.

    The caller decides when: `ingest` what was recorded, then `train_step` while ``updates < updates_due``.
    Everything random comes from one generator, so the same episodes ingested before the same updates give the
    same numbers, bit for bit, also across `checkpoint` and `resume`.

    Args:
        config: settings.
        contract: the task; episodes of another interface are refused.
        policy: pre-trained; trained in place.
        demos: demonstrations; only successful ones are imitated.
        run_dir: where the checkpoint and the ingest log go.

    Raises:
        ConfigError: a demonstration was recorded under another interface, or none was successful.
    """

    def __init__(
        self,
        config: FineTuneConfig,
        contract: Contract,
        policy: GaussianPolicy,
        demos: Sequence[Episode],
        run_dir: Path,
    ) -> None:
        self.config, self.contract, self.policy, self.run_dir = config, contract, policy, Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.updates = 0
        self.ingested_steps = 0
        self.last_metrics: dict[str, float] = {}
        self._log: list[IngestRecord] = []
        self._known: dict[str, str] = {}
        self._window: dict[str, list[float]] = {}
        self._generator = seeded(config, _STREAM)
        self._actor = FlatParameters(policy.parameters())
        self._rl = config.rl.build(policy, self._actor, self._generator)  # type: ignore[attr-defined]
        self._il = config.il.build(policy, self._actor, self._generator)  # type: ignore[attr-defined]
        self._combine = config.combine.build(self._actor, config.rl.actor_lr)  # type: ignore[attr-defined]
        self._base_lrs = {name: adam.lr for name, adam in self._combine.adams.items()}
        sizes = (contract.observation_size, contract.action.size)
        self._replay = Replay(config.schedule.replay_capacity, *sizes)
        self._demos = Replay(config.schedule.replay_capacity, *sizes)
        for demo in demos:
            self._refuse_other_interface(demo)
            if demo.success:
                self._demos.add(self._transitions(demo).batch)
        if len(self._demos) == 0:
            raise ConfigError(f"{len(demos)} demonstrations, none successful: record at least one success")

    # -- data -------------------------------------------------------------------------------------------------

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
        rows = self._transitions(episode)
        if len(rows.batch):
            self._replay.add(rows.batch)
        growth = self.config.schedule.demo_growth
        if "successes" in growth and episode.success:
            self._demos.add(rows.batch)
        elif "corrections" in growth and rows.human.any():
            self._demos.add(rows.of_human())
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

    def _transitions(self, episode: Episode) -> Transitions:
        rewards, masks = self.config.rewards.label(episode)  # type: ignore[attr-defined]
        rl = self.config.rl
        return transitions(episode, rewards, masks, self.policy, rl.gamma, rl.n_steps)  # type: ignore[attr-defined]

    def _refuse_other_interface(self, episode: Episode) -> None:
        if episode.interface_digest != self.contract.interface_digest:
            raise ConfigError(
                f"episode {episode.episode_id}: interface {episode.interface_digest[:12]} is not this task's "
                f"{self.contract.interface_digest[:12]}; record it again under this contract"
            )

    # -- training ---------------------------------------------------------------------------------------------

    @property
    def updates_due(self) -> int:
        """Updates that the ingested steps call for: the critic warm-up, then ``utd`` per step after the warm-up."""
        s = self.config.schedule
        if self.ingested_steps < s.warmup_steps or self.ingested_steps == 0:
            return 0
        return s.critic_warmup_updates + int(s.utd * (self.ingested_steps - s.warmup_steps))

    @property
    def actor_updates(self) -> int:
        """Updates that changed the policy: all but the critic warm-up."""
        return max(0, self.updates - self.config.schedule.critic_warmup_updates)

    @property
    def done(self) -> bool:
        """The step budget is spent and trained on."""
        return self.ingested_steps >= self.config.schedule.budget_steps and self.updates >= self.updates_due

    def train_step(self) -> dict[str, float] | None:
        """One update; at the end of each group of ``metrics_every_updates`` its mean metrics, otherwise None.

        Raises:
            ValueError: nothing was ingested yet, or a gradient is not finite.
        """
        metrics: dict[str, float] = {}
        batch = self._batch()
        if self._combine.uses_rl:
            for step in range(self.config.rl.critic_steps):  # type: ignore[attr-defined]
                batch = batch if step == 0 else self._batch()
                metrics.update(self._rl.critic_step(batch))
        if self.updates >= self.config.schedule.critic_warmup_updates:
            for name, lr in self._base_lrs.items():
                self._combine.adams[name].lr = lr * self._lr_share()
            metrics.update(
                self._combine.step(lambda: self._rl.actor_gradient(batch), lambda: self._il.gradient(self._demos))
            )
            if "entropy" in metrics:
                self._rl.temperature_step(metrics["entropy"])
        self.updates += 1
        for name, value in metrics.items():
            self._window.setdefault(name, []).append(value)
        if self.updates % self.config.metrics_every_updates != 0:
            return None
        return self._close_window()

    def _lr_share(self) -> float:
        """Share of the actor's learning rates at the present update, see `ScheduleConfig.actor_lr_end`."""
        s = self.config.schedule
        done = (self.updates - s.critic_warmup_updates) / max(int(s.utd * (s.budget_steps - s.warmup_steps)), 1)
        return 1.0 - min(done, 1.0) * (1.0 - s.actor_lr_end)

    def _batch(self) -> Batch:
        c: Any = self.config.rl
        n_demo = round(c.batch * c.demo_share)
        online = self._replay.sample(c.batch - n_demo, self._generator)
        return online if n_demo == 0 else join(online, self._demos.sample(n_demo, self._generator))

    def _close_window(self) -> dict[str, float]:
        means = {name: sum(values) / len(values) for name, values in self._window.items()}
        newest = self._log[-1].update if self._log else 0
        means["data_age_updates"] = float(self.updates - newest)
        means["temperature"] = self._rl.temperature
        if "il_loss" not in means:
            with torch.no_grad():
                rows = self._demos.first(512)
                means["il_loss"] = float(self._il.loss(rows.observations, rows.actions))
        self._window = {}
        self.last_metrics = means
        return means

    # -- what leaves ------------------------------------------------------------------------------------------

    def policy_state(self) -> dict[str, Tensor]:
        """A copy of the policy's parameters and buffers, ready to be packed."""
        return {name: tensor.detach().clone() for name, tensor in self.policy.state_dict().items()}

    def checkpoint(self, extra: dict[str, Any] | None = None) -> Path:
        """Write everything `resume` needs into one file, atomically; returns its path.

        Args:
            extra: JSON values of the caller, given back by `resume`.
        """
        parts = {
            "policy": self.policy.state_dict(),
            "rl": self._rl.state(),
            "combine": self._combine.state(),
            "replay": self._replay.state(),
            "demos": self._demos.state(),
            "generator": {"state": self._generator.get_state()},
        }
        facts = {
            "config": self.config.model_dump(mode="json"),
            "interface_digest": self.contract.interface_digest,
            "policy": self.policy.manifest(),
            "updates": self.updates,
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
            ("interface_digest", self.contract.interface_digest),
            ("policy", self.policy.manifest()),
        ):
            if facts[name] != here:
                raise ConfigError(f"{path}: was made with another {name}; use a new run or the settings of that run")
        self.policy.load_state_dict(parts["policy"])
        self._rl.load(parts["rl"])
        self._combine.load(parts["combine"])
        self._replay.load(parts["replay"])
        self._demos.load(parts["demos"])
        self._generator.set_state(parts["generator"]["state"])
        self.updates, self.ingested_steps = facts["updates"], facts["ingested_steps"]
        self._window = facts["window"]
        self._log = [IngestRecord(**record) for record in facts["log"]]
        self._known = {record.episode_id: record.sha256 for record in self._log}
        write_lines(self.run_dir / INGEST_LOG_NAME, [vars(record) for record in self._log])
        extra: dict[str, Any] = facts["extra"]
        return extra


def read_ingest_log(run_dir: Path) -> list[IngestRecord]:
    """The ingest log of a run, oldest first.

    Raises:
        ConfigError: it cannot be read.
    """
    return [IngestRecord(**line) for line in read_lines(Path(run_dir) / INGEST_LOG_NAME)]


def replay_run(learner: Learner, log: Sequence[IngestRecord], episodes: dict[str, Episode], updates: int) -> None:
    """Give a fresh ``learner`` the episodes of ``log``, each before the update it came before, up to ``updates``.

    With the run's config, initial policy and demonstrations, the outcome is the run's, bit for bit.

    Raises:
        ConfigError: an episode is missing or its content is not what was ingested.
    """
    for record in log:
        while learner.updates < min(record.update, updates):
            learner.train_step()
        episode = episodes.get(record.episode_id)
        if episode is None or episode.sha256 != record.sha256:
            raise ConfigError(f"episode {record.episode_id}: missing, or not the content {record.sha256[:12]} ingested")
        learner.ingest(episode)
    while learner.updates < updates:
        learner.train_step()
