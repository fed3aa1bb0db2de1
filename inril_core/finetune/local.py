"""Fine-tuning in one process, without the graph: the same learner on any task, for tuning and comparison.

As in the graph in lockstep: each training episode acts with exploration on the newest weights, the next one starts
when the updates it made due are done, and evaluation does not explore and feeds nothing.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inril_core.contract import Contract
from inril_core.control.observation import split_observations
from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY, Episode, stack_aux
from inril_core.errors import ConfigError
from inril_core.evaluation.guard import Check
from inril_core.evaluation.shadow import GateConfig, Judged
from inril_core.experts import Expert, make_expert
from inril_core.experts.intervener import CriticConfig, Intervener, InterventionConfig, RandomJudge, ValueJudge
from inril_core.experts.looking_around import LookingAround
from inril_core.experts.quality import WorseExpert
from inril_core.experts.reference_critic import ReferenceCritic, fit_reference_critic, load_reference_critic
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.guarded import GuardedLearner
from inril_core.finetune.learner import Learner, UpdateObserver
from inril_core.finetune.rewards import task as task_reward
from inril_core.finetune.shadow import ShadowGate
from inril_core.outcome import CELL, EPISODE_LENGTH, Outcome, success_of
from inril_core.policies import Decision, Memory, Policy, exploration_rng
from inril_core.tasks.base import Task, TaskStep
from inril_core.vocabulary import Mark

Act = Callable[[npt.NDArray[np.float32], int], Decision]
"""The answer to (observation ``[D]``, step)."""

_REFERENCE_SEED = 900_000  # first of the reference critic's episodes: nobody else's starts


def policy_actor(policy: Policy, seed: int, explore: bool, intervener: Intervener | None = None) -> Act:
    """What the policy node does for one episode. Where an ``intervener`` takes over, the policy's plan is void."""
    memory = Memory()

    def act(observation: npt.NDArray[np.float32], step: int) -> Decision:
        helped = intervener is not None and intervener.in_control
        answer = None if helped else policy.act(observation, explore, exploration_rng(seed, step), memory)
        instead = None
        if intervener is not None:
            instead = intervener.act(observation, None if answer is None else answer.action)
        if instead is None:
            assert answer is not None
            return answer
        memory.clear()
        return _of_human(instead, policy.action_size)

    if intervener is not None:
        intervener.reset(seed)
    return act


def expert_actor(expert: Expert, seed: int, action_size: int) -> Act:
    """An expert for one episode."""
    expert.reset(seed)
    return lambda observation, step: _of_human(expert.act(observation), action_size)


def _of_human(action: npt.NDArray[np.float32], action_size: int) -> Decision:
    return Decision(action, np.full(action_size, np.nan, np.float32), float("nan"), chunk_index=-1)


def run_episode(
    task: Task,
    act: Act,
    seed: int,
    purpose: str,
    explore: bool = False,
    run_id: str = "local",
    n: int = -1,
    asked: Expert | None = None,
) -> Episode:
    """One episode of a task.

    Args:
        act: gives an answer for (observation ``[D]``, step); ``chunk_index`` -1 marks a human's.
        seed: of the reset.
        n: version of the acting policy; -1 for a human.
        asked: says at every step what it would have done (`Episode.expert_actions`).
    """
    interface = task.interface
    observations = [task.reset(seed, purpose)]
    poses = [_tool_pose(task)]
    if asked is not None:
        asked.reset(seed)
    answers: list[Decision] = []
    told: list[npt.NDArray[np.float32]] = []
    outcomes: list[TaskStep] = []
    while not outcomes or not (outcomes[-1].terminated or outcomes[-1].truncated):
        if asked is not None:  # before the step: an expert that looks at the cell sees it as it is now
            told.append(asked.act(observations[-1]))
        answers.append(act(observations[-1], len(outcomes)))
        following, outcome = task.step(answers[-1].action)
        observations.append(following)
        poses.append(_tool_pose(task))
        outcomes.append(outcome)
    steps, last = len(outcomes), outcomes[-1]
    source = CELL if last.terminated else EPISODE_LENGTH
    ended = Outcome(last.success, last.terminated, last.truncated, source, last.reason)
    rows, actions = np.stack(observations), np.stack([outcome.executed for outcome in outcomes])
    states, images = split_observations(interface.image_shapes, rows)
    human = np.array([purpose == "demo" or answer.chunk_index < 0 for answer in answers])
    return Episode(
        episode_id=f"{run_id}-{purpose}-{seed}",
        run_id=run_id,
        task=interface.task,
        purpose=purpose,
        seed=seed,
        explore=explore,
        contract_text=interface.text,
        interface_digest=interface.interface_digest,
        deployment_digest=interface.deployment_digest,
        observations=states,
        actions=actions,
        proposed=np.stack([answer.action for answer in answers]),
        raw=np.stack([answer.raw for answer in answers]),
        log_prob=np.array([answer.log_prob for answer in answers], np.float32),
        source=np.where(human, SOURCE_HUMAN, SOURCE_POLICY).astype(np.uint8),
        policy_run_ids=tuple("" if n < 0 or helped else run_id for helped in human),
        policy_n=np.where(human, -1, n).astype(np.int64),
        limits=tuple(outcome.limits for outcome in outcomes),
        stamps_ns=np.arange(steps + 1, dtype=np.int64),
        tool_pose=np.stack(poses),
        link_age_s=np.zeros((steps + 1, 0), np.float32),
        success=success_of(ended, cell_success=last.success).success,
        terminated=ended.terminated,
        truncated=ended.truncated,
        outcome_source=ended.source,
        outcome_reason=ended.reason,
        complete=True,
        sha256=hashlib.sha256(rows.tobytes() + actions.tobytes()).hexdigest(),
        aux=stack_aux([answer.aux for answer in answers]),
        chunk_index=np.array([answer.chunk_index for answer in answers], np.int32),
        rewards=np.array([outcome.reward for outcome in outcomes], np.float32),
        expert_actions=np.stack(told).astype(np.float32) if told else None,
        images=images,
        image_steps={name: np.arange(steps + 1, dtype=np.int32) for name in images},
    )


