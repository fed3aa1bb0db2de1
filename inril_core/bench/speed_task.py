"""A learner with its memory filled, for measuring: what is learned from is noise, what it costs is not."""

from pathlib import Path

import numpy as np

from inril_core.contract import SimpleInterface
from inril_core.data.episode import Episode
from inril_core.experts import Expert
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import collect_demos, policy_actor, run_episode
from inril_core.tasks.base import TaskStep

EPISODE_STEPS = 100
DEMOS = 12


class NoiseExpert:
    """Actions are noise."""

    def __init__(self, action_size: int) -> None:
        self._size, self._rng = action_size, np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """See `Expert.reset`."""
        self._rng = np.random.default_rng([seed, 1])

    def act(self, observation: np.ndarray) -> np.ndarray:
        """See `Expert.act`."""
        return self._rng.uniform(-0.9, 0.9, self._size).astype(np.float32)


class NoiseTask:
    """Observations are noise, every second episode succeeds at its last step.

    Args:
        observation_size, action_size: D and A; by default those of ``insert_leg``.
    """

    episode_length_steps = EPISODE_STEPS
    success_ends = True

    def __init__(self, observation_size: int = 27, action_size: int = 6) -> None:
        self.interface = SimpleInterface("noise", observation_size, action_size, {})
        self._rng, self._seed, self._step = np.random.default_rng(0), 0, 0

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """See `Task.reset`."""
        self._rng, self._seed, self._step = np.random.default_rng([seed, len(purpose)]), seed, 0
        return self._observe()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """See `Task.step`."""
        self._step += 1
        over = self._step == EPISODE_STEPS
        success = over and (self._seed % 2 == 0)
        executed = np.clip(action, -1.0, 1.0).astype(np.float32)
        outcome = TaskStep(executed, (), success, success, over and not success, "", float(success))
        return self._observe(), outcome

    def expert(self) -> Expert:
        """See `Task.expert`."""
        return NoiseExpert(self.interface.action_size)

    def close(self) -> None:
        """Nothing is held."""

    def _observe(self) -> np.ndarray:
        return self._rng.standard_normal(self.interface.observation_size).astype(np.float32)


def demonstrations(task: NoiseTask, count: int = DEMOS) -> list[Episode]:
    """Successful ones."""
    return collect_demos(task, task.expert(), range(0, 2 * count, 2))


def filled_learner(config: FineTuneConfig, run_dir: Path, steps: int = 300) -> Learner:
    """A learner that has ingested ``steps`` steps of an untrained policy and has updates due for as long as needed.

    Its warm-ups are over, so that every update trains critic and actor.
    """
    at_once = {"warmup_steps": 0, "critic_warmup_updates": 0, "rewards_before_actor": 0, "utd": 50.0}
    config = config.changed(**{f"schedule.{name}": value for name, value in at_once.items()})
    if "critic_warmup_iterations" in type(config.rl).model_fields:
        config = config.changed(**{"rl.critic_warmup_iterations": 0})
    task = NoiseTask()
    demos = demonstrations(task)
    learner = Learner(config, task.interface, new_policy(config, task.interface, demos), demos, run_dir)
    refill(learner, task, steps)
    return learner


def refill(learner: Learner, task: NoiseTask, steps: int = 300) -> None:
    """Ingest ``steps`` more; for an on-policy method until a rollout is full."""
    end = learner.ingested_steps + steps
    while learner.ingested_steps < end or learner.updates_due <= learner.updates:
        seed = 1000 + learner.ingested_episodes
        acting = policy_actor(learner.policy, seed, True)
        asked = task.expert() if "answers" in learner.config.il.lives_on() else None
        learner.ingest(run_episode(task, acting, seed, "train", True, "speed", learner.version, asked))
