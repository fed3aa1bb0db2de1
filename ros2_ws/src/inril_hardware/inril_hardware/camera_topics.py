"""The topics of one camera: image, JPEG, calibration, depth. Each is made while somebody listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from inril_common.convert import array_to_image, byte_array
from inril_common.diagnostics import ERROR, OK, Health
from inril_common.qos import TICK
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from inril_core.calibration.stored import StoredIntrinsics, intrinsics_for
from inril_core.errors import ConfigError

JPEG_QUALITY = 90
"""docs/results/recording.md compares it with others."""


class CameraTopics:
    """Publishes camera/NAME/image, image/compressed, camera_info and depth for a node.

    calibration: folder of the stored calibrations; `intrinsics_NAME.yaml` of it goes into camera_info. If it is of
    another camera (serial number) or size, camera_info says "not calibrated" (`k` is zeros), and /diagnostics why.
    """

    def __init__(self, node: Any, camera: str, calibration: Path) -> None:
        self._node, self._camera, self._folder = node, camera, calibration
        topic = f"camera/{camera}"
        self._image = node.create_publisher(Image, f"{topic}/image", TICK)
        self._compressed = node.create_publisher(CompressedImage, f"{topic}/image/compressed", TICK)
        self._info = node.create_publisher(CameraInfo, f"{topic}/camera_info", TICK)
        self._depth = node.create_publisher(Image, f"{topic}/depth", TICK)
        self._frame_id = f"camera_{camera}"
        self._looked_for: tuple[str, int, int] | None = None
        """Serial number, width and height that `_intrinsics` was read for."""
        self._intrinsics: StoredIntrinsics | None = None
        self._wrong = ""
        node.diagnose(f"calibration_{camera}", self._health)

    def publish(self, pixels: np.ndarray, stamp: Time, serial: str = "", depth_mm: np.ndarray | None = None) -> None:
        """Publish one image.

        Args:
            pixels: uint8[H, W, 3], red first.
            serial: of the camera that gave it; empty: it has none.
            depth_mm: uint16[H, W]; None: no depth.
        """
        if self._image.get_subscription_count():
            self._image.publish(array_to_image(pixels, stamp, self._frame_id))
        if self._compressed.get_subscription_count():
            self._compressed.publish(self._jpeg(pixels, stamp))
        if depth_mm is not None and self._depth.get_subscription_count():
            self._depth.publish(self._depth_image(depth_mm, stamp))
        height, width = pixels.shape[:2]
        if self._looked_for != (serial, width, height):
            self._look_for_calibration(serial, width, height)
        if self._info.get_subscription_count():
            self._info.publish(self._camera_info(width, height, stamp))

    def _jpeg(self, pixels: np.ndarray, stamp: Time) -> CompressedImage:
        message = CompressedImage(format="rgb8; jpeg compressed bgr8")
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        message.data = byte_array(encode_jpeg(pixels))
        return message

    def _depth_image(self, depth_mm: np.ndarray, stamp: Time) -> Image:
        """In millimetres, as REP 118 has it."""
        height, width = depth_mm.shape
        message = Image(height=height, width=width, encoding="16UC1", is_bigendian=0, step=2 * width)
        message.header.stamp, message.header.frame_id = stamp, self._frame_id
        message.data = byte_array(np.ascontiguousarray(depth_mm, "<u2").tobytes())
        return message

    def _look_for_calibration(self, serial: str, width: int, height: int) -> None:
        self._looked_for, self._intrinsics, self._wrong = (serial, width, height), None, ""
        try:
            self._intrinsics = intrinsics_for(self._folder, self._camera, serial, width, height)
        except ConfigError as error:
            self._wrong = str(error)
            self._node.get_logger().error(f"camera {self._camera}: not calibrated: {error}")

    def _camera_info(self, width: int, height: int, stamp: Time) -> CameraInfo:
        info = CameraInfo(height=height, width=width)
        info.header.stamp, info.header.frame_id = stamp, self._frame_id
        stored = self._intrinsics
        if stored is not None:
            (fx, skew, cx), (_, fy, cy), _ = stored.K
            distortion = [*stored.distortion, *[0.0] * (5 - len(stored.distortion))]
            info.distortion_model = "plumb_bob" if len(distortion) == 5 else "rational_polynomial"
            info.d = distortion
            info.k = [fx, skew, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
            info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
            info.p = [fx, skew, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        return info

    def _health(self) -> Health:
        if self._wrong:
            return Health(ERROR, self._wrong)
        if self._looked_for is None:
            return Health(OK, "no image so far")
        if self._intrinsics is None:
            return Health(OK, f"not calibrated: no intrinsics_{self._camera}.yaml in {self._folder}")
        return Health(OK, "calibrated")


def encode_jpeg(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG of uint8[H, W, 3], red first, with halved colour resolution as cameras themselves have it."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of {pixels.shape[1]}x{pixels.shape[0]} pixels cannot be a JPEG")
    return bytes(data.tobytes())
