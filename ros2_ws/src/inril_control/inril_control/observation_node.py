"""The metronome: joins the newest measurements into Observation(k) and numbers the episode's steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from inril_common.convert import (
    array_to_image,
    float32_array,
    image_to_array,
    ns_to_stamp,
    pose_to_array,
    stamp_to_ns,
    twist_to_array,
)
from inril_common.node import InrilNode, run_node
from inril_common.qos import EVENT, TICK
from inril_msgs.msg import CellTruth, EpisodeEvent, Observation, PartPoses, RobotState, StepOutcome
from inril_msgs.srv import BeginEpisode, EndEpisode
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from inril_core.control.observation import BadMeasurement, StateVector, prepare_image
from inril_core.control.ticker import EpisodeRefused, EpisodeSpec, EpisodeTicker, Outcome, Tick, Verdict

PURPOSES = {
    "demo": Observation.PURPOSE_DEMO,
    "train": Observation.PURPOSE_TRAIN,
    "eval": Observation.PURPOSE_EVAL,
}
PURPOSE_NAMES = {code: name for name, code in PURPOSES.items()}


class ObservationNode(InrilNode):
    """Publishes /observation, and /episode_outcome when an episode closes.

    In lockstep the inputs are joined for equal stamps and each state is one tick. At a real time
    factor the node's own steady timer ticks with the newest inputs, whose ages it reports.
    """

    def __init__(self) -> None:
        super().__init__("observation_node")

    def setup(self) -> None:
        """Subscribe to the cell and serve begin_episode and end_episode."""
        self.contract = self.contract_param()
        factor = self.param("real_time_factor", 0.0, "0: lockstep; N: the cell runs at N times real time", 0.0, 100.0)
        self.param("run_dir", "runs/run", "folder of this run")
        self._simulated = self.param("simulated_cell", True, "the cell publishes /cell_truth, which judges the task")
        self._lockstep = factor == 0.0
        if factor not in (0.0, 1.0):  # the cell's stamps are then those of its /clock
            self.set_parameters([Parameter("use_sim_time", Parameter.Type.BOOL, True)])
        self._vector = StateVector(self.contract)
        self._ticker = EpisodeTicker()
        self._robot: RobotState | None = None
        self._parts: PartPoses | None = None
        self._truth: CellTruth | None = None
        self._images: dict[str, Image] = {}
        self._ticked_ns = -1
        self._publisher = self.create_publisher(Observation, "observation", TICK)
        self._outcomes = self.create_publisher(StepOutcome, "episode_outcome", EVENT)
        links = self.contract.staleness
        self._robot_link = self.link("robot_state", links.robot_state_s)
        self._parts_link = self.link("part_poses", links.part_poses_s)
        self.create_subscription(RobotState, "robot_state", self._on_robot, TICK)
        self.create_subscription(PartPoses, "part_poses", self._on_parts, TICK)
        if self._simulated:
            self.create_subscription(CellTruth, "cell_truth", self._on_truth, TICK)
        for camera in sorted({image.camera for image in self.contract.images}):
            self._watch_camera(camera)
        self.create_service(BeginEpisode, "observation/begin_episode", self._begin)
        self.create_service(EndEpisode, "observation/end_episode", self._end_episode)
        self._timer: Any = None
        if not self._lockstep:
            period_s = 1.0 / self.contract.control_rate_hz / factor
            self._timer = self.create_timer(period_s, self._tick_by_time, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def teardown(self) -> None:
        """Drop the running episode: whoever began it hears no more ticks."""
        self._ticker = EpisodeTicker()

    def _watch_camera(self, camera: str) -> None:
        monitor = self.link(f"camera_{camera}", self.contract.staleness.camera_s)

        def on_image(image: Image) -> None:
            monitor.saw(self.mono_ns())
            self._images[camera] = image
            self._join()

        self.create_subscription(Image, f"camera/{camera}/image", on_image, TICK)

    def _on_robot(self, state: RobotState) -> None:
        self._robot_link.saw(self.mono_ns(), state.seq)
        self._robot = state
        self._join()

    def _on_parts(self, parts: PartPoses) -> None:
        self._parts_link.saw(self.mono_ns())
        self._parts = parts
        self._join()

    def _on_truth(self, truth: CellTruth) -> None:
        self._truth = truth
        self._join()

    def _begin(self, request: BeginEpisode.Request, response: BeginEpisode.Response) -> BeginEpisode.Response:
        try:
            if other := self.meant_for_another(request.graph_id):
                raise EpisodeRefused(other)
            if not self.active:
                raise EpisodeRefused("observation_node is not active; see `inril status`")
            if request.purpose not in PURPOSE_NAMES:
                raise EpisodeRefused(f"purpose = {request.purpose}: give one of {PURPOSES}")
            self._ticker.begin(
                EpisodeSpec(
                    request.episode_id,
                    PURPOSE_NAMES[request.purpose],
                    request.seed,
                    request.explore,
                    request.max_steps,
                )
            )
        except EpisodeRefused as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        self._join()
        return response

    def _end_episode(self, request: EndEpisode.Request, response: EndEpisode.Response) -> EndEpisode.Response:
        labels = {EpisodeEvent.LABEL_SUCCESS: True, EpisodeEvent.LABEL_FAILURE: False}
        try:
            if other := self.meant_for_another(request.graph_id):
                raise EpisodeRefused(other)
            self._ticker.request_end(request.episode_id, labels.get(request.label), request.by, request.reason)
            response.success = True
        except EpisodeRefused as error:
            response.success, response.message = False, str(error)
        return response

    def _join(self) -> None:
        """Lockstep: tick once all inputs of one stamp are there."""
        spec = self._ticker.spec
        if not self._lockstep or not self.active or spec is None or self._robot is None or self._parts is None:
            return
        stamp = self._robot.header.stamp
        if self._parts.header.stamp != stamp:
            return
        truth = self._truth
        if self._simulated and (truth is None or truth.header.stamp != stamp or truth.reset_id != spec.episode_id):
            return
        due = {image.camera for image in self.contract.images if image.due(spec.purpose)}
        if any(camera not in self._images or self._images[camera].header.stamp != stamp for camera in due):
            return
        now_ns = stamp_to_ns(stamp)
        if now_ns != self._ticked_ns:
            self._tick(now_ns)

    def _tick_by_time(self) -> None:
        """Real time: tick with the newest inputs; their ages say how good they are."""
        spec = self._ticker.spec
        if not self.active or spec is None or self._robot is None or self._parts is None:
            return
        if self._simulated and (self._truth is None or self._truth.reset_id != spec.episode_id):
            return
        now_ns = self.ros_ns()
        if (now_ns - stamp_to_ns(self._robot.header.stamp)) * 1e-9 > self.contract.staleness.robot_state_s:
            return  # the arbiter hears no Observation, holds, and names robot_state
        self._tick(now_ns)

    def _tick(self, now_ns: int) -> None:
        assert self._robot is not None and self._parts is not None
        parts = {name: pose_to_array(p) for name, p in zip(self._parts.names, self._parts.poses, strict=False)}
        tool_pose = pose_to_array(self._robot.tool_pose)
        try:
            state = self._vector(tool_pose, twist_to_array(self._robot.tool_twist), self._robot.gripper_width_m, parts)
        except BadMeasurement as error:
            self.get_logger().error(f"no Observation: {error}", throttle_duration_sec=1.0)
            return
        verdict = None
        if self._truth is not None:
            verdict = Verdict(self._truth.success, self._truth.failed, self._truth.reason)
        tick = self._ticker.tick(verdict)
        if tick is None:
            return
        self._ticked_ns = now_ns
        self._publish(tick, now_ns, state)

    def _publish(self, tick: Tick, now_ns: int, state: np.ndarray) -> None:
        assert self._robot is not None
        message = Observation(
            boot_id=self.boot_id,
            k=tick.k,
            episode_id=tick.spec.episode_id,
            step=tick.step,
            phase=Observation.PHASE_RUN,
            purpose=PURPOSES[tick.spec.purpose],
            seed=tick.spec.seed,
            explore=tick.spec.explore,
            last=tick.last,
        )
        message.header.stamp = ns_to_stamp(now_ns)
        message.header.frame_id = self._robot.header.frame_id
        message.state = float32_array(state)
        message.tool_pose = self._robot.tool_pose
        message.images = self._due_images(tick, now_ns)
        message.link_age_s = float32_array(self._ages(now_ns))
        if tick.outcome is not None:
            message.outcome = _outcome_message(tick.outcome)
        self._publisher.publish(message)
        if tick.last:
            self._outcomes.publish(message.outcome)

    def _due_images(self, tick: Tick, now_ns: int) -> list[Image]:
        images = []
        for field in self.contract.images:
            image = self._images.get(field.camera)
            if image is None or not field.due(tick.spec.purpose):
                continue
            if (now_ns - stamp_to_ns(image.header.stamp)) * 1e-9 > self.contract.staleness.camera_s:
                continue
            prepared = prepare_image(image_to_array(image), field)
            images.append(array_to_image(prepared, image.header.stamp, frame_id=field.name))
        return images

    def _ages(self, now_ns: int) -> np.ndarray:
        """Age of each link by its stamp; NaN where a link is not due or was never heard."""
        assert self._robot is not None and self._parts is not None
        stamps = [self._robot.header.stamp, self._parts.header.stamp]
        ages = [(now_ns - stamp_to_ns(stamp)) * 1e-9 for stamp in stamps]
        for field in self.contract.images:
            image = self._images.get(field.camera)
            ages.append(math.nan if image is None else (now_ns - stamp_to_ns(image.header.stamp)) * 1e-9)
        return np.array(ages, np.float32)


def _outcome_message(outcome: Outcome) -> StepOutcome:
    return StepOutcome(
        episode_id=outcome.episode_id,
        step=outcome.step,
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
