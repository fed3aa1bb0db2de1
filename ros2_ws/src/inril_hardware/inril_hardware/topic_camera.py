"""A camera whose driver is a ROS node of somebody else: its image topic becomes that of the contract's camera."""

from __future__ import annotations

import threading
import time
from typing import Any

import cv2
import numpy as np
from inril_common.convert import image_to_array, stamp_to_ns
from inril_common.qos import SENSOR
from pydantic import Field
from sensor_msgs.msg import CompressedImage, Image

from inril_core.control.measurement import BadMeasurement
from inril_core.hardware.arms.base import Arm
from inril_core.hardware.cameras.base import BadImage, CameraConfig, CameraLost, CameraSource, Frame

WAIT_S = 0.2
SILENT_S = 2.0


class Config(CameraConfig):
    """Settings of a topic. Without `topic` it is the colour of realsense-ros, by that driver's own arguments."""

    topic: str = ""
    """Of type Image, or CompressedImage if it ends with /compressed; relative to the graph's namespace without a /."""
    camera_namespace: str = "camera"
    camera_name: str = "camera"
    serial: str = Field("", pattern=r"^[A-Za-z0-9]*$")
    """Of the device behind the topic, to be compared with the calibration's; the driver is not asked."""

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> TopicCamera:
        """See `CameraConfig.build`."""
        return TopicCamera(self.topic or f"/{self.camera_namespace}/{self.camera_name}/color/image_raw", self.serial)


class TopicCamera(CameraSource):
    """The newest message of a topic, best effort or reliable, with the driver's stamp."""

    def __init__(self, topic: str, serial: str = "") -> None:
        self.topic, self.serial = topic, serial
        self._node: Any = None
        self._changed = threading.Condition()
        self._newest: Any = None
        self._heard_s = 0.0

    def attach(self, node: Any) -> None:
        """Listen through this node. Called once, before `open`."""
        self._node = node
        kind = CompressedImage if self.topic.endswith("/compressed") else Image
        node.create_subscription(kind, self.topic, self._hear, SENSOR)

    def open(self) -> None:
        """See `CameraSource.open`."""
        self._heard_s = time.monotonic()

    def read(self) -> Frame | None:
        """See `CameraSource.read`."""
        with self._changed:
            if self._newest is None:
                self._changed.wait(WAIT_S)
            message, self._newest = self._newest, None
        if message is None:
            self._look_for_silence()
            return None
        self._heard_s = time.monotonic()
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns == 0:
            raise BadImage(f"{self.topic}: header.stamp is empty, so its age is not known; let the driver stamp it")
        try:
            pixels = image_to_array(message) if hasattr(message, "encoding") else _decoded(message, self.topic)
        except BadMeasurement as error:
            raise BadImage(f"{self.topic}: {error}") from error
        return Frame(np.ascontiguousarray(pixels), stamp_ns)

    def _hear(self, message: Any) -> None:
        with self._changed:
            self._newest = message
            self._changed.notify()

    def _look_for_silence(self) -> None:
        if time.monotonic() - self._heard_s < SILENT_S:
            return
        name = self._node.resolve_topic_name(self.topic)
        publishers = self._node.count_publishers(name)
        raise CameraLost(
            f"{name} is silent and has {publishers} publishers; start the camera's driver, or name its topic with "
            "`topic` (`ros2 topic list`)"
        )


def _decoded(message: Any, topic: str) -> np.ndarray:
    data = np.frombuffer(message.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise BadImage(f"{topic}: {len(data)} bytes of format {message.format[:40]!r} are no picture")
    return np.asarray(image)[..., ::-1]
