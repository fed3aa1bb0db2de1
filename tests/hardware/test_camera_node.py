"""Pins: pictures from a camera that is not there, an image topic nobody hears, a calibration of another camera used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pyrealsense2")

from builtin_interfaces.msg import Time
from inril_common.convert import array_to_image, byte_array, image_to_array
from inril_control.observation_node import ObservationNode
from inril_hardware.camera_node import CameraNode
from inril_hardware.camera_topics import encode_jpeg
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from inril_core.calibration.stored import Stored, StoredCamera, StoredIntrinsics, write_stored
from inril_core.errors import ConfigError
from tests.hardware.cameras.recordings import HEIGHT, SERIAL, WIDTH, record
from tests.sim.nodes import Bench, bench

K = ((300.0, 0.0, 160.0), (0.0, 301.0, 120.0), (0.0, 0.0, 1.0))


@pytest.fixture(scope="module", name="recording")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("camera_node") / "shot.db3", 10)


def cameras(settings: str) -> str:
    return f"{{front: {{{settings}}}}}"


def calibrated(folder: Path, serial: str = SERIAL, width: int = WIDTH) -> Path:
    intrinsics = StoredIntrinsics(width_px=width, height_px=HEIGHT, K=K, distortion=(0.1, 0.0, 0.0, 0.0, 0.0))
    stored = Stored(
        kind="intrinsics",
        name="intrinsics_front",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        software="test",
        camera=StoredCamera(name="front", serial=serial),
        intrinsics=intrinsics,
    )
    write_stored(folder / "intrinsics_front.yaml", stored)
    return folder


def lines(made: Bench) -> dict[str, Any]:
    """What /diagnostics says, by the part of the name after the node's."""
    return {s.name.split(": ")[1]: s for s in made.node.diagnostics.statuses()}


def test_a_recording_is_published_with_its_calibration_and_ends_as_an_unplugged_camera(
    recording: Path, tmp_path: Path
) -> None:
    chosen = cameras(f"source: file, path: {recording}, depth: true")
    with bench(CameraNode, cameras=chosen, calibration=str(calibrated(tmp_path))) as made:
        images, depths = made.hear(Image, "/camera/front/image"), made.hear(Image, "/camera/front/depth")
        jpegs, infos = (
            made.hear(CompressedImage, "/camera/front/image/compressed"),
            made.hear(CameraInfo, "/camera/front/camera_info"),
        )
        keeper = made.node._cameras[0].keeper
        made.until(lambda: images and depths and jpegs and infos, "a message on every topic of the camera")
        assert image_to_array(images[0]).shape == (HEIGHT, WIDTH, 3) and depths[0].encoding == "16UC1"
        assert jpegs[0].data[:2].tobytes() == b"\xff\xd8"
        assert infos[0].k.tolist() == [300.0, 0.0, 160.0, 0.0, 301.0, 120.0, 0.0, 0.0, 1.0]
        assert infos[0].distortion_model == "plumb_bob" and infos[0].header.frame_id == "camera_front"
        made.until(lambda: keeper.losses, "the end of the recording")
        losses, heard = keeper.losses, len(images)
        made.until(lambda: len(images) > heard + 2, "images after it came back")
        made.until(lambda: keeper.losses > losses, "its end once more")
        made.until(lambda: "has ended" in lines(made)["source_front"].message, "its end in /diagnostics")
        stamps = [image.header.stamp.sec * 10**9 + image.header.stamp.nanosec for image in images]
        assert np.diff(stamps).min() > 0, "times of this machine go on, although the recording's begin anew"


@pytest.mark.parametrize(("serial", "width", "told"), [("999", WIDTH, "999"), (SERIAL, 640, "640x240")])
def test_a_calibration_of_another_camera_or_size_is_named_and_not_published(
    recording: Path, tmp_path: Path, serial: str, width: int, told: str
) -> None:
    chosen = cameras(f"source: file, path: {recording}, loop: true")
    with bench(CameraNode, cameras=chosen, calibration=str(calibrated(tmp_path, serial, width))) as made:
        infos = made.hear(CameraInfo, "/camera/front/camera_info")
        made.until(lambda: infos, "a CameraInfo")
        assert infos[0].k[0] == 0.0
        line = lines(made)["calibration_front"]
        assert line.level == b"\x02" and told in line.message and "intrinsics_front.yaml" in line.message


@pytest.fixture(name="topic")
def on_a_topic() -> Iterator[Bench]:
    with bench(CameraNode, cameras=cameras("source: topic"), calibration="nowhere") as made:
        yield made


