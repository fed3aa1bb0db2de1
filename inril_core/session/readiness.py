"""What must be true before an episode may begin, and while it runs, from the statuses of the other nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inril_core.contract import Contract
from inril_core.session.statuses import ArbiterNews, LearnerNews, News, PolicyNews, RecorderNews, RecorderState
from inril_core.session.trials import SAFETY_FAULTS


@dataclass(frozen=True)
class Wait:
    """What is waited for, with the fix; false if nothing is."""

    text: str = ""
    person: bool = False
    """Only a person can end it."""

    def __bool__(self) -> bool:
        return bool(self.text)


NOTHING = Wait()

CHECKING = "checking"
"""State of a learner whose peak guard looks at the version that acts."""


@dataclass(frozen=True)
class Expected:
    """Which nodes the graph has, besides arbiter_node."""

    policy: bool = True
    recorder: bool = True
    learner: bool = True


class Readiness:
    """Keeps the newest status of each node and names what an episode waits for. Times are monotonic [ns]."""

    def __init__(self, contract: Contract, expected: Expected, lockstep: bool, now_ns: int) -> None:
        self._limits = contract.staleness
        self._expected = expected
        self._lockstep = lockstep
        self._arbiter: ArbiterNews | None = None
        self._policy: PolicyNews | None = None
        self._learner: LearnerNews | None = None
        self._recorder: RecorderNews | None = None
        self._heard_ns: dict[type[News], int] = {}
        self._began_ns = now_ns
        self._recorder_boot = self._arbiter_boot = ""
        self._trained_steps = 0
        self._late_before = 0
        self.recorder_connected = True
        """Whether DDS has matched a subscriber of episode_event."""

    def hear(self, news: News, now_ns: int) -> None:
        """Take a status."""
        self._heard_ns[type(news)] = now_ns
        if isinstance(news, ArbiterNews):
            self._arbiter = news
        elif isinstance(news, PolicyNews):
            self._policy = news
        elif isinstance(news, LearnerNews):
            self._learner = news
        else:
            self._recorder = news

    def _age_s(self, kind: type[News], now_ns: int) -> float:
        return (now_ns - self._heard_ns.get(kind, self._began_ns)) * 1e-9

    def _not_heard(self, node: str, kind: type[News], now_ns: int) -> str:
        return f"{node}: not heard for {self._age_s(kind, now_ns):.0f} s; is it running? (`inril status`)"

    def not_armable(self, now_ns: int) -> Wait:
        """Why the arbiter cannot be armed yet."""
        if self._arbiter is None:
            return Wait(self._not_heard("arbiter_node", ArbiterNews, now_ns))
        return Wait(self._missing(self._expected.policy, now_ns))

    def blocked_by(self, purpose: str, now_ns: int, laid_out: bool = False) -> Wait:
        """What an episode of this purpose waits for. laid_out: its reset is done, so the learner was waited for."""
        missing = self._missing(self._expected.policy and purpose != "demo", now_ns)
        if missing:
            return Wait(missing)
        arbiter = self._arbiter
        assert arbiter is not None
        if arbiter.faults:
            return Wait(f"faults {list(arbiter.faults)}: {'; '.join(arbiter.details)}; then `inril arm`", person=True)
        if not arbiter.armed:
            return Wait("the arm is not armed: look at the cell, then `inril arm`", person=True)
        if self._expected.learner and purpose != "demo" and not laid_out:
            return Wait(self._learner_behind(now_ns))
        return NOTHING

    def _missing(self, need_policy: bool, now_ns: int) -> str:
        limits = self._limits
        if self._arbiter is None or self._age_s(ArbiterNews, now_ns) > limits.session_s:
            return self._not_heard("arbiter_node", ArbiterNews, now_ns)
        if self._expected.recorder:
            recorder = self._recorder
            if recorder is None or self._age_s(RecorderNews, now_ns) > limits.recorder_s:
                silent_s = self._age_s(RecorderNews, now_ns)
                return f"recorder_node: not heard for {silent_s:.0f} s; nothing would be recorded"
            if recorder.state == RecorderState.REFUSING:
                return f"recorder_node refuses: {recorder.reason}"
            if not self.recorder_connected:
                return "recorder_node to be connected to episode_event"
            if recorder.state == RecorderState.RECORDING:
                return f"recorder_node still records {recorder.episode_id}"
            # else the arbiter would learn of a restart within the episode, and rightly stop it
            if self._arbiter.recorder_boot_id not in ("", recorder.boot_id):
                return "arbiter_node to hear the restarted recorder_node"
        if need_policy:
            if self._policy is None or self._age_s(PolicyNews, now_ns) > limits.session_s:
                return self._not_heard("policy_node", PolicyNews, now_ns)
            if self._policy.active_n < 0:
                return f"policy_node has no weights: {self._policy.last_rejection or 'give initial_weights'}"
        return ""

    def _learner_behind(self, now_ns: int) -> str:
        """In lockstep the learner's lag is part of the experiment: wait for it to come up, and while it lives."""
        if not self._lockstep:
            return ""
        learner = self._learner
        if learner is None:
            silent_s = self._age_s(LearnerNews, now_ns)
            return f"learner_node: not heard for {silent_s:.0f} s; see its log in the run's logs/"
        if self._age_s(LearnerNews, now_ns) > self._limits.learner_s:
            return ""
        if learner.ingested_steps + learner.refused_steps < self._trained_steps:
            return f"learner_node to pull the last episode ({learner.ingested_steps} of {self._trained_steps} steps)"
        if learner.state == CHECKING:
            return f"learner_node: {learner.reason}"
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

    @property
    def armed(self) -> bool:
        """Whether somebody has armed the arbiter."""
        return self._arbiter is not None and bool(self._arbiter.armed)

    def note_begin(self) -> None:
        """An episode begins: from here a restarted arbiter or recorder spoils it."""
        self._recorder_boot = "" if self._recorder is None else self._recorder.boot_id
        self._arbiter_boot = "" if self._arbiter is None else self._arbiter.boot_id
        self._late_before = self._late_ticks()

    def trouble_while_running(self, now_ns: int) -> str:
        """Why the running episode must end at once; empty if it may go on."""
        arbiter, recorder = self._arbiter, self._recorder
        if arbiter is not None and arbiter.faults:
            return f"faults {list(arbiter.faults)}"
        if arbiter is not None and arbiter.boot_id != self._arbiter_boot:
            return "arbiter_node restarted"
        if arbiter is None or not arbiter.armed:
            return "the arm was disarmed"
        if self._age_s(ArbiterNews, now_ns) > self._limits.session_s:
            return "arbiter_node is silent"
        if self._expected.recorder and recorder is not None and self._recorder_boot:
            if recorder.boot_id != self._recorder_boot:
                return "recorder_node restarted"
            if self._age_s(RecorderNews, now_ns) > self._limits.recorder_s:
                return "recorder_node is silent"
            if recorder.state == RecorderState.REFUSING:
                return f"recorder_node refuses: {recorder.reason}"
        return ""

    def not_recorded(self, episode_id: str, steps: int) -> str | None:
        """Why an ended episode is not whole on disk; empty if it is, None while the recorder has not said so."""
        recorder = self._recorder
        if not self._expected.recorder:
            return ""
        if recorder is None or recorder.boot_id != self._recorder_boot:
            return "recorder_node restarted"
        if recorder.episode_id != episode_id or recorder.state == RecorderState.RECORDING:
            return None
        on_disk = recorder.last_step_on_disk + 1
        return "" if on_disk >= steps else f"recorder_node has {on_disk} of {steps} steps"

    def _late_ticks(self) -> int:
        return 0 if self._arbiter is None else int(self._arbiter.late_ticks)

    def late_ticks_while_running(self) -> int:
        """Ticks of the running episode that closed at their deadline; counted anew if the arbiter restarted."""
        late = self._late_ticks()
        return late - self._late_before if late >= self._late_before else late

    def drained(self, now_ns: int) -> Wait:
        """What the end of the plan waits for: the last episode on disk, learned from, and acted on."""
        if self._expected.recorder and self._recorder is not None:
            silent = self._age_s(RecorderNews, now_ns) > self._limits.recorder_s
            if not silent and self._recorder.state != RecorderState.IDLE:
                return Wait("recorder_node to finish the last episode")
        return Wait(self._learner_behind(now_ns)) if self._expected.learner else NOTHING

    @property
    def active_version(self) -> int:
        """Number of the policy's active version; -1 without one."""
        return -1 if self._policy is None else int(self._policy.active_n)

    @property
    def next_version(self) -> int:
        """Number of the version that will act in the next episode; -1 without one."""
        if self._policy is None:
            return -1
        return int(self._policy.pending_n if self._policy.pending_n >= 0 else self._policy.active_n)

    def stopped_by_safety(self) -> bool:
        """Whether what ends the running episode is the arm's safety, or a person who disarmed it."""
        arbiter = self._arbiter
        if arbiter is None or arbiter.boot_id != self._arbiter_boot:
            return False
        return set(arbiter.faults) <= SAFETY_FAULTS if arbiter.faults else not arbiter.armed

    def learner_summary(self) -> str:
        """Updates and versions, for the progress line; before the first update what the learner waits for."""
        version = f"version {self.active_version}"
        if self._learner is None:
            return version
        rate = self._learner.updates_per_s
        speed = f", {rate:.0f}/s" if math.isfinite(rate) and self._learner.updates else ""
        waits = f" ({self._learner.reason})" if not self._learner.updates and self._learner.reason else ""
        return f"{self._learner.updates} updates{speed}{waits}, {version}"
