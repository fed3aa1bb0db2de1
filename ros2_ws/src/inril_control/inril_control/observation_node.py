"""The observation clock: joins the newest measurements into Observation(k) and numbers the episode's steps."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Time
from inril_common.convert import (
    array_to_image,
    check_image,
    float32_array,
    image_to_array,
    ns_to_stamp,
    pose_to_array,
    stamp_to_ns,
    twist_to_array,
)
from inril_common.executor import read_along
from inril_common.links import LinkMonitor
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_common.qos import EVENT, TICK, sensor_qos
from inril_common.realtime import between_episodes
from inril_msgs.msg import CellTruth, Observation, PartPoses, RobotState, StepOutcome
from inril_msgs.srv import BeginEpisode, EndEpisode
from sensor_msgs.msg import Image

from inril_core.control.measurement import BadMeasurement, check_frame, check_tool
from inril_core.control.observation import StateVector, check_crop, prepare_image
from inril_core.control.ticker import EpisodeRefused, EpisodeSpec, EpisodeTick, EpisodeTicker
from inril_core.outcome import CellReport, Outcome
from inril_core.vocabulary import Label, Phase, Purpose

ROBOT_STATE, PART_POSES, CELL_TRUTH = "/robot_state", "/part_poses", "/cell_truth"
"""Keys beside the cameras' names, which have no slash."""
MAX_AHEAD_S = 0.1
"""Of a stamp, in real time: clocks of machines that are synchronised differ by less."""


