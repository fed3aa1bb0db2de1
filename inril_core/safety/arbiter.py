"""Who is in control, and the closing of every control tick exactly once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from inril_core.contract import Contract
from inril_core.safety.faults import Blocks, Fault, FaultLatch
from inril_core.safety.limits import ActionLimiter, Limited
from inril_core.safety.ticks import (
    ArbiterConfig,
    Closed,
    HumanAnswer,
    Phase,
    PolicyAnswer,
    Purpose,
    RobotSample,
    Source,
    TargetPose,
    Tick,
)
from inril_core.safety.watch import Watch
from inril_core.transforms import quat_normalise

BASE_FRAMES = ("", "base")
_NO_TICK = Tick("", 0, 0, "", 0, Phase.IDLE, Purpose.NONE, True, (math.nan,) * 7, ())


class Arbiter:
    """Chooses between policy, human and hold, limits the choice, and closes tick k exactly once.

    A tick opens with `on_observation` and closes when everybody who is expected to answer has answered, or
    at its deadline. Answers may come before their Observation (they are kept) or after the tick closed (they
    are counted and dropped). The methods take `now_ns` (ROS clock, for the age of data) and `mono_ns`
    (monotonic clock, for liveness), and return what to publish.

    Nothing is commanded before `arm`, and nothing arms itself: faults stay latched until `arm`, which is
    refused while a cause persists. A hold latches one pose when it begins. Whenever control changes, motion
    starts from the measured pose, so nothing jumps.
    """

    def __init__(self, contract: Contract, config: ArbiterConfig) -> None:
        self._config = config
        self._target_ns = round(contract.staleness.target_s * 1e9)
        self._limiter = ActionLimiter(contract)
        self.faults = FaultLatch()
        self._watch = Watch(contract, config, self.faults)
        self.armed = False
        self.ticks = 0
        self.late_ticks = 0
        self.late_answers = 0

        self._boot_id = ""
        self._old_boot_ids: deque[str] = deque(maxlen=16)
        self._newest: Tick | None = None  # also when it is closed
        self._open: Tick | None = None
        self._deadline_mono_ns = 0
        self._next_target_mono_ns = 0  # outside ticks
        self._policy: PolicyAnswer | None = None  # of the newest tick
        self._unanswered_since_mono_ns: int | None = None  # first Observation since the policy's last answer
        self._early_policy: PolicyAnswer | None = None
        self._human: HumanAnswer | None = None  # newest
        self._early_human: HumanAnswer | None = None
        self._awaits_human = config.expects_teleop or not config.expects_policy
        self._human_has_control = False
        self._grab_is_spent = False
        self._keeper_is_lost = False
        self._mover: Source | None = None
        self._hold_pose: Sequence[float] | None = None

    @property
    def in_control(self) -> Source:
        """Who would act if a tick closed now."""
        newest = self._newest
        return self._controller(_NO_TICK if newest is None or newest.last else newest)

    @property
    def in_episode(self) -> bool:
        """Whether Observations have to come."""
        return self._newest is not None and not self._newest.last

    @property
    def recorder_boot_id(self) -> str:
        """Of the recorder heard last; empty before one was heard."""
        return self._watch.recorder_boot_id

    def on_observation(self, tick: Tick, now_ns: int, mono_ns: int) -> list[Closed]:
        """Open tick k. A tick that is still open is closed first. Repeated and reordered ones are dropped."""
        if tick.boot_id in self._old_boot_ids:
            return []
        newest = self._newest
        if newest is not None and tick.boot_id == self._boot_id and tick.k <= newest.k:
            return []
        # first, so that what it says of the arm also holds for the tick closed now
        self._watch.saw_observation(tick, now_ns, mono_ns, self.armed)
        said = [self._close(now_ns, mono_ns, late=True)] if self._open is not None else []
        if tick.boot_id != self._boot_id:
            if self._boot_id:
                self._old_boot_ids.append(self._boot_id)
            self._boot_id = tick.boot_id
        if newest is None or tick.episode_id != newest.episode_id or tick.step == 0:
            self._begin_episode(tick)
        self._newest = tick
        if tick.last:
            return said
        self._open = tick
        self._deadline_mono_ns = mono_ns + self._config.deadline_ns
        self._take_early_answers(tick)
        if tick.step == 0:
            self._unanswered_since_mono_ns = None
        if self._missing_policy(tick) and self._unanswered_since_mono_ns is None:
            self._unanswered_since_mono_ns = mono_ns
        return said + self._close_if_answered(now_ns, mono_ns)

    def on_policy_action(self, answer: PolicyAnswer, now_ns: int, mono_ns: int) -> list[Closed]:
        """The policy's answer to a tick: in time, early (kept) or late (counted and dropped)."""
        self._watch.policy_mono_ns = mono_ns
        self._unanswered_since_mono_ns = None
        newest = self._newest
        if newest is None or answer.boot_id != self._boot_id or answer.k > newest.k:
            if answer.boot_id in self._old_boot_ids:
                self.late_answers += 1
            else:
                self._early_policy = answer
            return []
        if self._open is None or answer.k < newest.k or self._policy_answered(newest):
            self.late_answers += 1
            return []
        self._hear_policy(answer)
        return self._close_if_answered(now_ns, mono_ns)

    def on_teleop_action(self, answer: HumanAnswer, now_ns: int, mono_ns: int) -> list[Closed]:
        """The human's device speaks. A synchronous one is waited for from now on."""
        self._watch.teleop_mono_ns = mono_ns
        self._awaits_human = answer.synchronous
        if answer.synchronous:
            newest_k = -1 if self._newest is None else self._newest.k
            if answer.k > newest_k:
                self._early_human = answer
                return []
            if self._open is None or answer.k < newest_k:
                self.late_answers += 1
        self._hear_human(answer)
        return self._close_if_answered(now_ns, mono_ns) if answer.synchronous else []

    def on_robot_state(self, sample: RobotSample, mono_ns: int) -> None:
        """A measured state of the arm. Needed in real time; in lockstep the Observation says it all."""
        self._watch.saw_robot(sample, mono_ns, self.armed)

    def on_policy_alive(self, mono_ns: int) -> None:
        """A sign of life of the policy outside ticks."""
        self._watch.policy_mono_ns = mono_ns

    def on_recorder_alive(self, boot_id: str, mono_ns: int) -> None:
        """A sign of life of the recorder, and of which boot of it."""
        self._watch.saw_recorder(boot_id, mono_ns, self.armed)
        self._notice_lost_keeper()

    def on_session_alive(self, mono_ns: int) -> None:
        """A sign of life of the session."""
        self._watch.session_mono_ns = mono_ns

    def on_timer(self, now_ns: int, mono_ns: int) -> list[Closed]:
        """Deadlines and watchdogs. Call it several times per control period, also when no message comes."""
        if self.armed:
            self._watch.check(now_ns, mono_ns, self._human_has_control and not self._human_is_synchronous)
            self._notice_lost_keeper()
        if self._open is not None:
            late = mono_ns >= self._deadline_mono_ns
            return [self._close(now_ns, mono_ns, late=True)] if late else []
        return self._target_outside_ticks(now_ns, mono_ns)

    def arm(self, operator: str, now_ns: int, mono_ns: int) -> tuple[bool, str]:
        """Clear the faults and allow motion, unless a cause persists.

        Returns success, and otherwise why not, with the mend.
        """
        if not operator.strip():
            return False, "operator_name is empty: only a named person arms"
        causes = self._watch.persisting(now_ns, mono_ns)
        if Fault.TELEOP_LOST in self.faults and not self._human_is_synchronous:
            causes += self._watch.teleop_causes(mono_ns)
        if causes:
            return False, "not armed: " + "; ".join(f"{cause.name}: {cause.detail}" for cause in causes)
        self.faults.clear()
        self._watch.forget_silent_episode(mono_ns)
        self.armed = True
        self._human_has_control = self._grab_is_spent = self._keeper_is_lost = False
        self._mover = self._hold_pose = None
        return True, f"armed by {operator.strip()}"

    def disarm(self) -> tuple[bool, str]:
        """Forbid every command from now on."""
        self.armed = False
        self._human_has_control = False
        self._mover = self._hold_pose = None
        return True, "disarmed: no target is sent until a person arms"

    @property
    def _human_is_synchronous(self) -> bool:
        return self._human is not None and self._human.synchronous

    def _policy_answered(self, tick: Tick) -> bool:
        return self._policy is not None and self._policy.k == tick.k and self._policy.boot_id == tick.boot_id

    def _human_answered(self, tick: Tick) -> bool:
        return self._human is not None and (not self._human.synchronous or self._human.k == tick.k)

    def _asks_policy(self, tick: Tick) -> bool:
        in_play = tick.phase == Phase.RUN and tick.purpose != Purpose.DEMO and self._config.expects_policy
        return self.armed and in_play and self.faults.blocks < Blocks.POLICY

    def _controller(self, tick: Tick) -> Source:
        if not self.armed or self.faults.blocks >= Blocks.MOTION:
            return Source.HOLD
        if self._human_has_control:
            return Source.HUMAN
        if self._asks_policy(tick):
            return Source.POLICY
        return Source.RESET if tick.phase == Phase.RESET else Source.HOLD

    def _begin_episode(self, tick: Tick) -> None:
        self._mover = self._hold_pose = None
        self._limiter.begin()
        # The scripted human starts every episode anew; a person keeps control until handing it back.
        if self._human_is_synchronous:
            self._human_has_control = False
        config = self._config
        expected = config.expects_teleop or not config.expects_policy or tick.purpose == Purpose.DEMO
        self._awaits_human = expected if self._human is None else self._human.synchronous

    def _take_early_answers(self, tick: Tick) -> None:
        policy, self._early_policy = self._early_policy, None
        if policy is not None and (policy.boot_id, policy.k) == (tick.boot_id, tick.k):
            self._hear_policy(policy)
        human, self._early_human = self._early_human, None
        if human is not None and human.k == tick.k:
            self._hear_human(human)

    def _hear_policy(self, answer: PolicyAnswer) -> None:
        self._policy = answer
        self._check_action(answer.action, f"policy ({answer.run_id}, {answer.n})", Blocks.POLICY)

    def _hear_human(self, answer: HumanAnswer) -> None:
        self._human = answer
        if answer.released or not answer.grab:
            self._grab_is_spent = False
        if answer.released:
            self._human_has_control = False
        elif answer.grab and not self._grab_is_spent:
            self._human_has_control = True
        if self._human_has_control:
            self._check_action(answer.action, "the human's device", Blocks.MOTION)
            if answer.frame not in BASE_FRAMES:
                detail = f"the human's device speaks in frame {answer.frame!r}; use 'base', then arm"
                self._fault(Fault.MALFORMED_ACTION, detail, Blocks.MOTION)

    def _check_action(self, action: Sequence[float], who: str, blocks: Blocks) -> None:
        if len(action) != self._limiter.size:
            detail = f"{who} sent {len(action)} numbers instead of {self._limiter.size}; mend it, then arm"
            self._fault(Fault.MALFORMED_ACTION, detail, blocks)
        elif not all(map(math.isfinite, action)):
            detail = f"{who} sent {list(action)}; roll back the weights or mend the device, then arm"
            self._fault(Fault.NON_FINITE_ACTION, detail, blocks)

    def _fault(self, name: str, detail: str, blocks: Blocks) -> None:
        if self.armed:
            self.faults.latch(name, detail, blocks)

    def _notice_lost_keeper(self) -> None:
        """With the recorder or the session the human's control ends too: retracting takes a new grab."""
        lost = Fault.RECORDER_LOST in self.faults or Fault.SESSION_LOST in self.faults
        if lost and not self._keeper_is_lost:
            self._human_has_control = False
            self._grab_is_spent = True
        self._keeper_is_lost = lost

    def _close_if_answered(self, now_ns: int, mono_ns: int) -> list[Closed]:
        tick = self._open
        if tick is None or self._missing_human(tick) or self._missing_policy(tick):
            return []
        return [self._close(now_ns, mono_ns, late=False)]

    def _missing_human(self, tick: Tick) -> bool:
        may_move = self.armed and self.faults.blocks < Blocks.MOTION and tick.phase == Phase.RUN
        return may_move and self._awaits_human and not self._human_answered(tick)

    def _missing_policy(self, tick: Tick) -> bool:
        """Also while the human has control: the policy's answer in the shadow is recorded."""
        return self._asks_policy(tick) and not self._policy_answered(tick)

    def _close(self, now_ns: int, mono_ns: int, late: bool) -> Closed:
        """Close the open tick with what is there."""
        tick = self._open
        assert tick is not None
        self.ticks += 1
        self.late_ticks += late
        if self.armed:
            self._watch.check_robot(now_ns, mono_ns)
        if late:
            self._blame_missing_answers(tick, mono_ns)
        self._open = None
        return self._act(tick, now_ns)

    def _blame_missing_answers(self, tick: Tick, mono_ns: int) -> None:
        if self._missing_human(tick):
            self._awaits_human = False  # until it is heard again or the next episode begins
            if self._human_has_control:
                detail = f"the device with control did not answer tick {tick.k}; restart it, then arm"
                self._fault(Fault.TELEOP_LOST, detail, Blocks.MOTION)
        if self._missing_policy(tick) and not self._human_has_control:
            since_mono_ns = self._unanswered_since_mono_ns
            if since_mono_ns is None or mono_ns - since_mono_ns < self._config.policy_timeout_ns:
                return
            detail = f"no action for tick {tick.k} and those before it; look after policy_node, then arm"
            self._fault(Fault.POLICY_ACTION_STALE, detail, Blocks.POLICY)

    def _target_outside_ticks(self, now_ns: int, mono_ns: int) -> list[Closed]:
        """Hold, or follow the human, where no Observations come but the arm's state is fresh.

        In real time only: between episodes, or when observation_node has died, the arm's own watchdog is fed
        and a person can still retract the arm. In lockstep the cell does not wait for targets.
        """
        flow = self._watch.observations_flow(mono_ns)
        if self._config.lockstep or not self.armed or flow or mono_ns < self._next_target_mono_ns:
            return []
        self._next_target_mono_ns = mono_ns + self._config.period_ns
        newest = _NO_TICK if self._newest is None else self._newest
        closed = self._act(newest._replace(episode_id="", phase=Phase.IDLE), now_ns)
        return [] if closed.target is None else [closed._replace(source=None)]

    def _act(self, tick: Tick, now_ns: int) -> Closed:
        """Let whoever is in control move within the limits, or hold."""
        source = self._controller(tick)
        run_id, n, action = "", -1, None
        if source is Source.POLICY and self._policy is not None and self._policy_answered(tick):
            run_id, n, action = self._policy.run_id, self._policy.n, self._policy.action
        elif source is Source.HUMAN and self._human is not None and self._human.grab:
            action = self._human.action
        limits: tuple[str, ...] = ()
        if action is not None:
            limited = self._move(source, action, tick)
            if limited is not None and not limited.stopped_by:
                target = self._target(limited.target_pose.tolist(), False, tick, now_ns)
                return Closed(tick, source, run_id, n, action, limited.executed.tolist(), limited.limits, target)
            limits = () if limited is None else limited.limits
        still = self._limiter.still
        proposed = still if action is None else action
        holder = Source.RESET if source is Source.RESET else Source.HOLD
        return Closed(tick, holder, "", -1, proposed, still, limits, self._hold(tick, now_ns))

    def _move(self, source: Source, action: Sequence[float], tick: Tick) -> Limited | None:
        """The limited action, or None where the measured pose cannot be used."""
        pose = self._measured_pose(tick)
        if pose is None:
            return None
        if self._mover is not source:
            self._limiter.reference(pose)
        limited = self._limiter.apply(action, pose)
        if limited.stopped_by:
            detail = f"{source.name.lower()} met {', '.join(limited.stopped_by)}; look at the arm, then arm"
            self._fault(Fault.LIMIT_STOP, detail, Blocks.POLICY if source is Source.POLICY else Blocks.MOTION)
        else:
            self._mover, self._hold_pose = source, None
        return limited

    def _hold(self, tick: Tick, now_ns: int) -> TargetPose | None:
        self._mover = None
        if not self.armed or self.faults.blocks >= Blocks.TARGETS:
            return None
        if self._hold_pose is None:
            self._hold_pose = self._measured_pose(tick)
        if self._hold_pose is None:
            return None
        return self._target(self._hold_pose, True, tick, now_ns)

    def _target(self, pose: Sequence[float], hold: bool, tick: Tick, now_ns: int) -> TargetPose:
        return TargetPose(pose, hold, self._valid_until_ns(tick, now_ns), self._limiter.gripper_width_m)

    def _measured_pose(self, tick: Tick) -> list[float] | None:
        x, y, z, *quat = self._watch.measured_pose(tick)
        try:
            if not math.isfinite(x + y + z):
                raise ValueError(f"position ({x}, {y}, {z}) must be finite")
            return [x, y, z, *quat_normalise(quat)]
        except ValueError as error:
            detail = f"measured pose: {error}; look after the arm's driver, then arm"
            self._fault(Fault.NON_FINITE_STATE, detail, Blocks.TARGETS)
            return None

    def _valid_until_ns(self, tick: Tick, now_ns: int) -> int:
        return (tick.stamp_ns if self._config.lockstep else now_ns) + self._target_ns
