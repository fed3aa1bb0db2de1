"""Pins: a scene that is laid out by a picture of another camera, and a picture of which half is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_bringup.camera_command import reference_image, write_picture
from inril_bringup.operate import Operator, Refused
from inril_common.executor import NodeExecutor
from inril_hardware.camera_node import CameraNode

from inril_core.errors import ConfigError
from tests.data.synthetic import Synthetic
from tests.hardware.cameras.recordings import video
from tests.sim.nodes import Bench, bench


def test_the_newest_image_of_a_running_camera(tmp_path: Path) -> None:
    film = video(tmp_path / "film.mp4", 30)
    chosen = f"{{front: {{source: file, path: {film}, loop: true}}}}"
    with bench(CameraNode, cameras=chosen, calibration="x") as made:
        person = _person(made)
        assert person.image("front", 60.0).shape == (240, 320, 3)
        with pytest.raises(Refused, match="camera/side/image.*0 publishers"):
            person.image("side", 0.0)


def _person(made: Bench) -> Operator:
    executor = NodeExecutor(context=made.client.context)
    executor.add_node(made.client)
    return Operator(made.client, executor)


def test_a_reference_is_a_picture_or_the_first_image_of_an_episode(tmp_path: Path) -> None:
    made = Synthetic(steps=3, images=True, purpose="eval")
    path = made.record(tmp_path)
    np.testing.assert_array_equal(reference_image(path, "front"), made.arrays["images"][0])
    with pytest.raises(ConfigError, match="no image 'side'; it has front"):
        reference_image(path, "side")
    write_picture(tmp_path / "a.png", made.arrays["images"][1])
    np.testing.assert_array_equal(reference_image(tmp_path / "a.png", ""), made.arrays["images"][1])
    for bad in ("missing.png", "missing.mcap"):
        with pytest.raises(ConfigError, match=bad):
            reference_image(tmp_path / bad, "front")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ConfigError, match="text.png: cannot be read as a picture"):
        reference_image(tmp_path / "text.png", "front")


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ConfigError, match="ends with .png"):
        write_picture(tmp_path / "a.gif", pixels)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_picture(tmp_path / "nowhere" / "a.png", pixels)
