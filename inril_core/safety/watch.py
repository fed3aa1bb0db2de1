"""The watchdogs: whose silence or bad data stops the arm, and whether a cause is gone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inril_core.contract import Contract
from inril_core.contract.limits import WrenchLimits
from inril_core.safety.faults import Blocks, Fault, FaultLatch
from inril_core.safety.measured import malformed
from inril_core.safety.ticks import ArbiterConfig, Phase, RobotSample, Tick

# policy_node publishes its status every 0.5 s: four in a row are missing
_POLICY_LIFE_NS = 2_000_000_000
_DEVICE_LIFE_NS = 2_000_000_000  # and teleop_node its own
_NEVER_NS = 2**62


class Cause(NamedTuple):
    """A condition that forbids something as long as it lasts."""

    name: str
    detail: str
    blocks: Blocks


class Watch:
    """Remembers when each partner was last heard, and says what is wrong now.

    The same conditions latch faults while armed (`check`) and refuse an arming (`persisting`).
    """

    def __init__(self, contract: Contract, config: ArbiterConfig, faults: FaultLatch) -> None:
        self._config = config
        self._faults = faults
        staleness = contract.staleness
        self._robot_ns = round(staleness.robot_state_s * 1e9)
        self._teleop_ns = round(staleness.teleop_s * 1e9)
        self._recorder_ns = round(staleness.recorder_s * 1e9)
        self._session_ns = round(staleness.session_s * 1e9)
        self._frame = contract.base_frame
        self._links = contract.links
        required = {f"camera_{image.camera}" for image in contract.images if image.required}
        self._link_limits_s = [
            ("robot_state", staleness.robot_state_s),
            ("part_poses", staleness.part_poses_s),
            *((link, staleness.camera_s) for link in self._links if link in required),
        ]
        self._link_index = {link: index for index, link in enumerate(self._links)}

        self._tick: Tick | None = None
        self._tick_now_ns = 0
        self._observation_mono_ns = 0
        self._episode_mono_ns = 0
        self._robot: RobotSample | None = None
        self._robot_mono_ns = 0
        self._robot_pose_causes: tuple[Cause, ...] = ()
        self._wrench = contract.limits.wrench
        self.recorder_boot_id = ""  # of the recorder heard last
        self._recorder_mono_ns: int | None = None
        self.policy_mono_ns: int | None = None
        self.session_mono_ns: int | None = None
        self.teleop_mono_ns = 0
        self._device_trouble = ""
        self._device_mono_ns: int | None = None
        self._monitor_boot_id = ""
        self._permit: tuple[int, str] | None = None  # when safety_monitor was heard, and why it denies
        self.other_publishers: Cause | None = None

    @property
    def episode_is_running(self) -> bool:
        """Whether the newest Observation belongs to an episode that goes on."""
        return self._tick is not None and self._tick.phase == Phase.RUN and not self._tick.last

    def saw_observation(self, tick: Tick, now_ns: int, mono_ns: int, armed: bool) -> None:
        """Judge an Observation: its age, its links and its pose."""
        if not self.episode_is_running:
            self._episode_mono_ns = mono_ns
        self._tick, self._tick_now_ns, self._observation_mono_ns = tick, now_ns, mono_ns
        if armed:
            self._latch(self._observation_causes())

    def measured_at_ns(self, tick: Tick) -> int:
        """Stamp of the arm's state in an Observation, which may come here before that state itself; 0: unknown."""
        index = self._link_index["robot_state"]
        age_s = tick.link_age_s[index] if index < len(tick.link_age_s) else math.nan
        return tick.stamp_ns - round(max(age_s, 0.0) * 1e9) if math.isfinite(age_s) else 0

    def saw_robot(self, sample: RobotSample, mono_ns: int, armed: bool) -> None:
        """Judge a state of the arm. A restart while armed is a fault: its watchdogs and target are gone."""
        if armed and self._robot is not None and sample.boot_id != self._robot.boot_id:
            detail = "the arm's node has restarted; look at the arm, then arm again"
            self._faults.latch(Fault.ROBOT_RESTARTED, detail, Blocks.TARGETS)
        self._robot, self._robot_mono_ns = sample, mono_ns
        self._robot_pose_causes = tuple(
            self._pose_causes(sample.tool_pose, sample.frame, "RobotState", "the arm's node")
        )
        if armed and self._wrench is not None:
            self._latch(self._wrench_causes(self._wrench, sample.external_wrench))

    def saw_recorder(self, boot_id: str, mono_ns: int, armed: bool) -> None:
        """A sign of life of the recorder. A restart within an episode has lost a part of it."""
        restarted = self.recorder_boot_id not in ("", boot_id)
        if armed and restarted and self.episode_is_running and self._config.expects_recorder:
            detail = "the recorder has restarted within an episode; end the episode, then arm"
            self._faults.latch(Fault.RECORDER_LOST, detail, Blocks.POLICY)
        self.recorder_boot_id, self._recorder_mono_ns = boot_id, mono_ns

    def saw_permit(self, boot_id: str, denial: str, mono_ns: int, armed: bool) -> None:
        """safety_monitor permits motion, or says why not. The arm obeys it by itself; here it gets its name."""
        restarted = self._monitor_boot_id not in ("", boot_id)
        self._monitor_boot_id, self._permit = boot_id, (mono_ns, denial)
        if armed and restarted:
            detail = "safety_monitor was started again; look at the arm"
            self._latch(iter([Cause(Fault.SAFETY_MONITOR, detail, Blocks.MOTION)]))
        if armed:
            self._latch(self._permit_causes(mono_ns))

    def check(self, now_ns: int, mono_ns: int, human_moves: bool) -> None:
        """Latch what is wrong now. `human_moves`: a device that is not synchronous has control."""
        self.check_robot(now_ns, mono_ns)
        self._latch(self._permit_causes(mono_ns))
        self._latch(self._silence_causes(mono_ns, since_ns=self._episode_mono_ns))
        if human_moves:
            self._latch(self.teleop_causes(mono_ns))
        if self.episode_is_running and not self.observations_flow(mono_ns):
            silent_s = (mono_ns - self._observation_mono_ns) / 1e9
            detail = f"no Observation for {silent_s:.2f} s; look after observation_node and the cell"
            self._latch(iter([Cause(Fault.OBSERVATION_STALE, detail, Blocks.POLICY)]))

    def next_expiry_ns(self, now_ns: int, mono_ns: int, human_moves: bool) -> int:
        """When `check` can find something new at the earliest if nothing is heard until then (monotonic).

        That is exact for silence. What ages by the ROS clock is meant for a clock that runs as the monotonic one.
        """
        config, dues = self._config, [_NEVER_NS]
        if not config.lockstep and self._robot is not None:
            dues.append(self._robot_mono_ns + config.robot_timeout_ns)
            dues.append(mono_ns + self._robot.stamp_ns + self._robot_ns - now_ns)
        if self.episode_is_running:
            dues.append(self._observation_mono_ns + config.observation_timeout_ns)
            for expected, heard_ns, limit_ns in (
                (config.expects_recorder, self._recorder_mono_ns, self._recorder_ns),
                (config.expects_session, self.session_mono_ns, self._session_ns),
            ):
                if expected:
                    dues.append(max(self._episode_mono_ns, heard_ns or 0) + limit_ns)
        if config.permit_timeout_ns is not None and self._permit is not None:
            dues.append(self._permit[0] + config.permit_timeout_ns)
        if human_moves:
            dues.append(self.teleop_mono_ns + self._teleop_ns)
        return min((due_ns for due_ns in dues if due_ns >= mono_ns), default=_NEVER_NS) + 1

    def saw_publishers(self, cause: Cause | None, armed: bool) -> None:
        """Who else publishes what this graph alone may; None: nobody. It stands until it is said anew."""
        self.other_publishers = cause
        if armed and cause is not None:
            self._latch(iter([cause]))

    def check_robot(self, now_ns: int, mono_ns: int) -> None:
        """Latch what forbids every target: an arm whose state is unknown or that does not listen."""
        self._latch(self._robot_causes(now_ns, mono_ns))

    def persisting(self, now_ns: int, mono_ns: int) -> list[Cause]:
        """What would make an arming now void: conditions that last, each with its fix."""
        causes = list(self._robot_causes(now_ns, mono_ns))
        causes += self._permit_causes(mono_ns)
        if self._wrench is not None:
            measured = () if self._robot is None else self._robot.external_wrench
            causes += [c for c in self._wrench_causes(self._wrench, measured) if c.name == Fault.WRENCH_UNKNOWN]
        if self.other_publishers is not None:
            causes.append(self.other_publishers)
        if self.observations_flow(mono_ns):
            causes += self._observation_causes()
        causes += self._silence_causes(mono_ns, since_ns=None)
        silent = self.policy_mono_ns is None or mono_ns - self.policy_mono_ns > _POLICY_LIFE_NS
        if Fault.POLICY_ACTION_STALE in self._faults and silent:
            detail = "the policy does not answer; start policy_node"
            causes.append(Cause(Fault.POLICY_ACTION_STALE, detail, Blocks.POLICY))
        return causes

    def teleop_causes(self, mono_ns: int) -> Iterator[Cause]:
        """Silence of the device that has control."""
        if self.teleop_silent(mono_ns):
            silent_ns = mono_ns - self.teleop_mono_ns
            detail = f"the device with control is silent for {silent_ns / 1e9:.2f} s; reconnect it"
            yield Cause(Fault.TELEOP_LOST, detail, Blocks.MOTION)

    def saw_device(self, trouble: str, mono_ns: int) -> None:
        """teleop_node says how its device is; empty: it works."""
        self._device_trouble, self._device_mono_ns = trouble, mono_ns

    def device_causes(self, mono_ns: int) -> Iterator[Cause]:
        """Why nobody could take over after an arming."""
        if not self._config.expects_device:
            return
        if self._device_mono_ns is None or mono_ns - self._device_mono_ns > _DEVICE_LIFE_NS:
            detail = (
                "teleop_node does not say how the input device is; start it (a graph without one sets arbiter_node's "
                "expects_device to false)"
            )
            yield Cause(Fault.TELEOP_LOST, detail, Blocks.MOTION)
        elif self._device_trouble:
            yield Cause(Fault.TELEOP_LOST, self._device_trouble, Blocks.MOTION)

    def teleop_silent(self, mono_ns: int) -> bool:
        """The human's device was not heard for longer than the contract allows."""
        return mono_ns - self.teleop_mono_ns > self._teleop_ns

    def observations_flow(self, mono_ns: int) -> bool:
        """Whether an episode is running and its Observations come."""
        return self.episode_is_running and mono_ns - self._observation_mono_ns <= self._config.observation_timeout_ns

    def forget_silent_episode(self, mono_ns: int) -> None:
        """A person arms: an episode whose Observations ceased is over, the next one is watched anew."""
        if not self.observations_flow(mono_ns):
            self._tick = None

    def _latch(self, causes: Iterator[Cause]) -> None:
        for name, detail, blocks in causes:
            self._faults.latch(name, f"{detail}, then arm", blocks)

    def _observation_causes(self) -> Iterator[Cause]:
        tick = self._tick
        if tick is None:
            return
        age_ns = self._tick_now_ns - tick.stamp_ns
        if not self._config.lockstep and abs(age_ns) > self._config.observation_timeout_ns:
            detail = f"Observation is {age_ns / 1e9:.3f} s old; look after observation_node and the clocks"
            yield Cause(Fault.OBSERVATION_STALE, detail, Blocks.POLICY)
        yield from self._pose_causes(tick.tool_pose, tick.frame, "Observation", "observation_node")
        ages_s = tick.link_age_s
        for link, limit_s in self._link_limits_s:
            index = self._link_index[link]
            age_s = ages_s[index] if index < len(ages_s) else math.nan
            if age_s <= limit_s:  # false for NaN, which is a link never heard
                continue
            detail = f"{link} is {age_s:.3f} s old, at most {limit_s} s; look after its node"
            if link == "robot_state":
                yield Cause(Fault.ROBOT_STATE_STALE, detail, Blocks.TARGETS)
            else:
                yield Cause(f"{Fault.LINK_STALE}:{link}", detail, Blocks.POLICY)

    def _robot_causes(self, now_ns: int, mono_ns: int) -> Iterator[Cause]:
        if self._config.lockstep:
            return  # the Observation's link age says it all
        if self._robot is None:
            detail = "no state of the arm was heard; start its node"
            yield Cause(Fault.ROBOT_STATE_STALE, detail, Blocks.TARGETS)
            return
        age_ns, silent_ns = abs(now_ns - self._robot.stamp_ns), mono_ns - self._robot_mono_ns
        if silent_ns > self._config.robot_timeout_ns:
            detail = f"the arm is silent for {silent_ns / 1e9:.3f} s; look after its node"
            yield Cause(Fault.ROBOT_STATE_STALE, detail, Blocks.TARGETS)
        elif age_ns > self._robot_ns:
            limit_s = self._robot_ns / 1e9
            detail = f"the arm's state is {age_ns / 1e9:.3f} s old, at most {limit_s} s; look after its node"
            yield Cause(Fault.ROBOT_STATE_STALE, detail, Blocks.TARGETS)
        if self._robot.fault:
            yield Cause(Fault.ROBOT_FAULT, self._robot.fault, Blocks.TARGETS)
        if self._robot.needs_rearm:
            detail = "the arm's own watchdog holds it; call /robot/arm"
            yield Cause(Fault.ROBOT_NEEDS_REARM, detail, Blocks.TARGETS)
        yield from self._robot_pose_causes

    def _wrench_causes(self, limits: WrenchLimits, wrench: Sequence[float]) -> Iterator[Cause]:
        """A load on the tool above the contract's limits, or one that is not known.

        Only the latter refuses an arming: commanding then begins at the measured pose, which ends the pressing.
        """
        if len(wrench) != 6 or not all(map(math.isfinite, wrench)):
            detail = (
                "the contract limits force or torque, but the arm measures no external wrench; choose a driver that "
                "does, or remove limits.wrench"
            )
            yield Cause(Fault.WRENCH_UNKNOWN, detail, Blocks.MOTION)
            return
        for what, load, most, unit in (
            ("force", math.hypot(*wrench[:3]), limits.max_force_n, "N"),
            ("torque", math.hypot(*wrench[3:]), limits.max_torque_nm, "Nm"),
        ):
            if most is not None and not load <= most:
                detail = f"external {what} on the tool is {load:.4g} {unit}, at most {most:g}; look at what it touches"
                yield Cause(Fault.WRENCH_LIMIT, detail, Blocks.MOTION)

    def _permit_causes(self, mono_ns: int) -> Iterator[Cause]:
        timeout_ns = self._config.permit_timeout_ns
        if timeout_ns is None:
            return
        if self._permit is None or mono_ns - self._permit[0] > timeout_ns:
            yield Cause(Fault.SAFETY_MONITOR, "safety_monitor is silent; start it", Blocks.MOTION)
        elif self._permit[1]:
            yield Cause(Fault.SAFETY_MONITOR, f"{self._permit[1]}; look at the arm", Blocks.MOTION)

    def _pose_causes(self, pose: Sequence[float], frame: str, message: str, node: str) -> Iterator[Cause]:
        """What is wrong with a measured pose as such, whatever was measured before."""
        if frame != self._frame:
            detail = (
                f"{message}.header.frame_id is {frame!r}, the contract's base_frame {self._frame!r}: poses in another "
                f"frame are not converted; let {node} publish in {self._frame!r} and fill frame_id"
            )
            yield Cause(Fault.WRONG_FRAME, detail, Blocks.TARGETS)
        if not all(map(math.isfinite, pose)):
            detail = f"the measured tool pose in {message} is {list(pose)}, not finite; look after the arm's driver"
            yield Cause(Fault.NON_FINITE_STATE, detail, Blocks.TARGETS)
            return
        reason = malformed(pose)
        if reason is not None:
            detail = f"the tool pose in {message} is none: {reason}; fill tool_pose in the arm's node"
            yield Cause(Fault.MALFORMED_STATE, detail, Blocks.TARGETS)

    def _silence_causes(self, mono_ns: int, since_ns: int | None) -> Iterator[Cause]:
        """Silence of recorder and session: within an episode that began at `since_ns`; None: at any time."""
        if since_ns is not None and not self.episode_is_running:
            return
        config = self._config
        for expected, heard_ns, limit_ns, fault, who in (
            (
                config.expects_recorder,
                self._recorder_mono_ns,
                self._recorder_ns,
                Fault.RECORDER_LOST,
                "recorder",
            ),
            (config.expects_session, self.session_mono_ns, self._session_ns, Fault.SESSION_LOST, "session"),
        ):
            heard = [time_ns for time_ns in (heard_ns, since_ns) if time_ns is not None]
            if expected and (not heard or mono_ns - max(heard) > limit_ns):
                detail = f"{who}_node is silent for over {limit_ns / 1e9} s; start it"
                yield Cause(fault, detail, Blocks.POLICY)