@pytest.mark.parametrize("quality", [qos_profile_sensor_data, 10])
def test_a_drivers_topic_is_heard_best_effort_or_reliable(topic: Bench, quality: Any) -> None:
    images = topic.hear(Image, "/camera/front/image")
    driver = topic.client.create_publisher(Image, "/camera/camera/color/image_raw", quality)
    sent = np.arange(84 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(84, 96, 3)
    message = array_to_image(sent[..., ::-1].copy(), Time(sec=9, nanosec=7), "camera_color_optical_frame")
    message.encoding = "bgr8"

    def heard() -> bool:
        driver.publish(message)
        return bool(images)

    topic.until(heard, "the image of the driver")
    np.testing.assert_array_equal(image_to_array(images[0]), sent)
    assert images[0].header.stamp == message.header.stamp and images[0].header.frame_id == "camera_front"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "bayer_rggb8"}, "bayer_rggb8"),
        ({"step": 5}, "step = 5"),
        ({"height": 999}, "bytes of data"),
        ({"header": None}, "header.stamp is empty"),
        ({"small": True}, "48x42 pixels, the contract takes 84x84"),
    ],
)
def test_an_image_that_cannot_be_is_a_named_fault_of_its_link(
    topic: Bench, change: dict[str, Any], reason: str
) -> None:
    images = topic.hear(Image, "/camera/front/image")
    driver = topic.client.create_publisher(Image, "/camera/camera/color/image_raw", 10)
    size = (42, 48, 3) if change.pop("small", False) else (84, 96, 3)
    bad = array_to_image(np.zeros(size, np.uint8), Time(sec=0 if "header" in change else 9), "x")
    for name, value in change.items():
        if value is not None:
            setattr(bad, name, value)
    keeper = topic.node._cameras[0].keeper

    def refused() -> bool:
        driver.publish(bad)
        return keeper.refused > 0

    topic.until(refused, "the refusal")
    assert reason in keeper.refusal and not images
    good = array_to_image(np.zeros((84, 96, 3), np.uint8), Time(sec=9), "x")

    def back() -> bool:
        driver.publish(good)
        return bool(images)

    topic.until(back, "the next good image")


def test_a_compressed_topic_is_decoded_and_damage_is_named() -> None:
    with bench(CameraNode, cameras=cameras("source: topic, topic: lab/image/compressed"), calibration="x") as made:
        images = made.hear(Image, "/camera/front/image")
        driver = made.client.create_publisher(CompressedImage, "/lab/image/compressed", 10)
        message = CompressedImage(format="jpeg", data=byte_array(b"no picture"))
        message.header.stamp.sec = 9
        keeper = made.node._cameras[0].keeper

        def refused() -> bool:
            driver.publish(message)
            return keeper.refused > 0

        made.until(refused, "the refusal")
        assert "no picture" in keeper.refusal
        message.data = byte_array(encode_jpeg(np.full((90, 90, 3), (200, 100, 0), np.uint8)))

        def decoded() -> bool:
            driver.publish(message)
            return bool(images)

        made.until(decoded, "the picture")
        np.testing.assert_allclose(image_to_array(images[0])[40, 40], (200, 100, 0), atol=4)


def test_a_silent_topic_is_named(topic: Bench) -> None:
    keeper = topic.node._cameras[0].keeper
    topic.until(lambda: keeper.trouble, "the silence")
    assert "/camera/camera/color/image_raw is silent and has 0 publishers" in keeper.trouble


@pytest.mark.parametrize(
    ("chosen", "only", "reason"),
    [
        ("{side: {source: uvc}}", "", "side.*not in the contract"),
        ("{front: {source: uvcc}}", "", "did you mean 'uvc'"),
        ("{front: {source: realsense, serail: 1}}", "", "serail"),
        ("{front: {source: uvc}}", "side", "only = 'side'"),
    ],
)
def test_settings_that_cannot_be_are_refused(chosen: str, only: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason), bench(CameraNode, cameras=chosen, only=only):
        pass


def test_an_unplugged_camera_makes_its_link_stale_and_a_camera_that_is_back_makes_it_fresh(recording: Path) -> None:
    """The observation's side: what the arbiter holds on. Red: a camera that repeats its last image."""
    chosen = cameras(f"source: file, path: {recording}")
    with bench(CameraNode, cameras=chosen, calibration="x") as made:
        observer = ObservationNode()
        executor = SingleThreadedExecutor()
        executor.add_node(observer)
        try:
            observer.set_parameters([])
            observer.declare_parameter("real_time_factor", 1.0)
            assert observer.trigger_configure().name == "SUCCESS" and observer.trigger_activate().name == "SUCCESS"
            link, limit_s = observer._camera_links["front"], observer.contract.staleness.camera_s

            def stale() -> bool:
                executor.spin_once(timeout_sec=0.0)
                age_s = link.age_s(observer.mono_ns())
                return age_s is not None and age_s > limit_s

            keeper = made.node._cameras[0].keeper
            made.until(lambda: not stale() and link.total, "fresh images")
            made.until(lambda: stale() and keeper.losses, "the link to grow stale")
            total = link.total
            made.until(lambda: not stale() and link.total > total, "fresh images again")
        finally:
            observer.end()
            executor.shutdown()
            observer.destroy_node()
