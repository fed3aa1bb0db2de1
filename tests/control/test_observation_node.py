"""Pins: observation_node ended by what a driver says, deaf to one that is best effort, or silent about either."""

import math
import time

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Pose
from inril_common.convert import byte_array, image_to_array
from inril_common.qos import EVENT, SENSOR, TICK
from inril_msgs.msg import Observation, PartPoses, RobotState
from inril_msgs.srv import BeginEpisode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from tests.graph.harness import patient_contract

MODULE = "inril_control.observation_node"
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def posed(x: float = 0.5, y: float = 0.0, z: float = 0.2, qx: float = 1.0, qw: float = 0.0) -> Pose:
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = x, y, z
    pose.orientation.x, pose.orientation.w = qx, qw
    return pose


def robot(second: int = 0, **fields) -> RobotState:
    message = RobotState(boot_id="arm", tool_pose=posed())
    return stamped(message, second, **fields)


def parts(second: int = 0, **fields) -> PartPoses:
    message = PartPoses(names=["leg", "hole"], poses=[posed(z=0.15), posed(z=0.05, qx=0.0, qw=1.0)])
    return stamped(message, second, **fields)


def picture(second: int = 0, encoding: str = "rgb8", step: int = 252, data: bytes | None = None, **fields) -> Image:
    message = Image(height=84, width=84, encoding=encoding, step=step)
    message.data = byte_array(bytes(step * 84) if data is None else data)
    return stamped(message, second, **fields)


def stamped(message, second: int, frame_id: str = "base", **fields):
    message.header.stamp.sec, message.header.frame_id = second, frame_id
    for name, value in fields.items():
        setattr(message, name, value)
    return message


BAD_ROBOTS = {
    "NaN position": {"tool_pose": posed(x=math.nan)},
    "1e150 m": {"tool_pose": posed(x=1e150)},
    "never filled": {"tool_pose": Pose()},
    "zero quaternion": {"tool_pose": Pose(orientation=posed(qx=0.0, qw=0.0).orientation)},
    "infinite quaternion": {"tool_pose": posed(qx=math.inf)},
    "NaN gripper": {"gripper_width_m": math.nan},
    "no frame": {"frame_id": ""},
    "another frame": {"frame_id": "panda_link0"},
}
BAD_PARTS = {
    "NaN quaternion": {"poses": [posed(qx=math.nan), posed()]},
    "zero quaternion": {"poses": [posed(qx=0.0), posed()]},
    "unknown names": {"names": ["lag", "hole"]},
    "more names than poses": {"names": ["leg", "hole", "screw"]},
    "a part twice": {"names": ["leg", "leg"]},
    "nothing": {"names": [], "poses": []},
    "another frame": {"frame_id": "camera"},
}
BAD_PICTURES = {
    "never filled": {"height": 0, "width": 0, "step": 0, "encoding": "", "data": b""},
    "unknown encoding": {"encoding": "yuv422"},
    "depth": {"encoding": "16UC1", "step": 168},
    "too short": {"data": bytes(100)},
    "step too small": {"step": 100},
    "smaller than its crop": {"height": 20, "width": 20, "step": 60, "data": bytes(1200)},
}


def contract_with_a_crop(folder) -> str:
    path = patient_contract(folder)
    content = yaml.safe_load(path.read_text())
    content["images"][0]["crop_px"] = [0, 0, 84, 84]
    path.write_text(yaml.safe_dump(content))
    return str(path)


def begin(bench, episode_id: str, purpose: int) -> None:
    request = BeginEpisode.Request(episode_id=episode_id, purpose=purpose, max_steps=1000)
    response = bench.ask(BeginEpisode, "/observation/begin_episode", request)
    assert response.success, response.message


def named(diagnostics: list[DiagnosticArray], line: str, level: bytes) -> DiagnosticStatus | None:
    name = f"observation_node: {line}"
    return next((s for d in reversed(diagnostics) for s in d.status if s.name == name and s.level == level), None)


def refused(diagnostics: list[DiagnosticArray], line: str) -> int:
    name = f"observation_node: {line}"
    status = next((s for d in reversed(diagnostics) for s in d.status if s.name == name), DiagnosticStatus())
    return next((int(value.value) for value in status.values if value.key == "refused"), 0)


def all_refused(bench, diagnostics: list[DiagnosticArray], line: str, count: int) -> None:
    """Wait for it, so that no queue gets longer than it may be."""
    bench.until(lambda: refused(diagnostics, line) == count, f"{count} refused messages of {line}")
    error = bench.until(lambda: named(diagnostics, line, DiagnosticStatus.ERROR), f"an error of {line}")
    assert error.message.startswith("left out: ")


