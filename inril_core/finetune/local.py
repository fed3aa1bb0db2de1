"""Fine-tuning in one process, without the graph: the same learner on the same cell, for tuning and comparison.

As in the graph in lockstep: each training episode acts with exploration on the newest weights, the next one starts
when the updates it made due are done, and evaluation acts by the mode and feeds nothing.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY, Episode
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.learner import Learner
from inril_core.policies import GaussianPolicy, exploration_rng
from inril_core.sim.env import CellEnv
from inril_core.tasks.base import Outcome
from inril_core.sim.expert import ScriptedExpert

Array = npt.NDArray[np.float32]
Answer = tuple[Array, Array, float]
"""Action, raw sample and log-density; NaN where there is none."""


def policy_actor(policy: GaussianPolicy, seed: int, explore: bool) -> Callable[[Array, int], Answer]:
    """What the policy node does for one episode: an answer per (observation, step)."""
    return lambda observation, step: policy.act(observation, explore, exploration_rng(seed, step))


def expert_actor(expert: ScriptedExpert, seed: int) -> Callable[[Array, int], Answer]:
    """The scripted human for one episode."""
    expert.reset(seed)
    nothing = np.full(6, np.nan, np.float32)
    return lambda observation, step: (expert.act(observation), nothing, float("nan"))


def run_episode(
    env: CellEnv,
    act: Callable[[Array, int], Answer],
    seed: int,
    purpose: str,
    explore: bool = False,
    run_id: str = "local",
    n: int = -1,
) -> Episode:
    """One episode in the cell.

    Args:
        act: gives an answer for (observation ``[D]``, step).
        seed: of the reset.
        n: version of the acting policy; -1 for a human.
    """
    contract = env.contract
    observations = [env.reset(seed, purpose)]
    answers: list[Answer] = []
    outcomes: list[Outcome] = []
    while not outcomes or not (outcomes[-1].terminated or outcomes[-1].truncated):
        answers.append(act(observations[-1], len(outcomes)))
        following, outcome = env.step(answers[-1][0])
        observations.append(following)
        outcomes.append(outcome)
    steps, last = len(outcomes), outcomes[-1]
    rows, actions = np.stack(observations), np.stack([outcome.executed for outcome in outcomes])
    source = SOURCE_HUMAN if purpose == "demo" else SOURCE_POLICY
    poses = np.zeros((steps + 1, 7))
    poses[:, 6] = 1.0
    return Episode(
        episode_id=f"{run_id}-{purpose}-{seed}",
        run_id=run_id,
        task=contract.task,
        purpose=purpose,
        seed=seed,
        explore=explore,
        contract_text=contract.text,
        interface_digest=contract.interface_digest,
        deployment_digest=contract.deployment_digest,
        observations=rows,
        actions=actions,
        proposed=np.stack([answer[0] for answer in answers]),
        raw=np.stack([answer[1] for answer in answers]),
        log_prob=np.array([answer[2] for answer in answers], np.float32),
        source=np.full(steps, source, np.uint8),
        policy_run_ids=("" if n < 0 else run_id,) * steps,
        policy_n=np.full(steps, n, np.int64),
        limits=tuple(outcome.limits for outcome in outcomes),
        stamps_ns=np.arange(steps + 1, dtype=np.int64) * contract.period_ns,
        tool_pose=poses,
        link_age_s=np.zeros((steps + 1, len(contract.links)), np.float32),
        success=last.success,
        terminated=last.terminated,
        truncated=last.truncated,
        outcome_source="cell" if last.terminated else "episode_length",
        outcome_reason=last.reason,
        complete=True,
        sha256=hashlib.sha256(rows.tobytes() + actions.tobytes()).hexdigest(),
    )


def collect_demos(env: CellEnv, expert: ScriptedExpert, seeds: Sequence[int]) -> list[Episode]:
    """One demonstration per seed, successful or not."""
    return [run_episode(env, expert_actor(expert, seed), seed, "demo", run_id="demos") for seed in seeds]


def evaluate(env: CellEnv, policy: GaussianPolicy, seeds: Sequence[int]) -> list[bool]:
    """Success per seed of the policy acting by its mode."""
    return [bool(run_episode(env, policy_actor(policy, seed, False), seed, "eval").success) for seed in seeds]


@dataclass
class Curve:
    """What a run did, in environment steps.

    Attributes:
        episodes: (step at its end, success) per training episode.
        evaluations: (step, successes, episodes).
        metrics: (update, metrics) per group.
    """

    episodes: list[tuple[int, bool]] = field(default_factory=list)
    evaluations: list[tuple[int, int, int]] = field(default_factory=list)
    metrics: list[tuple[int, dict[str, float]]] = field(default_factory=list)


def fine_tune(
    config: FineTuneConfig,
    env: CellEnv,
    policy: GaussianPolicy,
    demos: Sequence[Episode],
    run_dir: Path,
    first_seed: int,
    eval_seeds: Sequence[int] = (),
    eval_every_steps: int = 1000,
    on_progress: Callable[[Curve], None] | None = None,
) -> tuple[Learner, Curve]:
    """Fine-tune ``policy`` in place until the step budget is spent.

    Args:
        first_seed: of the training episodes; they count up from it.
        eval_seeds: evaluated on every ``eval_every_steps`` steps, before the first update and at the end.
        on_progress: called after each evaluation.
    """
    learner, curve = Learner(config, env.contract, policy, demos, run_dir), Curve()
    next_eval, seed = config.schedule.warmup_steps, first_seed

    def measure() -> None:
        if eval_seeds:
            wins = sum(evaluate(env, policy, eval_seeds))
            curve.evaluations.append((learner.ingested_steps, wins, len(eval_seeds)))
            if on_progress is not None:
                on_progress(curve)

    while not learner.done:
        acting = policy_actor(policy, seed, True)
        episode = run_episode(env, acting, seed, "train", True, config.name, learner.updates)
        seed += 1
        learner.ingest(episode)
        curve.episodes.append((learner.ingested_steps, bool(episode.success)))
        if learner.ingested_steps >= next_eval:
            measure()
            next_eval += eval_every_steps
        while learner.updates < learner.updates_due:
            metrics = learner.train_step()
            if metrics is not None:
                curve.metrics.append((learner.updates, metrics))
    measure()
    return learner, curve
