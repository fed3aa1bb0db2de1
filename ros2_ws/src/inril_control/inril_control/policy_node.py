"""Answers every Observation with the active policy, and takes better weights at episode boundaries."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inril_common.convert import float32_array, image_to_array, stamp_to_ns
from inril_common.executor import read_along
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_common.qos import LATCHED, TICK
from inril_common.realtime import between_episodes
from inril_msgs.msg import ExecutedAction, Observation, PolicyAction, PolicyStatus, PolicyWeights
from inril_msgs.srv import RollBack

from inril_core.control.observation import observation_vector
from inril_core.errors import ConfigError, InrilError
from inril_core.policies import load_policy
from inril_core.run import default_key_path, open_run
from inril_core.weights import Offer, WeightsRefused, load_or_create_key
from inril_core.weights.acting import ActingPolicy, Answer
from inril_core.weights.gate import Gate, GateRules
from inril_core.weights.intake import Announced, Intake, Noted
from inril_core.weights.log import LOG_NAME, WeightsLog
from inril_core.weights.store import WeightStore

TIMER_S = 0.25
STATUS_PERIOD_NS = 500_000_000


class PolicyNode(InrilNode):
    """Publishes policy_action per Observation of a running episode, and policy_status.

    Offers on /policy_weights are pulled, checked, tried and kept beside the running weights, in another thread.
    Demonstrations are not answered. Serves /policy/roll_back.
    """

    def __init__(self) -> None:
        super().__init__("policy_node")
        self._intake: Intake | None = None

    def setup(self) -> None:
        """Load the weights that acted last, or the initial ones, and listen."""
        torch.set_num_threads(1)
        self.contract = self.contract_param()
        self._run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        self._acting = self._open_weights()
        self._log = WeightsLog(self._run.paths.weights)
        timeout_s = self.param("pull_timeout_s", 10.0, "s without a byte of a pack, then it is tried again", 0.1, 60.0)
        self._guard = self.create_guard_condition(self.guarded(self._on_intake))
        self._intake = Intake(self._acting, self._incoming, self._key, timeout_s, self._guard.trigger)
        self._in_episode = False
        self._executed: tuple[str, int, bool] | None = None
        self._unanswered: Observation | None = None
        self._next_status_ns = 0
        self._actions = self.create_publisher(PolicyAction, "policy_action", TICK)
        self._status = self.create_publisher(PolicyStatus, "policy_status", LATCHED)
        self._observations = self.link(
            "observation", self.contract.staleness.policy_action_s, lambda: not self._in_episode
        )
        self.create_subscription(Observation, "observation", self._on_observation, TICK)
        self._executions = self.create_subscription(ExecutedAction, "executed_action", self._on_executed, TICK)
        self._executions_wake = True
        self._await_executions()
        self.create_subscription(PolicyWeights, "policy_weights", self._on_weights, LATCHED)
        self.create_service(RollBack, "policy/roll_back", self._on_roll_back)
        self.steady_timer(TIMER_S, self.guarded(self._on_timer))

    def _open_weights(self) -> ActingPolicy:
        initial = self.param("initial_weights", "", "policy file to start from; kept weights of the run win")
        swap_at = self.param("swap_at", "episode", "boundary of a change", choices=["episode", "chunk", "tick"])
        rules = GateRules(
            self.contract.interface_digest,
            self.param("max_action_change", 0.5, "mean change by new weights, of [-1, 1]", 0.001, 2.0),
        )
        keep = self.param("keep_packs", 8, "accepted packs to keep for rolling back", 2, 1000)
        key = self._key = load_or_create_key(default_key_path())
        store = WeightStore(self._run.paths.weights, keep)
        self._incoming = store.incoming
        known = store.state
        gate = Gate(rules, key, known.run_id or self._run.run_id, known.highest_n, known.pinned)
        acting = ActingPolicy(self.contract, gate, store, key, swap_at)
        planned = self.param(
            "evaluation", False, "run_dir holds the locked plan of an evaluation: its policies are kept"
        )
        kept = acting.load_kept()
        if planned:
            from inril_core.evaluation.session.kept import keep_policies

            keep_policies(self._run.paths.root, acting, time.time_ns())
        elif kept:
            if initial:
                self.get_logger().info("the run has kept weights; initial_weights is not used")
        elif initial:
            policy, facts = load_policy(Path(initial))
            acting.load_initial(policy, facts, time.time_ns())
        else:
            self.get_logger().warning("no weights yet: give initial_weights, or a learner must push some")
        return acting

    def start(self) -> None:
        """Begin to answer. The first inference is slow and must not cost the first tick."""
        if self._acting.active is not None:
            nothing = np.zeros(self.contract.observation_size, np.float32)
            try:
                self._acting.active.policy.act(nothing, True, np.random.default_rng(0))
            except InrilError as error:  # a base in another process may come later; until then nothing is answered
                self.get_logger().warning(str(error))
        self._publish_status()

    def teardown(self) -> None:
        """Forget what is on its way; what was accepted is on disk."""
        if self._intake is not None:
            self._intake.close()
            self.destroy_guard_condition(self._guard)
            self._intake = None

    def _on_observation(self, message: Observation) -> None:
        self._observations.saw(self.mono_ns(), message.k)
        if not self.active:
            return
        self._in_episode = message.phase == Observation.PHASE_RUN and not message.last
        if not self._in_episode:
            between_episodes()
            return
        if message.purpose == Observation.PURPOSE_DEMO:
            return
        self._unanswered = None
        if self._acting.plans_ahead and message.step > 0 and self._follows(message) is None:
            self._unanswered = message  # who executed the step before decides whether the plan still holds
            return
        self._answer(message)

    def _on_executed(self, message: ExecutedAction) -> None:
        as_asked = message.source == ExecutedAction.SOURCE_POLICY
        self._executed = (message.episode_id, message.step, as_asked)
        waiting, self._unanswered = self._unanswered, None
        if waiting is not None and self._follows(waiting) is not None:
            self._answer(waiting)

    def _await_executions(self) -> None:
        """Only a plan made ahead waits for who executed the step before; otherwise that is read along."""
        if self._acting.plans_ahead is not self._executions_wake:
            self._executions_wake = self._acting.plans_ahead
            read_along(self._executions, not self._executions_wake)
            if self.executor is not None:
                self.executor.wake()

    def _follows(self, observation: Observation) -> bool | None:
        """Whether the policy executed the step before; None where that is not known yet."""
        if self._executed is None or self._executed[:2] != (observation.episode_id, observation.step - 1):
            return None
        return self._executed[2]

    def _answer(self, message: Observation) -> None:
        began_ns = self.mono_ns()
        try:
            observation = self._observed(message)
            follows = self._follows(message) is not False
            answer = self._acting.act(observation, message.explore, message.seed, message.step, follows)
        except (ValueError, InrilError) as error:
            self.diagnostics.complain("action", f"no action for tick {message.k}: {error}")
            return
        if answer is None:
            return
        self._publish_action(message, answer, (self.mono_ns() - began_ns) * 1e-6)
        self._await_executions()
        now_ns = time.time_ns()
        if self._acting.after_answer(now_ns):
            self._log_acting(now_ns)
        if not self._acting.is_noted:
            self._intake.note_active()

    def _observed(self, message: Observation) -> np.ndarray:
        state, shapes = np.asarray(message.state, np.float32), self.contract.image_shapes
        wanted = {shape.name for shape in shapes}
        images = {i.header.frame_id: image_to_array(i) for i in message.images if i.header.frame_id in wanted}
        return observation_vector(shapes, state, images)

    def _log_acting(self, now_ns: int) -> None:
        version = self._acting.active
        if version is not None and version.published_ns is not None:
            self._write_log(partial(self._log.acting, version.run_id, version.n, version.published_ns, now_ns))

    def _publish_action(self, observation: Observation, answer: Answer, inference_ms: float) -> None:
        message = PolicyAction(
            header=observation.header,
            boot_id=observation.boot_id,
            k=observation.k,
            run_id=answer.run_id,
            n=answer.n,
            log_prob=answer.log_prob,
            chunk_id=answer.chunk_id % 2**32,
            chunk_index=answer.chunk_index,
            inference_ms=inference_ms,
        )
        message.action = float32_array(answer.action)
        message.raw = float32_array(answer.raw)
        message.aux = float32_array(answer.aux)
        self._actions.publish(message)

    def _on_weights(self, message: PolicyWeights) -> None:
        offer = Offer(message.run_id, message.n, message.size_bytes, bytes(message.digest), bytes(message.mac))
        if self._acting.knows(offer):
            return  # the latched offer, heard again after a restart
        announced = Announced(offer, message.address, stamp_to_ns(message.header.stamp))
        try:
            self._acting.check_offer(offer)
        except WeightsRefused as error:
            self._refused(announced, error)
            return
        self._intake.want(announced)

    def _on_intake(self) -> None:
        """What the other thread has done."""
        for news in self._intake.news():
            if isinstance(news, Noted):
                self._noted(news)
            elif news.refusal is not None:
                self._refused(news.announced, news.refusal)
            else:
                self._write_log(partial(self._log.offered, news.announced.offer, news.announced.published_ns, None))
                self._publish_status()

    def _noted(self, news: Noted) -> None:
        if news.problem:  # it acts all the same; which one acts is noted with a later answer
            text = f"{self._run.paths.weights}: {news.problem}; free some space, or a restart goes back a version"
            self.get_logger().error(text, throttle_duration_sec=10.0)
        else:
            self._publish_status()

    def _refused(self, announced: Announced, error: WeightsRefused) -> None:
        offer = announced.offer
        self.get_logger().warning(f"weights ({offer.run_id!r:.80}, {offer.n}) refused: {error}")
        self._write_log(partial(self._log.offered, offer, announced.published_ns, error.reason))
        self._publish_status()

    def _write_log(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            text = f"{self._run.paths.weights / LOG_NAME}: {error.strerror}; the report will miss a version"
            self.get_logger().error(text, throttle_duration_sec=10.0)

    def _on_roll_back(self, request: RollBack.Request, response: RollBack.Response) -> RollBack.Response:
        try:
            if other := self.meant_for_another(request.graph_id):
                raise ConfigError(other)
            if request.unpin:
                self._acting.unpin()
                response.message = "unpinned: new versions are accepted again"
            else:
                self._acting.roll_back(request.run_id, request.n)
                response.message = f"({request.run_id}, {request.n}) acts from the next boundary on, pinned"
            response.success = True
        except InrilError as error:
            response.message = str(error)
        self.get_logger().info(f"roll back: {response.message}")
        self._publish_status()
        return response

    def _on_timer(self) -> None:
        mono_ns = self.mono_ns()
        if mono_ns >= self._next_status_ns:
            self._publish_status()

    def _publish_status(self) -> None:
        acting = self._acting
        self._next_status_ns = self.mono_ns() + STATUS_PERIOD_NS
        fields: dict[str, Any] = {
            "active_run_id": "" if acting.active is None else acting.active.run_id,
            "active_n": -1 if acting.active is None else acting.active.n,
            "pending_n": -1 if acting.pending is None else acting.pending.n,
            "highest_n": acting.highest_n,
            "pinned": acting.pinned,
            "accepted": acting.accepted,
            "rejected": acting.rejected,
            "last_rejected_n": acting.last_rejected_n,
            "last_rejection": acting.last_rejection,
            "push_to_acting_ms": acting.push_to_acting_ms,
        }
        message = PolicyStatus(boot_id=self.boot_id, **fields)
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)


def main() -> None:
    """Entry point."""
    run_node(PolicyNode)


if __name__ == "__main__":
    main()