def test_what_cannot_be_is_left_out_by_name_and_the_next_message_is_taken(bench, tmp_path):
    observations = bench.hear(Observation, "/observation", TICK)
    diagnostics = bench.hear(DiagnosticArray, "/diagnostics", EVENT)
    process = bench.start(MODULE, simulated_cell=False, contract=contract_with_a_crop(tmp_path))
    say_robot = bench.speak(RobotState, "/robot_state", TICK)
    say_parts = bench.speak(PartPoses, "/part_poses", TICK)
    show = bench.speak(Image, "/camera/front/image", TICK)
    bench.until(lambda: named(diagnostics, "robot_state", DiagnosticStatus.OK), "a link that is idle")
    begin(bench, "e", Observation.PURPOSE_DEMO)
    second = 100
    for line, cases in (("robot_state", BAD_ROBOTS), ("part_poses", BAD_PARTS), ("camera_front", BAD_PICTURES)):
        for bad in cases.values():
            second += 1
            say_robot(robot(second, **(bad if cases is BAD_ROBOTS else {})))
            say_parts(parts(second, **(bad if cases is BAD_PARTS else {})))
            show(picture(second, **(bad if cases is BAD_PICTURES else {})))
        all_refused(bench, diagnostics, line, len(cases))
    assert not observations

    colours = np.random.default_rng(0).integers(0, 256, (84, 84, 3), dtype=np.uint8)
    padded = np.concatenate([colours[..., ::-1].reshape(84, 252), np.zeros((84, 4), np.uint8)], axis=1)
    second += 1
    show(picture(second, "bgr8", 256, padded.tobytes()))
    say_parts(parts(second, names=["leg", "hole", "screw"], poses=[*parts().poses, posed(x=math.nan)]))
    say_robot(robot(second))
    bench.until(lambda: observations, "an Observation")
    assert [(o.k, o.header.stamp.sec, o.header.frame_id) for o in observations] == [(0, second, "base")]
    np.testing.assert_array_equal(image_to_array(observations[0].images[0]), colours)
    assert bench.end(process) == 0


@pytest.mark.parametrize("quality", [BEST_EFFORT, TICK], ids=["best_effort", "reliable"])
def test_in_real_time_drivers_of_both_kinds_are_heard_and_a_bad_link_grows_old(bench, tmp_path, quality):
    observations = bench.hear(Observation, "/observation", TICK)
    contract = patient_contract(tmp_path)
    bench.start(MODULE, simulated_cell=False, real_time_factor=1.0, contract=contract)
    say_robot = bench.speak(RobotState, "/robot_state", quality)
    say_parts = bench.speak(PartPoses, "/part_poses", quality)
    show = bench.speak(Image, "/camera/front/image", quality)
    next_ns, tracker_is_lost = 0, False

    def drive() -> None:
        nonlocal next_ns
        if time.monotonic_ns() < next_ns:
            return
        next_ns = time.monotonic_ns() + 50_000_000
        now = bench.node.get_clock().now().to_msg()
        for message, say in ((robot(), say_robot), (parts(), say_parts), (picture(), show)):
            message.header.stamp = now
            if tracker_is_lost and message.__class__ is PartPoses:
                message.poses[0] = posed(qx=math.nan)
            say(message)

    def observed(condition) -> bool:
        drive()
        return bool(observations) and condition(observations[-1])

    begin(bench, "e", Observation.PURPOSE_DEMO)
    bench.until(lambda: observed(lambda o: len(o.images) == 1), "an Observation with its picture")
    tracker_is_lost = True
    bench.until(lambda: observed(lambda o: o.link_age_s[1] > 1.0), "the age of the tracker's link")
    assert observations[-1].link_age_s[0] < observations[-1].link_age_s[1], "the arm's link is sound"


def test_in_lockstep_a_best_effort_cell_is_named_with_the_fix(bench):
    diagnostics = bench.hear(DiagnosticArray, "/diagnostics", EVENT)
    bench.start(MODULE, simulated_cell=False)
    publisher = bench.node.create_publisher(RobotState, "/robot_state", SENSOR)

    def error():
        return named(diagnostics, "quality of service", DiagnosticStatus.ERROR)

    text = bench.until(error, "an error").message
    assert "/robot_state: /bench offers reliability BEST_EFFORT, this node requests RELIABLE" in text
    assert "publish with reliability RELIABLE" in text
    bench.node.destroy_publisher(publisher)
    gone = bench.until(lambda: named(diagnostics, "quality of service", DiagnosticStatus.OK), "the end of the error")
    assert "gone" in gone.message
