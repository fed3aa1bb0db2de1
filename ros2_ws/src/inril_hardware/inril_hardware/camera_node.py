"""The cameras of the contract that are no part of a simulated cell, each in a thread of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from inril_common.convert import ns_to_stamp
from inril_common.diagnostics import ERROR, OK, Health
from inril_common.links import LinkMonitor
from inril_common.node import InrilPlainNode
from inril_common.process import run_node

from inril_core.errors import ConfigError
from inril_core.hardware.cameras.base import CameraSource, Frame, camera_configs, least_sizes
from inril_core.hardware.cameras.keeper import CameraKeeper
from inril_core.hardware.cameras.realsense import RealSense
from inril_core.plugins import check_made
from inril_hardware.camera_topics import CameraTopics
from inril_hardware.topic_camera import TopicCamera

IDLE_S = 0.004
"""Between two looks at a camera that has no image and does not wait for one."""
STOP_S = 2.0
"""For which a camera's thread is waited for at the end: a driver may hang."""


@dataclass
class _Camera:
    name: str
    keeper: CameraKeeper
    topics: CameraTopics
    link: LinkMonitor
    told: tuple[str, int] = ("", 0)
    """The trouble and the number of refused images that the log has already."""


class CameraNode(InrilPlainNode):
    """Publishes camera/NAME/image, image/compressed, camera_info and depth of each camera that it reads.

    A camera that is lost is looked for again by itself, with back-off; meanwhile its topics are silent, so that
    observation_node's link grows stale and the arbiter holds. What is wrong stands in /diagnostics.
    """

    def __init__(self) -> None:
        super().__init__("camera_node")
        self._cameras: list[_Camera] = []
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    def setup(self) -> None:
        """Make the sources and begin to read them."""
        self.contract = self.contract_param()
        chosen = self.param("cameras", "", "sources of cameras, a YAML mapping {CAMERA: {source: NAME, ...}}")
        only = self.param("only", "", "camera that this node reads, where several share the work; empty: all")
        calibration = Path(self.param("calibration", "calibration", "folder of the stored calibrations"))
        configs, sizes = camera_configs(self.contract, chosen), least_sizes(self.contract)
        if only and only not in configs:
            raise ConfigError(f"only = {only!r}: not in the contract; it has {', '.join(configs)}")
        for name, config in configs.items():
            if config.of_the_cell or (only and name != only):
                continue
            source = config.build(name, *sizes[name], None)
            check_made(source, CameraSource, f"cameras.{name}")
            if isinstance(source, TopicCamera):
                source.attach(self)
            link = self.link(f"camera_{name}", self.contract.staleness.camera_s)
            camera = _Camera(name, CameraKeeper(source, *sizes[name]), CameraTopics(self, name, calibration), link)
            self.diagnose(f"source_{name}", lambda camera=camera: self._health(camera))
            self._cameras.append(camera)
        for camera in self._cameras:
            thread = threading.Thread(target=self._run, args=(camera,), name=f"camera {camera.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def teardown(self) -> None:
        """Let go of the cameras."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_S)
        self._threads.clear()

    def _run(self, camera: _Camera) -> None:
        while not self._stopping.is_set():
            frame = camera.keeper.poll(self.mono_ns())
            self._tell(camera)
            if frame is None:
                self._stopping.wait(IDLE_S)
                continue
            camera.link.saw(self.mono_ns())
            try:
                self._publish(camera, frame)
            except Exception as error:  # one image that cannot be sent must not end the camera
                self.diagnostics.refuse(camera.link, f"{type(error).__name__}: {error}")
        camera.keeper.close()

    def _publish(self, camera: _Camera, frame: Frame) -> None:
        stamp_ns = self.ros_ns() if frame.stamp_ns is None else frame.stamp_ns
        camera.topics.publish(frame.pixels, ns_to_stamp(stamp_ns), camera.keeper.source.serial, frame.depth_mm)

    def _tell(self, camera: _Camera) -> None:
        """Say what is new: a camera that is lost or back, an image that is left out."""
        keeper = camera.keeper
        trouble, refused = camera.told
        if keeper.refused > refused:
            self.diagnostics.refuse(camera.link, keeper.refusal)
        if keeper.trouble != trouble:
            if keeper.trouble:
                self.get_logger().error(f"camera {camera.name}: {keeper.trouble}")
            else:
                self.get_logger().info(f"camera {camera.name} is back")
        camera.told = keeper.trouble, keeper.refused

    def _health(self, camera: _Camera) -> Health:
        keeper = camera.keeper
        values: dict[str, object] = {
            "serial": keeper.source.serial,
            "images": keeper.images,
            "missed": keeper.missed,
            "refused": keeper.refused,
            "losses": keeper.losses,
        }
        if isinstance(keeper.source, RealSense):
            clock = keeper.source.clock
            values |= {"clock_drift_ppm": f"{clock.drift_ppm:.1f}", "clock_offset_ns": clock.offset_ns}
        if keeper.trouble:
            return Health(ERROR, keeper.trouble, values)
        return Health(OK, "open" if keeper.ready else "opening", values)


def main() -> None:
    """Entry point."""
    run_node(CameraNode)


if __name__ == "__main__":
    main()
