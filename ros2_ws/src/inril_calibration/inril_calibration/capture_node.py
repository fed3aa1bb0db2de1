"""Collects robot poses and images of a board for `inril calibrate hand-eye`, and says which pose is missing."""

from __future__ import annotations

from pathlib import Path

from inril_common.convert import image_to_array, pose_to_array, stamp_to_ns
from inril_common.node import InrilPlainNode, NodeFinished
from inril_common.process import run_node
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import RobotState
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image
from std_msgs.msg import String

from inril_core.calibration import rigid
from inril_core.calibration.board import load_board
from inril_core.calibration.capture import Capture
from inril_core.calibration.hand_eye_data import MODES
from inril_core.calibration.stored import read_intrinsics
from inril_core.errors import ConfigError
from inril_core.transforms import pose_problem


class CaptureNode(InrilPlainNode):
    """Listens to robot_state and camera/<name>/image; commands nothing. A person or another program moves the arm.

    Publishes calibration/capture (std_msgs/String, latched): what was taken and what is missing. Writes the file after
    each pose that it takes and goes on with a file that is there, so a crash costs none. Ends with exit code 0 when
    nothing is missing.
    """

    def __init__(self) -> None:
        super().__init__("capture_node")

    def setup(self) -> None:
        """Read board and intrinsics, and listen."""
        contract = self.contract_param()
        camera = self.param("camera", "front", "camera that looks at the board")
        board = self.param("board", "", "file of the board")
        intrinsics = self.param("intrinsics", "", "file of the camera's intrinsics (inril calibrate intrinsics)")
        mode = self.param("mode", "eye_to_hand", "where the camera is fixed", choices=MODES)
        wanted = self.param("poses", 15, "poses to take", 5, 1000)
        self._out = Path(self.param("out", "poses.npz", "file to write"))
        for name, value in (("board", board), ("intrinsics", intrinsics)):
            if not value:
                raise ConfigError(f"capture_node: parameter {name} is not set; give the path of its YAML file")
        _, eye = read_intrinsics(Path(intrinsics))
        self._capture = Capture(load_board(Path(board)), eye, MODES[MODES.index(mode)], wanted)  # type: ignore[arg-type]
        if self._out.exists():
            self._capture.resume(self._out)
        self._frame, self._said = contract.base_frame, ""
        self._status = self.create_publisher(String, "calibration/capture", LATCHED)
        self.create_subscription(RobotState, "robot_state", self._on_state, TICK)
        self.create_subscription(Image, f"camera/{camera}/image", self._on_image, TICK)
        self._say(self._capture.missing())

    def _on_state(self, state: RobotState) -> None:
        if state.header.frame_id != self._frame:
            self._say(
                f"robot_state is in frame {state.header.frame_id!r}, the contract's base_frame is {self._frame!r}"
            )
            return
        values = pose_to_array(state.tool_pose)
        if problem := pose_problem(values.tolist()):
            self._say(f"tool_pose in robot_state is none: {problem}")
            return
        pose = rigid.compose(Rotation.from_quat(values[3:]).as_matrix(), values[:3])
        self._capture.pose(1e-9 * stamp_to_ns(state.header.stamp), pose)

    def _on_image(self, image: Image) -> None:
        before = len(self._capture.taken)
        self._say(self._capture.image(1e-9 * stamp_to_ns(image.header.stamp), image_to_array(image)))
        if len(self._capture.taken) > before:
            self._capture.save(self._out)
            if self._capture.complete:
                self._say(f"{self._capture.missing()}: inril calibrate hand-eye --poses {self._out}")
                raise NodeFinished(0)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.get_logger().info(text)
            self._status.publish(String(data=text))


def main() -> None:
    """Entry point."""
    run_node(CaptureNode)


if __name__ == "__main__":
    main()
