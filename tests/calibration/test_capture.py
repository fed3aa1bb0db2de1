"""Pins: a pose is taken only at rest, with the board in view and where none was taken, and what is missing is said; the
node does so over real DDS, and its file gives the right calibration."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from inril_core.calibration import rigid
from inril_core.calibration.board import load_board
from inril_core.calibration.capture import Capture
from inril_core.calibration.hand_eye import calibrate
from inril_core.calibration.hand_eye_data import read_hand_eye
from inril_core.calibration.rendered import BoardCamera, random_views
from inril_core.calibration.stored import Stored, now, rows, write_stored
from inril_core.errors import ConfigError
from tests.calibration.made_poses import T_of

BOARD = load_board(Path(__file__).resolve().parents[2] / "calibration" / "boards" / "charuco_8x6_30mm.yaml")
X, Y = T_of([-1.9, 0.4, 0.3], [1.1, 0.2, 0.5]), T_of([0.3, 0.1, -1.0], [0.02, -0.04, 0.08])
Scene = tuple[BoardCamera, np.ndarray, list[np.ndarray]]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A camera, the arm's poses with the board in its gripper, and an image at each."""
    rng = np.random.default_rng(5)
    with BoardCamera(BOARD) as eye:
        poses, images = [], []
        while len(poses) < 12:
            T = random_views(BOARD, eye.camera, rng, 1, 0.6)[0]
            image = eye.image(T, rng, 0.7, 4.0)
            if len(BOARD.find(image)[1]) > 0.9 * len(BOARD.points):
                poses.append(X @ T @ rigid.inverse(Y))
                images.append(image)
        return eye, np.array(poses), images


def rest(capture: Capture, start_s: float, pose: np.ndarray, seconds: float = 0.6) -> float:
    """Ten measurements a second; the time of the last one."""
    times = start_s + np.arange(0.0, seconds + 0.05, 0.1)
    for t in times:
        capture.pose(float(t), pose)
    return float(times[-1])


def test_what_is_taken_and_what_is_missing(scene: Scene, tmp_path: Path) -> None:
    eye, poses, images = scene
    capture = Capture(BOARD, eye.camera, "eye_to_hand", wanted=10)
    assert "no pose of the arm" in capture.image(0.0, images[0])
    t = rest(capture, 0.0, poses[0], seconds=0.2)
    assert "long enough" in capture.image(t, images[0])
    t = rest(capture, t + 0.1, poses[0])
    capture.pose(t + 0.05, poses[0] @ T_of([0.0, 0.0, 0.0], [0.001, 0.0, 0.0]))
    assert "the arm moves" in capture.image(t + 0.05, images[0])
    assert "no pose of the arm" in capture.image(t + 1.0, images[0])
    t = rest(capture, t + 1.0, poses[0])
    assert "0 of 35 corners seen" in capture.image(t, np.zeros((480, 640, 3), np.uint8))
    assert "pose 1 taken; 9 more poses are missing" in capture.image(t, images[0])
    assert "this pose is taken" in capture.image(t, images[0])
    for i in range(1, 12):
        if capture.complete:
            break
        t = rest(capture, t + 1.0, poses[i])
        assert "taken" in capture.image(t, images[i])
    assert capture.complete and len(capture.taken) == 10
    assert capture.save(tmp_path / "poses.npz") == 10
    again = Capture(BOARD, eye.camera, "eye_to_hand", wanted=10)
    again.resume(tmp_path / "poses.npz")
    assert again.complete and again.save(tmp_path / "again.npz") == 10
    for a, b in zip(again.taken, capture.taken, strict=True):
        assert np.array_equal(a.T_base_gripper, b.T_base_gripper) and set(a.numbers) <= set(b.numbers)
    with pytest.raises(ConfigError, match="another board, camera or mode"):
        Capture(BOARD, eye.camera, "eye_in_hand", wanted=10).resume(tmp_path / "poses.npz")
    found = calibrate(read_hand_eye(tmp_path / "poses.npz"))
    distance_m, angle = rigid.difference(found.T, X)
    assert distance_m < 1e-3 and math.degrees(angle) < 0.1


def test_turns_that_are_missing_are_named(scene: Scene) -> None:
    eye, poses, images = scene
    capture = Capture(BOARD, eye.camera, "eye_to_hand", wanted=3)
    t = 0.0
    for i in range(4):  # the same turn at several places
        t = rest(capture, t + 1.0, rigid.compose(poses[0, :3, :3], poses[i, :3, 3] + 0.03 * i))
        capture.image(t, images[i])
    assert "turned by 20 to 40 deg about the gripper's x axis" in capture.missing() and not capture.complete


def test_nothing_taken_is_not_written(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pose was taken"):
        Capture(BOARD, scene[0].camera, "eye_to_hand", 10).save(tmp_path / "poses.npz")
    assert not (tmp_path / "poses.npz").exists()


def test_the_node_collects_and_ends(scene: Scene, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from inril_calibration.capture_node import CaptureNode
    from inril_common.convert import array_to_image, array_to_pose, ns_to_stamp
    from inril_common.node import NodeFinished
    from inril_common.qos import LATCHED, TICK
    from inril_msgs.msg import RobotState
    from scipy.spatial.transform import Rotation
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    from tests.sim.nodes import bench

    eye, poses, images = scene
    intrinsics = {"width_px": 640, "height_px": 480, "K": rows(eye.camera.K), "distortion": [0.0] * 5}
    stored = {"kind": "intrinsics", "name": "intrinsics_front", "created": now(), "software": "inril"}
    path = tmp_path / "intrinsics_front.yaml"
    write_stored(path, Stored.model_validate({**stored, "intrinsics": intrinsics}))
    board = Path(__file__).resolve().parents[2] / "calibration" / "boards" / "charuco_8x6_30mm.yaml"
    out = tmp_path / "poses.npz"
    with bench(CaptureNode, board=str(board), intrinsics=str(path), out=str(out), poses=6) as made:
        heard: list[str] = []
        made.client.create_subscription(String, "calibration/capture", lambda m: heard.append(m.data), LATCHED)
        states = made.client.create_publisher(RobotState, "robot_state", TICK)
        camera = made.client.create_publisher(Image, "camera/front/image", TICK)
        made.until(lambda: states.get_subscription_count() and camera.get_subscription_count(), "subscriptions")
        stamp_ns = 10**18
        wrong = RobotState()
        wrong.header.frame_id = "map"
        states.publish(wrong)
        made.until(lambda: any("frame 'map'" in text for text in heard), "word about the frame")
        with pytest.raises(NodeFinished) as finished:
            for i in range(len(poses)):
                message = RobotState()
                message.header.frame_id = "base"
                q = Rotation.from_matrix(poses[i, :3, :3]).as_quat()
                message.tool_pose = array_to_pose(np.concatenate([poses[i, :3, 3], q]))
                for _ in range(7):
                    stamp_ns += 100_000_000
                    message.header.stamp = ns_to_stamp(stamp_ns)
                    states.publish(message)
                last = 1e-9 * stamp_ns
                made.until(
                    lambda t=last: made.node._capture._poses and made.node._capture._poses[-1][0] >= t - 1e-4, "poses"
                )
                camera.publish(array_to_image(images[i], ns_to_stamp(stamp_ns), "front"))
                made.until(lambda n=i + 1: any(f"pose {n} taken" in text for text in heard), "pose")
        assert finished.value.code == 0
        assert calibrate(read_hand_eye(out)).T[:3, 3] == pytest.approx(X[:3, 3], abs=1.5e-3)
