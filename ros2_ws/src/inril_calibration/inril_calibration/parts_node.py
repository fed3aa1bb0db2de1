"""Publishes the poses of a task's parts from the AprilTags on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from inril_common.convert import array_to_pose, image_to_array, stamp_to_ns
from inril_common.diagnostics import OK, WARN, Health
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import TICK
from inril_msgs.msg import PartPoses
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image

from inril_core.calibration.stored import read_intrinsics, read_stored
from inril_core.calibration.tags import load_layout
from inril_core.errors import ConfigError
from inril_core.parts import PartPose, PartTracker


class PartsNode(InrilPlainNode):
    """Listens to camera/<name>/image of a fixed camera and publishes part_poses, stamped with the image's time.

    A part is published from an image in which it is seen, and not again before it is seen again: its age is that of
    the message. One that is seen with less than `min_confidence` is left out. Both numbers stand in /diagnostics.
    """

    def __init__(self) -> None:
        super().__init__("parts_node")

    def setup(self) -> None:
        """Read layout, intrinsics and the camera's place, and listen."""
        contract = self.contract_param()
        camera = self.param("camera", "front", "fixed camera that sees the parts")
        paths = {
            name: Path(self.param(name, "", description))
            for name, description in (
                ("layout", "file of the tags on the parts"),
                ("intrinsics", "file of the camera's intrinsics"),
                ("camera_pose", "file of the camera's place, T_base_NAME.yaml"),
            )
        }
        smoothing_s = self.param("smoothing_s", 0.1, "time constant of the low-pass filter; 0: none", 0.0, 10.0)
        forget_s = self.param("forget_s", 1.0, "a part not seen for so long begins anew", 0.01, 60.0)
        self._least = self.param("min_confidence", 0.2, "parts below it are left out", 0.0, 1.0)
        for name, path in paths.items():
            if path == Path():
                raise ConfigError(f"parts_node: parameter {name} is not set; give the path of its YAML file")
        place = read_stored(paths["camera_pose"])
        if place.T is None or not place.name.startswith("T_base_"):
            raise ConfigError(f"parts_node: camera_pose = {paths['camera_pose']}: holds no T_base_NAME")
        _, eye = read_intrinsics(paths["intrinsics"])
        self._tracker = PartTracker(load_layout(paths["layout"]), eye, np.array(place.T), smoothing_s, forget_s)
        self._frame = contract.base_frame
        self._last: list[PartPose] = []
        self._publisher = self.create_publisher(PartPoses, "part_poses", TICK)
        self.diagnose("parts", self._health)
        self.create_subscription(Image, f"camera/{camera}/image", self._on_image, TICK)

    def _on_image(self, image: Image) -> None:
        stamp_s = 1e-9 * stamp_to_ns(image.header.stamp)
        self._tracker.image(stamp_s, image_to_array(image))
        self._last = self._tracker.parts(stamp_s)
        message = PartPoses()
        message.header.stamp, message.header.frame_id = image.header.stamp, self._frame
        for part in self._last:
            if part.age_s == 0.0 and part.confidence >= self._least:
                message.names.append(part.name)
                quaternion = Rotation.from_matrix(part.T_base_part[:3, :3]).as_quat()
                message.poses.append(array_to_pose(np.concatenate([part.T_base_part[:3, 3], quaternion])))
        if message.names:
            self._publisher.publish(message)

    def _health(self) -> Health:
        seen = {part.name: f"age {part.age_s:.2f} s, confidence {part.confidence:.2f}" for part in self._last}
        return Health(OK, "ok", seen) if seen else Health(WARN, "no part is seen", seen)


def main() -> None:
    """Entry point."""
    run_node(PartsNode)


if __name__ == "__main__":
    main()
