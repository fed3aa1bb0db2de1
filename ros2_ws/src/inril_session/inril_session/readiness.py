"""What must be true before an episode may begin, from the statuses of the other nodes."""

from __future__ import annotations

from typing import Any

from inril_common.node import InrilPlainNode
from inril_common.qos import EVENT, LATCHED
from inril_msgs.msg import ArbiterStatus, LearnerStatus, PolicyStatus, RecorderStatus
from rclpy.publisher import Publisher

from inril_core.contract import Contract

NS_PER_S = 1_000_000_000


class Readiness:
    """Listens to the statuses and names what an episode waits for, with the mend.

    Parameters of the node it serves: expects_policy, expects_recorder, expects_learner.
    """

    def __init__(self, node: InrilPlainNode, events: Publisher, contract: Contract, lockstep: bool) -> None:
        self._node = node
        self._events = events
        self._contract = contract
        self._lockstep = lockstep
        self._policy_expected = node.param("expects_policy", True, "the graph has a policy_node")
        self._recorder_expected = node.param("expects_recorder", True, "the graph has a recorder_node that records all")
        self._learner_expected = node.param("expects_learner", True, "the graph has a learner_node")
        self._arbiter: ArbiterStatus | None = None
        self._policy: PolicyStatus | None = None
        self._learner: LearnerStatus | None = None
        self._recorder: RecorderStatus | None = None
        self._heard_ns: dict[str, int] = {}
        self._recorder_boot = self._arbiter_boot = ""
        self._trained_steps = 0
        self._late_before = 0
        self._began_ns = node.mono_ns()
        node.create_subscription(ArbiterStatus, "arbiter_status", self._keep("_arbiter"), LATCHED)
        if self._policy_expected:
            node.create_subscription(PolicyStatus, "policy_status", self._keep("_policy"), LATCHED)
        if self._learner_expected:
            node.create_subscription(LearnerStatus, "learner_status", self._keep("_learner"), LATCHED)
        if self._recorder_expected:
            node.create_subscription(RecorderStatus, "recorder_status", self._keep("_recorder"), EVENT)

    def _keep(self, name: str) -> Any:
        def keep(message: Any) -> None:
            setattr(self, name, message)
            self._heard_ns[name] = self._node.mono_ns()

        return keep

    def _age_s(self, name: str) -> float:
        since_ns = self._heard_ns.get(name, self._began_ns)
        return (self._node.mono_ns() - since_ns) / NS_PER_S

    def not_armable(self) -> str:
        """Why the arbiter cannot be armed yet; empty if it can."""
        if self._arbiter is None:
            return f"arbiter_node: not heard for {self._age_s('_arbiter'):.0f} s; is it running? (`inril status`)"
        return self._missing(need_policy=self._policy_expected)

    def blocked_by(self, purpose: str) -> str:
        """What an episode of this purpose waits for, with the mend; empty if it may begin."""
        missing = self._missing(need_policy=self._policy_expected and purpose != "demo")
        if missing:
            return missing
        assert self._arbiter is not None
        if self._arbiter.faults:
            return f"faults {list(self._arbiter.faults)}: {'; '.join(self._arbiter.details)}; then `inril arm`"
        if not self._arbiter.armed:
            return "the arm is not armed: look at the cell, then `inril arm`"
        if self._learner_expected and purpose != "demo":
            return self._learner_behind()
        return ""

    def _missing(self, need_policy: bool) -> str:
        limits = self._contract.staleness
        if self._arbiter is None or self._age_s("_arbiter") > limits.session_s:
            return f"arbiter_node: not heard for {self._age_s('_arbiter'):.0f} s; is it running? (`inril status`)"
        if self._recorder_expected:
            if self._recorder is None or self._age_s("_recorder") > limits.recorder_s:
                return f"recorder_node: not heard for {self._age_s('_recorder'):.0f} s; nothing would be recorded"
            if self._recorder.state == RecorderStatus.REFUSING:
                return f"recorder_node refuses: {self._recorder.reason}"
            if self._events.get_subscription_count() == 0:
                return "recorder_node to be connected to /episode_event"
            if self._recorder.state == RecorderStatus.RECORDING:
                return f"recorder_node still records {self._recorder.episode_id}"
            # else the arbiter would learn of a restart within the episode, and rightly stop it
            if self._arbiter.recorder_boot_id not in ("", self._recorder.boot_id):
                return "arbiter_node to hear the restarted recorder_node"
        if need_policy:
            if self._policy is None or self._age_s("_policy") > limits.session_s:
                return f"policy_node: not heard for {self._age_s('_policy'):.0f} s; is it running? (`inril status`)"
            if self._policy.active_n < 0:
                return f"policy_node has no weights: {self._policy.last_rejection or 'give initial_weights'}"
        return ""

    def _learner_behind(self) -> str:
        """In lockstep the learner's lag is part of the experiment: wait for it to come up, and while it lives."""
        if not self._lockstep:
            return ""
        learner = self._learner
        if learner is None:
            return f"learner_node: not heard for {self._age_s('_learner'):.0f} s; see its log in the run's logs/"
        if self._age_s("_learner") > self._contract.staleness.learner_s:
            return ""
        if learner.ingested_steps + learner.refused_steps < self._trained_steps:
            return f"learner_node to pull the last episode ({learner.ingested_steps} of {self._trained_steps} steps)"
        if learner.updates + 1 <= learner.target_updates:
            return f"learner_node: {learner.updates} of {learner.target_updates:.0f} updates done"
        if self._policy is not None and not self._policy.pinned:
            newest = max(self._policy.active_n, self._policy.pending_n, self._policy.last_rejected_n)
            if newest < learner.published_n:
                return f"policy_node to take version {learner.published_n} (has {newest})"
        return ""

    def note_trained(self, steps: int) -> None:
        """Training steps that the learner must have pulled before the next episode."""
        self._trained_steps = steps

    def armed(self) -> bool:
        """Whether somebody has armed the arbiter."""
        return self._arbiter is not None and bool(self._arbiter.armed)

    def note_begin(self) -> None:
        """An episode begins: from here a restarted arbiter or recorder spoils it."""
        self._recorder_boot = "" if self._recorder is None else self._recorder.boot_id
        self._arbiter_boot = "" if self._arbiter is None else self._arbiter.boot_id
        self._late_before = self._late_ticks()

    def trouble_while_running(self) -> str:
        """Why the running episode must end now; empty if it may go on."""
        if self._arbiter is not None and self._arbiter.faults:
            return f"faults {list(self._arbiter.faults)}"
        if self._arbiter is not None and self._arbiter.boot_id != self._arbiter_boot:
            return "arbiter_node restarted"
        if not self.armed():
            return "the arm was disarmed"
        if self._age_s("_arbiter") > self._contract.staleness.session_s:
            return "arbiter_node is silent"
        if self._recorder_expected and self._recorder is not None and self._recorder_boot:
            if self._recorder.boot_id != self._recorder_boot:
                return "recorder_node restarted"
            if self._age_s("_recorder") > self._contract.staleness.recorder_s:
                return "recorder_node is silent"
            if self._recorder.state == RecorderStatus.REFUSING:
                return f"recorder_node refuses: {self._recorder.reason}"
        return ""

    def not_recorded(self, episode_id: str, steps: int) -> str | None:
        """Why an ended episode is not whole on disk; empty if it is, None while the recorder has not said so."""
        status = self._recorder
        if not self._recorder_expected:
            return ""
        if status is None or status.boot_id != self._recorder_boot:
            return "recorder_node restarted"
        if status.episode_id != episode_id or status.state == RecorderStatus.RECORDING:
            return None
        on_disk = status.last_step_on_disk + 1
        return "" if on_disk >= steps else f"recorder_node has {on_disk} of {steps} steps"

    def _late_ticks(self) -> int:
        return 0 if self._arbiter is None else int(self._arbiter.late_ticks)

    def late_ticks_while_running(self) -> int:
        """Ticks of the running episode that closed at their deadline; counted anew if the arbiter restarted."""
        now = self._late_ticks()
        return now - self._late_before if now >= self._late_before else now

    def drained(self) -> str:
        """What the end of the plan waits for: the last episode on disk, learned from, and acted on."""
        if self._recorder_expected and self._recorder is not None:
            silent = self._age_s("_recorder") > self._contract.staleness.recorder_s
            if not silent and self._recorder.state != RecorderStatus.IDLE:
                return "recorder_node to finish the last episode"
        return self._learner_behind() if self._learner_expected else ""

    def active_version(self) -> int:
        """Number of the policy's active version; -1 without one."""
        return -1 if self._policy is None else int(self._policy.active_n)

    def learner_summary(self) -> str:
        """Updates and versions, for the progress line."""
        if self._learner is None:
            return f"version {self.active_version()}"
        return f"{self._learner.updates} updates, {self._learner.updates_per_s:.0f}/s, version {self.active_version()}"
