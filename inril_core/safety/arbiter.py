"""Who is in control, and the closing of every control tick exactly once.

Over 400 lines: which answers a tick waits for, who then acts, and how it is closed are read side by side.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from inril_core.contract import Contract
from inril_core.safety.faults import Blocks, Fault, FaultLatch
from inril_core.safety.handover_notes import HandoverNotes
from inril_core.safety.human import Human
from inril_core.safety.joint_model import JointModel
from inril_core.safety.mover import Mover
from inril_core.safety.ticks import (
    ArbiterConfig,
    Closed,
    HumanAnswer,
    Phase,
    PolicyAnswer,
    Purpose,
    RobotSample,
    Source,
    Tick,
)
from inril_core.safety.watch import Cause, Watch

OLD_BOOT_HEARD_N = 3
"""So many Observations of a boot that another one has replaced cannot all have been on their way: both publish."""

LONGEST_CHECK_NS = 100_000_000
"""At least so often the watchdogs are looked at: the ROS clock may have been set."""

STAMP_ROUNDING_NS = 1_000_000
"""Observations give ages as float32."""

_NO_TICK = Tick("", 0, 0, "", 0, Phase.IDLE, Purpose.NONE, True, (math.nan,) * 7, (), "")


class Arbiter:
    """Chooses between policy, human and hold, limits the choice, and closes tick k exactly once.

    A tick opens with `on_observation` and closes when everybody who is expected to answer has answered, or
    at its deadline. Answers may come before their Observation (they are kept) or after the tick closed (they
    are counted and dropped). The methods take `now_ns` (ROS clock, for the age of data) and `mono_ns`
    (monotonic clock, for liveness), and return what to publish.

    Nothing is commanded before `arm`, and nothing arms itself: faults stay latched until `arm`, which is
    refused while a cause persists.

    Commanding begins at the measured pose, after an arming and at the start of an episode, before which the cell was
    laid out anew. From then on a Target differs from the one before by a limited step at most, whoever is in control
    and whatever is measured. An action is good for the tick it answers. Outside ticks only a device moves that is
    asynchronous, has control and was heard just now. Everything else holds: the last Target once more.

    No input raises: what cannot be used is a fault by name.

    joint_model: of the arm, where the contract limits its joints; without it that is a ConfigError.
    """

    def __init__(self, contract: Contract, config: ArbiterConfig, joint_model: JointModel | None = None) -> None:
        self._config = config
        self._frame = contract.base_frame
        self._action_size = contract.action.size
        self.faults = FaultLatch()
        self._watch = Watch(contract, config, self.faults)
        self._mover = Mover(contract, config, self.faults, joint_model)
        self.armed = False
        self.ticks = 0
        self.late_ticks = 0
        self.late_answers = 0

        self._boot_id = ""
        self._old_boot_ids: deque[str] = deque(maxlen=16)
        self._old_boot_heard_n = 0
        self._episode_id: str | None = None  # of the newest episode begun
        self._newest: Tick | None = None  # also when it is closed
        self._open: Tick | None = None
        self._pose_is_sound = False  # the newest tick's: it can be true
        self._deadline_mono_ns = 0
        self._next_target_mono_ns = 0  # outside ticks
        self._policy: PolicyAnswer | None = None  # of the newest tick; its action is empty where it cannot be used
        self._unanswered_since_mono_ns: int | None = None  # first Observation since the policy's last answer
        self._early_policy: PolicyAnswer | None = None
        self._human = Human(
            config.expects_teleop or not config.expects_policy,
            config.takeover,
            round(contract.staleness.teleop_s * 1e9),
        )
        self._drives_in = False  # a person has not yet handed back for the first time in this episode
        self.notes = HandoverNotes()
        self._keeper_is_lost = False
        self._resetting = False

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
            self._notice_old_boot(tick)
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
        begins = tick.phase == Phase.RUN and tick.episode_id != self._episode_id
        if begins:
            self._begin_episode(tick)
        self._newest = tick
        self._pose_is_sound = self._mover.take_pose(tick, self.armed, self._in_motion)
        if tick.last:
            self._human.end_episode()
            return said
        self._open = tick
        self._deadline_mono_ns = mono_ns + self._config.deadline_ns
        self._take_early_answers(tick, mono_ns)
        if begins:
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
        self._human.awaited = answer.synchronous
        if not answer.synchronous:
            self._hear_human(answer, None, mono_ns)
            return []
        newest_k = -1 if self._newest is None else self._newest.k
        if answer.k > newest_k:
            self._human.keep_early(answer)
            return []
        if self._open is None or answer.k < newest_k:
            self.late_answers += 1
            self._human.hear_late(answer)
        else:
            self._hear_human(answer, (self._boot_id, answer.k), mono_ns)
        return self._close_if_answered(now_ns, mono_ns)

    def on_robot_state(self, sample: RobotSample, mono_ns: int) -> None:
        """A measured state of the arm. Needed in real time; in lockstep the Observation says it all."""
        self._watch.saw_robot(sample, mono_ns, self.armed)
        self._mover.take_pose(sample, self.armed, self._in_motion)

    def on_teleop_status(self, trouble: str, mono_ns: int) -> None:
        """How the human's device is. trouble: why nobody can drive with it, and the fix; empty: it works."""
        self._watch.saw_device(trouble, mono_ns)

    def on_policy_alive(self, mono_ns: int) -> None:
        """A sign of life of the policy outside ticks."""
        self._watch.policy_mono_ns = mono_ns

    def on_recorder_alive(self, boot_id: str, mono_ns: int) -> None:
        """A sign of life of the recorder, and of which boot of it."""
        self._watch.saw_recorder(boot_id, mono_ns, self.armed)
        self._notice_lost_keeper()

    def on_session_alive(self, mono_ns: int, resetting: bool = False) -> None:
        """A sign of life of the session. resetting: the cell is being laid out, and moves the arm as it must.

        Outside ticks nobody else moves it meanwhile, and afterwards commanding begins where the arm is then.
        """
        self._watch.session_mono_ns = mono_ns
        if self._resetting and not resetting and not self._watch.episode_is_running:
            self._mover.command.end()
            self._human.hold_over()
        self._resetting = resetting

    def on_permit(self, boot_id: str, denial: str, mono_ns: int) -> None:
        """safety_monitor permits motion (empty), or says why not."""
        self._watch.saw_permit(boot_id, denial, mono_ns, self.armed)

    def on_publishers(self, detail: str | None, blocks: Blocks) -> None:
        """Who else publishes what this graph alone may, and what that forbids; None: nobody."""
        cause = None if detail is None else Cause(Fault.SECOND_PUBLISHER, detail, blocks)
        self._watch.saw_publishers(cause, self.armed)

    def on_internal_error(self, detail: str) -> None:
        """Something unforeseen was raised around the arbiter: hold until a person has looked."""
        self.faults.latch(Fault.INTERNAL_ERROR, detail, Blocks.MOTION)

    def next_check_ns(self, now_ns: int, mono_ns: int) -> int:
        """When to call `on_timer` (monotonic) if nothing is heard until then; ask anew after whatever is heard."""
        due_ns = mono_ns + LONGEST_CHECK_NS
        if self._open is not None:
            due_ns = min(due_ns, self._deadline_mono_ns)
        if self.armed:
            human = self._human
            human_moves = human.has_control and not human.synchronous
            due_ns = min(due_ns, self._watch.next_expiry_ns(now_ns, mono_ns, human_moves))
            if self._open is None and not self._config.lockstep and not self._watch.observations_flow(mono_ns):
                due_ns = min(due_ns, self._next_target_mono_ns)
        return due_ns

    def on_timer(self, now_ns: int, mono_ns: int) -> list[Closed]:
        """Deadlines and watchdogs. Call it when `next_check_ns` says, and after a permit or a state of the arm."""
        if self.armed:
            human = self._human
            self._watch.check(now_ns, mono_ns, human.has_control and not human.synchronous)
            self._notice_lost_keeper()
        if self._open is not None:
            late = mono_ns >= self._deadline_mono_ns
            return [self._close(now_ns, mono_ns, late=True)] if late else []
        return self._target_outside_ticks(now_ns, mono_ns)

    def arm(self, operator: str, now_ns: int, mono_ns: int) -> tuple[bool, str]:
        """Clear the faults and allow motion, unless a cause persists.

        Returns success, and otherwise why not, with the fix. The arm does not move: commanding begins where it is.
        """
        if not operator.strip():
            return False, "operator_name is empty: only a named person arms"
        causes = self._watch.persisting(now_ns, mono_ns) + self._mover.doubts()
        if Fault.TELEOP_LOST in self.faults and not self._human.synchronous:
            causes += self._watch.teleop_causes(mono_ns)
        causes += self._watch.device_causes(mono_ns)
        causes = causes or self._mover.begin_anew()
        if causes:
            return False, "not armed: " + "; ".join(f"{cause.name}: {cause.detail}" for cause in causes)
        self.faults.clear()
        self._watch.forget_silent_episode(mono_ns)
        self.armed = True
        self._human.start_anew()
        self._keeper_is_lost = False
        self._old_boot_heard_n = 0
        return True, f"armed by {operator.strip()}"

    def disarm(self) -> tuple[bool, str]:
        """Forbid every command from now on."""
        self.armed = False
        self._human.start_anew()
        self._mover.command.end()
        return True, "disarmed: no target is sent until a person arms"

    @property
    def _in_motion(self) -> bool:
        """Somebody of this graph may be moving the arm, and nobody else."""
        return self._watch.episode_is_running or self._human.has_control

    def _policy_answered(self, tick: Tick) -> bool:
        return self._policy is not None and self._policy.k == tick.k and self._policy.boot_id == tick.boot_id

    def _asks_policy(self, tick: Tick) -> bool:
        in_play = tick.phase == Phase.RUN and tick.purpose != Purpose.DEMO and self._config.expects_policy
        return self.armed and in_play and self.faults.blocks < Blocks.POLICY and not self._drives_in

    def _controller(self, tick: Tick) -> Source:
        if not self.armed or self.faults.blocks >= Blocks.MOTION:
            return Source.HOLD
        if tick.phase == Phase.RESET:
            return Source.RESET
        if self._human.has_control:
            return Source.RESET if self._drives_in and tick.phase == Phase.RUN else Source.HUMAN
        return Source.POLICY if self._asks_policy(tick) else Source.HOLD

    def _begin_episode(self, tick: Tick) -> None:
        if self._episode_id is not None:  # the cell was laid out since the last one
            self._human.hold_over()
        self._episode_id = tick.episode_id
        # in lockstep the cell is a simulated one, which is laid out within one period
        since_ns = 0 if self._config.lockstep else self._watch.measured_at_ns(tick) - STAMP_ROUNDING_NS
        self._mover.begin_episode(self._config.lockstep and tick.step == 0, since_ns)
        config = self._config
        self._human.begin_episode(config.expects_teleop or not config.expects_policy or tick.purpose == Purpose.DEMO)
        self.notes.begin_episode()
        self._drives_in = config.drive_in and tick.purpose == Purpose.TRAIN

    def _take_early_answers(self, tick: Tick, mono_ns: int) -> None:
        policy, self._early_policy = self._early_policy, None
        if policy is not None and (policy.boot_id, policy.k) == (tick.boot_id, tick.k):
            self._hear_policy(policy)
        human = self._human.take_early(tick)
        if human is not None:
            self._hear_human(human, (tick.boot_id, tick.k), mono_ns)

    def _notice_old_boot(self, tick: Tick) -> None:
        self._old_boot_heard_n += 1
        if self._old_boot_heard_n >= OLD_BOOT_HEARD_N:
            detail = (
                f"observation: boot {tick.boot_id} still publishes although boot {self._boot_id} does; two graphs "
                "share this namespace, or an observation_node was left over: end one, then arm"
            )
            self._fault(Fault.SECOND_PUBLISHER, detail, Blocks.MOTION)

    def _hear_policy(self, answer: PolicyAnswer) -> None:
        usable = self._is_usable(answer.action, f"policy ({answer.run_id}, {answer.n})", Blocks.POLICY)
        self._policy = answer if usable else answer._replace(action=())

    def _hear_human(self, answer: HumanAnswer, tick: tuple[str, int] | None, mono_ns: int) -> None:
        human = self._human
        had_control = human.has_control
        human.hear(answer, tick, mono_ns)
        self._drives_in = self._drives_in and not (had_control and not human.has_control)
        if not human.has_control:
            return
        if not self._is_usable(answer.action, "the human's device", Blocks.MOTION):
            human.drop_action()
        if answer.frame != self._frame:
            human.drop_action()
            detail = (
                f"TeleopAction.frame is {answer.frame!r}, the contract's base_frame {self._frame!r}: actions in "
                "another frame are not converted; let teleop_node do it, then arm"
            )
            self._fault(Fault.WRONG_FRAME, detail, Blocks.MOTION)

    def _is_usable(self, action: Sequence[float], who: str, blocks: Blocks) -> bool:
        if len(action) != self._action_size:
            detail = f"{who} sent {len(action)} numbers instead of {self._action_size}; fix it, then arm"
            self._fault(Fault.MALFORMED_ACTION, detail, blocks)
            return False
        if not all(map(math.isfinite, action)):
            detail = f"{who} sent {list(action)}; roll back the weights or fix the device, then arm"
            self._fault(Fault.NON_FINITE_ACTION, detail, blocks)
            return False
        return True

    def _fault(self, name: str, detail: str, blocks: Blocks) -> None:
        if self.armed:
            self.faults.latch(name, detail, blocks)

    def _notice_lost_keeper(self) -> None:
        """With the recorder or the session the human's control ends too: retracting takes a new grab."""
        lost = Fault.RECORDER_LOST in self.faults or Fault.SESSION_LOST in self.faults
        if lost and not self._keeper_is_lost:
            self._human.lose_control()
        self._keeper_is_lost = lost

    def _close_if_answered(self, now_ns: int, mono_ns: int) -> list[Closed]:
        tick = self._open
        if tick is None or self._missing_human(tick) or self._missing_policy(tick):
            return []
        return [self._close(now_ns, mono_ns, late=False)]

    def _missing_human(self, tick: Tick) -> bool:
        may_move = self.armed and self.faults.blocks < Blocks.MOTION and tick.phase == Phase.RUN
        return may_move and self._human.awaited and not self._human.answered(tick)

    def _missing_policy(self, tick: Tick) -> bool:
        """Also while the human has control: the policy's answer in the shadow is recorded."""
        return self._asks_policy(tick) and not self._policy_answered(tick)

    def _close(self, now_ns: int, mono_ns: int, late: bool) -> Closed:
        """Close the open tick with what is there."""
        tick = self._open
        assert tick is not None
        self._open = None
        self.ticks += 1
        self.late_ticks += late
        if self.armed:
            self._watch.check_robot(now_ns, mono_ns)
        if late:
            self._blame_missing_answers(tick, mono_ns)
        return self._act(tick, now_ns, mono_ns, in_tick=True)

    def _blame_missing_answers(self, tick: Tick, mono_ns: int) -> None:
        if self._missing_human(tick):
            self._human.awaited = False  # until it is heard again or the next episode begins
            if self._human.has_control:
                detail = f"the device with control did not answer tick {tick.k}; restart it, then arm"
                self._fault(Fault.TELEOP_LOST, detail, Blocks.MOTION)
        if self._missing_policy(tick) and not self._human.has_control:
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
        phase = Phase.RESET if self._resetting else Phase.IDLE
        closed = self._act(newest._replace(episode_id="", phase=phase), now_ns, mono_ns, in_tick=False)
        return [] if closed.target is None else [closed._replace(source=None)]

    def _human_acts(self, source: Source, tick: Tick) -> bool:
        """The person moves the arm; as a reset only where that is the person's part of the episode."""
        driving_in = source is Source.RESET and tick.phase == Phase.RUN
        return (source is Source.HUMAN or driving_in) and self._human.drives

    def _act(self, tick: Tick, now_ns: int, mono_ns: int, in_tick: bool) -> Closed:
        """Let whoever is in control move within the limits, or hold."""
        source = self._controller(tick)
        if not self.armed:
            still = self._mover.command.still
            return Closed(tick, Source.HOLD, "", -1, still, still, (), None)
        run_id, n, action = "", -1, None
        policy, human = self._policy, self._human
        if source is Source.POLICY and policy is not None and self._policy_answered(tick):
            run_id, n, action = policy.run_id, policy.n, policy.action
        elif self._human_acts(source, tick) and human.answer is not None:
            # a synchronous device acts in the tick that it answers, another one for as long as it is heard
            lives = in_tick and human.answered(tick) if human.synchronous else not self._watch.teleop_silent(mono_ns)
            action = human.answer.action if lives else None
        if action is not None and not (len(action) and (self._pose_is_sound or not in_tick)):
            action = None
        closed = self._mover.act(tick, source, action, run_id, n, now_ns)
        if not in_tick:
            return closed
        shadow = policy.action if policy is not None and self._policy_answered(tick) else None
        return self.notes.noted(closed, source, human.has_control and not self._drives_in, shadow)