def _tool_pose(task: Task) -> npt.NDArray[np.float64]:
    """``[7]`` of the last observation; the base's own where the task does not tell."""
    told = getattr(task, "tool_pose", None)
    return np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]) if told is None else np.asarray(told, np.float64)


def collect_demos(task: Task, expert: Expert, seeds: Sequence[int], look_around_steps: int = 0) -> list[Episode]:
    """One demonstration per seed, successful or not.

    Args:
        look_around_steps: so many steps at the start of each are no demonstration, but show the parts from many places
            (`LookingAround`); they are marked as failure.

    Raises:
        ConfigError: to look around in a task that is not one of a contract.
    """
    if not look_around_steps:
        size = task.interface.action_size
        return [run_episode(task, expert_actor(expert, seed, size), seed, "demo", run_id="demos") for seed in seeds]
    if not isinstance(task.interface, Contract):
        raise ConfigError(
            f"look_around_steps = {look_around_steps} on task {task.interface.task!r}, whose tool is not moved by a "
            "contract's actions; set it to 0"
        )
    looking = LookingAround(task.interface, look_around_steps)
    return [_after_looking_around(task, expert, seed, looking) for seed in seeds]


def _after_looking_around(task: Task, expert: Expert, seed: int, looking: LookingAround) -> Episode:
    expert.reset(seed)
    looking.reset(seed)

    def act(observation: npt.NDArray[np.float32], step: int) -> Decision:
        wanted = expert.act(observation)
        return _of_human(looking.changed(wanted, _tool_pose(task)), len(wanted))

    shown = run_episode(task, act, seed, "demo", run_id="demos")
    return shown.marked(0, min(looking.steps, shown.steps) - 1, Mark.FAILURE)


def build_intervener(config: InterventionConfig, task: Task, seed: int) -> Intervener | None:
    """The intervener of ``config``; None where nobody takes over. May run the task, to fit a reference critic.

    Args:
        seed: of the critic's episodes and its fit.

    Raises:
        ConfigError: the expert or the critic cannot be had.
    """
    if config.kind == "none":
        return None
    expert = make_expert(config.expert, task)
    if config.kind == "value" and task.interface.image_shapes:
        raise ConfigError(
            f"interventions.kind = 'value' on task {task.interface.task!r}: the reference critic judges states, and "
            "this policy sees images; set interventions.kind to 'random'"
        )
    if config.kind == "random":
        return Intervener(RandomJudge(config.probability), expert, config.duration, config.free_steps)
    judge = ValueJudge(config, _reference_critic(config.critic, task, seed), task.expert())
    return Intervener(judge, expert, config.duration, config.free_steps)


def _reference_critic(config: CriticConfig, task: Task, seed: int) -> ReferenceCritic:
    if config.file is not None:
        return load_reference_critic(Path(config.file).expanduser())
    episodes, size = [], task.interface.action_size
    for i, noise in enumerate(np.linspace(0.0, config.noise, config.episodes)):
        acting = expert_actor(WorseExpert(task.expert(), float(noise), 0.0), seed + i, size)
        episodes.append(run_episode(task, acting, seed + i, "train", run_id="reference"))
    return fit_reference_critic(episodes, task.expert(), task_reward.Config(method="task").label, config, seed)


def evaluate(task: Task, policy: Policy, seeds: Sequence[int]) -> list[bool]:
    """Success per seed of the policy acting without exploration."""
    return [succeeds(task, policy, seed) for seed in seeds]