class ObservationNode(InrilNode):
    """Publishes observation, and episode_outcome when an episode closes.

    In lockstep the inputs are joined for equal stamps (part_poses: that which the cell names) and each state is one
    tick. At a real time factor the node's own steady timer ticks with the newest inputs, whose ages it reports.

    A measurement that cannot be (not finite, another frame, an image of unknown encoding) is left out, by name: its
    link grows stale as if nothing had come.
    """

    def __init__(self) -> None:
        super().__init__("observation_node")

    def setup(self) -> None:
        """Subscribe to the cell and serve begin_episode and end_episode."""
        self.contract = self.contract_param()
        self._factor = self.param(
            "real_time_factor", 0.0, "0: lockstep; N: the cell runs at N times real time", 0.0, 100.0
        )
        self._simulated = self.param("simulated_cell", True, "the cell publishes /cell_truth, which judges the task")
        self._lockstep = self._factor == 0.0
        self._vector = StateVector(self.contract)
        self._ticker = EpisodeTicker()
        self._robot: RobotState | None = None
        self._tool = (np.zeros(7), np.zeros(6))
        """Pose and twist of `_robot`."""
        self._parts: PartPoses | None = None
        self._part_poses: dict[str, np.ndarray] = {}
        self._truth: CellTruth | None = None
        self._laid_out_ns = 0
        """Stamp of the first truth of the newest reset; 0 where no cell says when it was laid out."""
        self._images: dict[str, Image] = {}
        self._stamps_ns: dict[str, int] = {}
        """Of the newest message of each topic that is joined."""
        self._ticked_ns = -1
        self._publisher = self.create_publisher(Observation, "observation", TICK)
        self._outcomes = self.create_publisher(StepOutcome, "episode_outcome", EVENT)
        links, quality = self.contract.staleness, sensor_qos(self._lockstep)
        self._robot_link = self.link("robot_state", links.robot_state_s, self._idle)
        self._parts_link = self.link("part_poses", links.part_poses_s, self._idle)
        self.create_subscription(RobotState, "robot_state", self._on_robot, quality)
        parts = self.create_subscription(PartPoses, "part_poses", self._on_parts, quality)
        if self._simulated:  # its cell publishes all at once, and robot_state last
            read_along(parts)
            read_along(self.create_subscription(CellTruth, "cell_truth", self._on_truth, TICK))
        self._camera_links: dict[str, LinkMonitor] = {}
        for camera in sorted({image.camera for image in self.contract.images}):
            self._watch_camera(camera)
        self.create_service(BeginEpisode, "observation/begin_episode", self._begin)
        self.create_service(EndEpisode, "observation/end_episode", self._end_episode)
        if not self._lockstep:
            period_s = 1.0 / self.contract.control_rate_hz / self._factor
            self._timer = self.steady_timer(period_s, self.guarded(self._tick_by_time))

    def teardown(self) -> None:
        """Drop the running episode: whoever began it hears no more ticks."""
        self._ticker = EpisodeTicker()

    def _idle(self) -> bool:
        """In lockstep the cell stands still between episodes; in real time an arm always says where it is."""
        return not self.active or (self._lockstep and self._ticker.spec is None)

    def _watch_camera(self, camera: str) -> None:
        fields = [field for field in self.contract.images if field.camera == camera]

        def idle() -> bool:
            spec = self._ticker.spec
            return spec is None or not any(field.due(spec.purpose) for field in fields)

        def on_image(image: Image) -> None:
            try:
                check_image(image)
                for field in fields:
                    check_crop(field, image.height, image.width)
                self._check_stamp(image.header.stamp)
            except BadMeasurement as error:
                self.diagnostics.refuse(link, str(error))
                return
            link.saw(self.mono_ns())
            self._images[camera] = image
            self._join(camera, image.header.stamp)

        link = self._camera_links[camera] = self.link(f"camera_{camera}", self.contract.staleness.camera_s, idle)
        topic = f"camera/{camera}/image"
        self.create_subscription(Image, topic, on_image, sensor_qos(self._lockstep))

    def _on_robot(self, state: RobotState) -> None:
        try:
            check_frame(state.header.frame_id, self.contract.base_frame)
            self._check_stamp(state.header.stamp)
            pose, twist = pose_to_array(state.tool_pose), twist_to_array(state.tool_twist)
            check_tool(pose.tolist(), twist.tolist(), state.gripper_width_m)
        except BadMeasurement as error:
            self.diagnostics.refuse(self._robot_link, str(error))
            return
        self._robot_link.saw(self.mono_ns(), state.seq)
        self._robot, self._tool = state, (pose, twist)
        if not self._vector.looks_at_parts:
            self._parts = PartPoses(header=state.header)  # nothing is tracked: the link is as fresh as the arm's state
            self._parts_link.saw(self.mono_ns())
            self._join(PART_POSES, state.header.stamp)
        self._join(ROBOT_STATE, state.header.stamp)

    def _on_parts(self, parts: PartPoses) -> None:
        try:
            check_frame(parts.header.frame_id, self.contract.base_frame)
            self._check_stamp(parts.header.stamp)
            poses = self._usable_parts(parts)
        except BadMeasurement as error:
            self.diagnostics.refuse(self._parts_link, str(error))
            return
        if self._vector.looks_at_parts:
            self._parts_link.saw(self.mono_ns())
            self._parts, self._part_poses = parts, poses
            self._join(PART_POSES, parts.header.stamp)

    def _usable_parts(self, parts: PartPoses) -> dict[str, np.ndarray]:
        """float64[7] by name. Parts that the task does not use may be missing or bad.

        Raises:
            BadMeasurement: names and poses do not fit, or a part that the task uses is missing or bad.
        """
        if len(parts.names) != len(parts.poses) or len(set(parts.names)) != len(parts.names):
            raise BadMeasurement(f"{len(parts.poses)} poses for names {parts.names[:8]}: give each part once")
        poses = {name: pose_to_array(pose) for name, pose in zip(parts.names, parts.poses, strict=True)}
        return self._vector.usable_parts(poses)

    def _check_stamp(self, stamp: Time) -> None:
        """A stamp from the future would seem fresh for as long as its sender's clock is ahead."""
        if self._factor != 1.0:
            return
        ahead_s = (stamp_to_ns(stamp) - self.ros_ns()) * 1e-9
        if ahead_s > MAX_AHEAD_S:
            raise BadMeasurement(
                f"header.stamp is {ahead_s:.3f} s ahead of this machine's clock; synchronise the clocks of both "
                "machines (chrony), or let the driver stamp with this clock"
            )

    def _on_truth(self, truth: CellTruth) -> None:
        if self._truth is None or truth.reset_id != self._truth.reset_id:
            self._laid_out_ns = stamp_to_ns(truth.header.stamp)
        self._truth = truth
        self._join(CELL_TRUTH, truth.header.stamp)

    def _begin(self, request: BeginEpisode.Request, response: BeginEpisode.Response) -> BeginEpisode.Response:
        try:
            if other := self.meant_for_another(request.graph_id):
                raise EpisodeRefused(other)
            if not self.active:
                raise EpisodeRefused("observation_node is not active; see `inril status`")
            self._ticker.begin(
                EpisodeSpec(
                    request.episode_id,
                    Purpose.of(request.purpose).word,
                    request.seed,
                    request.explore,
                    request.max_steps,
                )
            )
        except (EpisodeRefused, ValueError) as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        self._tick_if_joined()
        return response

    def _end_episode(self, request: EndEpisode.Request, response: EndEpisode.Response) -> EndEpisode.Response:
        try:
            if other := self.meant_for_another(request.graph_id):
                raise EpisodeRefused(other)
            success = Label(request.label).success
            self._ticker.request_end(request.episode_id, success, request.by, request.reason)
            response.success = True
        except (EpisodeRefused, ValueError) as error:
            response.success, response.message = False, str(error)
        return response

    def _join(self, name: str, stamp: Time) -> None:
        """Something to be joined has come."""
        if self._lockstep:
            self._stamps_ns[name] = stamp_to_ns(stamp)
            self._tick_if_joined()

    def _tick_if_joined(self) -> None:
        """Lockstep: tick once all inputs of one stamp are there."""
        spec, stamps_ns = self._ticker.spec, self._stamps_ns
        now_ns = stamps_ns.get(ROBOT_STATE)
        if not self._lockstep or not self.active or spec is None or now_ns is None or now_ns == self._ticked_ns:
            return
        parts_ns, truth = now_ns, self._truth
        if self._simulated:
            if truth is None or stamps_ns[CELL_TRUTH] != now_ns or truth.reset_id != spec.episode_id:
                return
            if self._vector.looks_at_parts:  # a tracker's are of some time ago
                parts_ns = stamp_to_ns(truth.part_poses_stamp)
        if stamps_ns.get(PART_POSES) != parts_ns:
            return
        for image in self.contract.images:
            if image.due(spec.purpose) and stamps_ns.get(image.camera) != now_ns:
                return
        self._tick(now_ns)

    def _tick_by_time(self) -> None:
        """Real time: tick with the newest inputs; their ages say how good they are."""
        spec = self._ticker.spec
        if not self.active or spec is None or self._robot is None or self._parts is None:
            return
        if self._simulated and (self._truth is None or self._truth.reset_id != spec.episode_id):
            return
        oldest_ns = min(stamp_to_ns(self._robot.header.stamp), stamp_to_ns(self._parts.header.stamp))
        if oldest_ns < self._laid_out_ns:
            return  # of the time before the cell was laid out, and replaced in a moment
        now_ns = self.ros_ns()
        if self._age_s(self._robot.header.stamp, self._robot_link, now_ns) > self.contract.staleness.robot_state_s:
            return  # the arbiter hears no Observation, holds, and names robot_state
        self._tick(now_ns)

    def _tick(self, now_ns: int) -> None:
        assert self._robot is not None
        try:
            state = self._vector.of_checked(*self._tool, self._robot.gripper_width_m, self._part_poses)
        except BadMeasurement as error:
            self.diagnostics.complain("observation", f"no Observation: {error}")
            return
        report = None
        if self._truth is not None:
            report = CellReport(self._truth.success, self._truth.failed, self._truth.reason)
        tick = self._ticker.tick(report)
        if tick is None:
            return
        self._ticked_ns = now_ns
        self._publish(tick, now_ns, state)

    def _publish(self, tick: EpisodeTick, now_ns: int, state: np.ndarray) -> None:
        assert self._robot is not None
        message = Observation(
            boot_id=self.boot_id,
            k=tick.k,
            episode_id=tick.spec.episode_id,
            step=tick.step,
            phase=Phase.RUN,
            purpose=Purpose.of(tick.spec.purpose),
            seed=tick.spec.seed,
            explore=tick.spec.explore,
            last=tick.last,
        )
        message.header.stamp = ns_to_stamp(now_ns)
        message.header.frame_id = self.contract.base_frame
        message.state = float32_array(state)
        message.tool_pose = self._robot.tool_pose
        message.images = self._due_images(tick, now_ns)
        message.link_age_s = float32_array(self._ages(now_ns))
        if tick.outcome is not None:
            message.outcome = _outcome_message(tick, tick.outcome)
        self._publisher.publish(message)
        if tick.last:
            self._outcomes.publish(message.outcome)
            between_episodes()

    def _due_images(self, tick: EpisodeTick, now_ns: int) -> list[Image]:
        images = []
        for field in self.contract.images:
            image = self._images.get(field.camera)
            if image is None or not field.due(tick.spec.purpose):
                continue
            link = self._camera_links[field.camera]
            if self._age_s(image.header.stamp, link, now_ns) > self.contract.staleness.camera_s:
                continue
            prepared = prepare_image(image_to_array(image), field)
            images.append(array_to_image(prepared, image.header.stamp, frame_id=field.name))
        return images

    def _ages(self, now_ns: int) -> np.ndarray:
        """Age of each link, in the contract's order; NaN where a link was never heard."""
        assert self._robot is not None and self._parts is not None
        ages = [
            self._age_s(self._robot.header.stamp, self._robot_link, now_ns),
            self._age_s(self._parts.header.stamp, self._parts_link, now_ns),
        ]
        for field in self.contract.images:
            image = self._images.get(field.camera)
            if image is None:
                ages.append(math.nan)
            else:
                ages.append(self._age_s(image.header.stamp, self._camera_links[field.camera], now_ns))
        return np.array(ages, np.float32)

    def _age_s(self, stamp: Time, link: LinkMonitor, now_ns: int) -> float:
        """Age of what was taken last: by its stamp, and in real time at least the time since it came.

        By the stamp alone a driver that is silent would seem alive for as long as the clock was set back.
        """
        by_stamp_s = (now_ns - stamp_to_ns(stamp)) * 1e-9
        if self._lockstep:
            return by_stamp_s
        return max(by_stamp_s, (link.age_s(self.mono_ns()) or 0.0) * self._factor)


def _outcome_message(tick: EpisodeTick, outcome: Outcome) -> StepOutcome:
    return StepOutcome(
        episode_id=tick.spec.episode_id,
        step=tick.step - 1,
        success=outcome.success,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        source=outcome.source,
        reason=outcome.reason,
    )


def main() -> None:
    """Entry point."""
    run_node(ObservationNode)


if __name__ == "__main__":
    main()
