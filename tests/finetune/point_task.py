"""A two-dimensional point that has to reach the origin: small enough to be learned in seconds."""

import hashlib

import numpy as np

from inril_core.contract import Contract, load_contract
from inril_core.data.episode import Episode
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.policies import GaussianPolicy, exploration_rng
from inril_core.tasks.base import TaskStep

LENGTH = 15
RADIUS = 0.15


def contract() -> Contract:
    """The packaged contract with a four-number observation; actions keep their six numbers, two are used."""
    base = load_contract("insert_leg").model_dump(mode="json")
    base["observation"] = [{"name": "state", "shape": [4], "unit": "m", "frame": "base"}]
    base["images"] = []
    return Contract.model_validate(base)


def observe(position: np.ndarray) -> np.ndarray:
    return np.concatenate([position, np.zeros(2)]).astype(np.float32)


def make_episode(
    observations: np.ndarray,
    actions: np.ndarray,
    success: bool | None,
    purpose: str = "train",
    episode_id: str = "e0",
    terminated: bool | None = None,
    source: np.ndarray | None = None,
    complete: bool = True,
) -> Episode:
    """An episode of the point task's shape with everything else filled in."""
    task, steps = contract(), len(actions)
    ended = bool(success) if terminated is None else terminated
    observations, actions = observations.astype(np.float32).copy(), actions.astype(np.float32).copy()
    poses = np.zeros((steps + 1, 7))
    return Episode(
        episode_id=episode_id,
        run_id="test",
        task=task.task,
        purpose=purpose,
        seed=0,
        explore=True,
        contract_text=task.text,
        interface_digest=task.interface_digest,
        deployment_digest=task.deployment_digest,
        observations=observations,
        actions=actions,
        proposed=actions.copy(),
        raw=np.full_like(actions, np.nan),
        log_prob=np.full(steps, np.nan, np.float32),
        source=np.zeros(steps, np.uint8) if source is None else source.astype(np.uint8),
        policy_run_ids=("",) * steps,
        policy_n=np.full(steps, -1, np.int64),
        limits=((),) * steps,
        stamps_ns=np.arange(steps + 1, dtype=np.int64),
        tool_pose=poses,
        link_age_s=np.zeros((steps + 1, 1), np.float32),
        success=success,
        terminated=ended,
        truncated=not ended,
        outcome_source="cell" if ended else "episode_length",
        outcome_reason="",
        complete=complete,
        sha256=hashlib.sha256(observations.tobytes() + actions.tobytes()).hexdigest(),
    )


def roll(act, seed: int, purpose: str = "train", episode_id: str | None = None) -> Episode:
    """One episode; ``act(observation, step)`` gives six numbers, of which the first two move the point by 0.2."""
    position = np.random.default_rng(seed).uniform(-1.0, 1.0, 2)
    observations, actions, success = [observe(position)], [], False
    while len(actions) < LENGTH and not success:
        actions.append(np.asarray(act(observations[-1], len(actions)), np.float32))
        position = np.clip(position + 0.2 * actions[-1][:2], -1.5, 1.5)
        observations.append(observe(position))
        success = bool(np.linalg.norm(position) < RADIUS)
    name = f"{purpose}-{seed}" if episode_id is None else episode_id
    return make_episode(np.stack(observations), np.stack(actions), success, purpose, name)


def policy_roll(policy: GaussianPolicy, seed: int, explore: bool = True, purpose: str = "train") -> Episode:
    return roll(lambda row, step: policy.act(row, explore, exploration_rng(seed, step)).action, seed, purpose)


class PointExpert:
    """Straight to the origin, in the two components that move the point."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign, self.resets, self.asked = sign, [], 0

    def reset(self, seed: int) -> None:
        self.resets.append(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.asked += 1
        action = np.zeros(6, np.float32)
        action[:2] = np.clip(-self.sign * observation[:2] / 0.4, -0.8, 0.8)
        return action


class PointTask:
    """The point as a `Task`."""

    interface = contract()
    episode_length_steps = LENGTH
    success_ends = True

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        self._position, self._step = np.random.default_rng(seed).uniform(-1.0, 1.0, 2), 0
        return observe(self._position)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        executed = np.clip(action, -1.0, 1.0).astype(np.float32)
        self._position = np.clip(self._position + 0.2 * executed[:2], -1.5, 1.5)
        self._step += 1
        success = bool(np.linalg.norm(self._position) < RADIUS)
        truncated = not success and self._step >= LENGTH
        return observe(self._position), TaskStep(executed, (), success, success, truncated, "", float(success))

    def expert(self) -> PointExpert:
        return PointExpert()

    def close(self) -> None:
        pass


def demos(count: int = 3, drift: float = 0.0) -> list[Episode]:
    """Straight to the origin plus a constant drift: an expert that is good enough from some starts only."""

    def act(row: np.ndarray, step: int) -> np.ndarray:
        action = np.zeros(6)
        action[:2] = np.clip(-row[:2] / 0.4, -0.8, 0.8) + drift
        return action

    return [roll(act, 10_000 + i, "demo") for i in range(count)]


def success_rate(policy: GaussianPolicy, episodes: int = 30) -> float:
    return float(np.mean([bool(policy_roll(policy, 50_000 + i, False, "eval").success) for i in range(episodes)]))


def small_config(method: str = "interleave", **changes: object) -> FineTuneConfig:
    """The preset, made small; the state of the point's policy spreads widely enough to find the origin."""
    small = {
        "policy.hidden": [32, 32],
        "policy.log_std": "fixed",
        "policy.log_std_init": -0.7,
        "rl.hidden": [32, 32],
        "rl.batch": 64,
        "rl.actor_lr": 1e-3,
        "rl.critic_lr": 1e-3,
        "rl.gamma": 0.9,
        "rl.behaviour_regularisation_end": 0.0,  # an untrained policy has nothing worth staying near
        "rl.behaviour_regularisation": 0.0,
        "rl.tau": 0.02,
        "il.batch": 32,
        "pretrain.updates": 200,
        "schedule.rewards_before_actor": 0,
        "schedule.warmup_steps": 200,
        "schedule.critic_warmup_updates": 200,
        "schedule.budget_steps": 800,
        "schedule.utd": 2.0,
        "metrics_every_updates": 100,
    }
    return load_config(method).changed(**{**small, **changes})