def succeeds(task: Task, policy: Policy, seed: int) -> bool:
    """Whether the policy succeeds without exploration from the start with this seed."""
    return bool(run_episode(task, policy_actor(policy, seed, False), seed, "eval").success)


@dataclass
class Curve:
    """What a run did, in environment steps."""

    episodes: list[tuple[int, bool]] = field(default_factory=list)
    """(step at its end, success) per training episode."""
    evaluations: list[tuple[int, int, int]] = field(default_factory=list)
    """(step, successes, episodes)."""
    guard: list[Check] = field(default_factory=list)
    """What the peak guard saw, where there is one."""
    gate: list[Judged] = field(default_factory=list)
    """What the gate said of each candidate, where there is one."""
    metrics: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """(update, metrics) per group."""


def fine_tune(
    config: FineTuneConfig,
    task: Task,
    policy: Policy,
    demos: Sequence[Episode],
    run_dir: Path,
    first_seed: int,
    eval_seeds: Sequence[int] = (),
    eval_every_steps: int = 1000,
    on_progress: Callable[[Curve], None] | None = None,
    intervener: Intervener | None = None,
    observer: UpdateObserver | None = None,
) -> tuple[Learner, Curve]:
    """Fine-tune ``policy`` in place until the step budget is spent; with a gate it ends as the newest that passed.

    Args:
        first_seed: of the training episodes; they count up from it.
        eval_seeds: evaluated on every ``eval_every_steps`` steps, before the first update and at the end.
        on_progress: called after each evaluation; ``config.guard`` and ``config.gate`` have trials of their own.
        intervener: helps in training episodes; None: the one of ``config.interventions``.
        observer: looks on while the learner trains.

    Raises:
        ConfigError: the intervener cannot be had, see `build_intervener`; rewards and task do not fit; or the gate's
            task cannot be simulated.
    """
    if intervener is None:
        config.refuse_nobody()
    if "last_step" in config.rewards.offers() and not task.success_ends:
        raise ConfigError(
            f"rewards.method = {config.rewards.method!r} on task {task.interface.task!r}, which goes on after success: "
            "the last step would be paid for what an earlier one did; use rewards: {method: simulator} with "
            "rl.target_range: null"
        )
    help_from = config.interventions
    if intervener is None and help_from is not None:
        intervener = build_intervener(help_from, task, _REFERENCE_SEED)
    asked = make_expert(help_from.expert, task) if help_from is not None and "answers" in config.il.lives_on() else None
    learner, curve = Learner(config, task.interface, policy, demos, run_dir, observer), Curve()
    guard = None
    if config.guard is not None:
        guard = GuardedLearner(config.guard, learner, partial(succeeds, task))
        guard.keep_peak()  # what training begins with is the first peak
        curve.guard = guard.checks
    gated = None if config.gate is None else _Gated(config.gate, learner)
    acts = policy if gated is None else gated.acts
    curve.gate = [] if gated is None else gated.judged
    next_eval, seed = config.schedule.warmup_steps, first_seed

    def measure() -> None:
        if eval_seeds:
            wins = sum(evaluate(task, acts, eval_seeds))
            curve.evaluations.append((learner.ingested_steps, wins, len(eval_seeds)))
            if on_progress is not None:
                on_progress(curve)

    while not learner.done:
        acting = policy_actor(acts, seed, True, intervener)
        episode = run_episode(task, acting, seed, "train", True, config.name, learner.version, asked)
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
            if gated is not None:
                gated.judge_if_due()
        if gated is None and learner.updates != learner.version:
            learner.published(learner.updates)
        if guard is not None and guard.due and guard.keep_peak():
            break
    measure()
    if gated is not None:
        gated.end()
    return learner, curve


class _Gated:
    """The version that acts while the learner's own waits for the gate.

    Raises:
        ConfigError: as `ShadowGate`, or the settings name no task.
    """

    def __init__(self, config: GateConfig, learner: Learner) -> None:
        if not config.task:
            raise ConfigError("gate.task is empty: in one process, name the task that is simulated")
        self._learner, self._gate = learner, ShadowGate(config, learner, config.task)
        self.acts, self._kept = copy.deepcopy(learner.policy), learner.snapshot()
        self.judged = self._gate.judged

    def judge_if_due(self) -> None:
        """Let the learner's policy act, if it is to be judged and passes."""
        learner, gate = self._learner, self._gate
        if not gate.due:
            return
        gate.wait()
        if gate.cleared:
            gate.offered()
            self.acts.load_state_dict(learner.policy.state_dict())
            self._kept = learner.snapshot()
            learner.published(learner.updates)
        elif learner.on_policy:
            learner.go_back_to(self._kept)

    def end(self) -> None:
        """The learner's policy becomes what acts."""
        if self._learner.version != self._learner.updates:
            self._learner.go_back_to(self._kept)
