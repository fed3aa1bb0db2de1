"""Pins: the lab's arm, camera and input device work as real nodes over DDS, by a graph file and its arguments alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

pytest.importorskip("rclpy")

from inril_bringup.check import check
from inril_bringup.graph import load_graph, parse_values
from inril_common.qos import TICK
from inril_msgs.msg import Observation, RobotState, Target

from inril_core.contract import load_contract
from inril_core.data.episode import SOURCE_HUMAN
from inril_core.errors import ConfigError
from inril_core.teleop import device_config
from inril_core.vocabulary import Phase
from tests.extending.conftest import EXAMPLE, OUTSIDE, Lab
from tests.graph.harness import PATIENT_S, STALENESS, START_S, GraphRun

pytestmark = pytest.mark.timeout(400)
START_Z_M = 0.15
GREY = 77


class Sender:
    """The lab's own programs: one sends what the person does, one writes pictures."""

    def __init__(self, port: int, picture: Path) -> None:
        self.said = b"0 0 0 0 0 0 0"
        self._port, self._picture = port, picture
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def show(self) -> None:
        """A new picture, at once and whole."""
        new = self._picture.with_suffix(".new.png")
        Image.fromarray(np.full((90, 100, 3), GREY, np.uint8)).save(new)
        os.replace(new, self._picture)

    def _work(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not self._stop.wait(0.05):
                sender.sendto(self.said, ("127.0.0.1", self._port))
                self.show()

    @contextmanager
    def at_work(self) -> Iterator[Sender]:
        """Both programs run."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("by", ["entry point", "module:attribute"])
def test_the_person_moves_the_lab_s_arm_and_the_pictures_are_recorded(lab: Lab, by: str) -> None:
    contract = lab.folder / "hold_above.yaml"
    values = yaml.safe_load(contract.read_text()) | {"episode_length_steps": 100_000}
    values["staleness"] |= {**STALENESS, "camera_s": PATIENT_S}
    contract.write_text(yaml.safe_dump(values))
    port = free_port()
    arguments = {"contract": contract, "device_settings": f"{{port: {port}, silent_s: 10.0}}"}
    if by == "module:attribute":
        arguments |= {
            "arm": OUTSIDE["rehearsal"],
            "arm_settings": "{speed_mps: 0.2}",
            "device": OUTSIDE["udp"],
            "cameras": f"{{front: {{source: '{OUTSIDE['snapshot']}', path: front.png}}}}",
        }
    sender = Sender(port, lab.folder / "front.png")
    sender.show()
    with (
        sender.at_work(),
        GraphRun(str(lab.folder / "arm.yaml"), lab.folder / "run", plan="demo:1:episodes", **arguments) as graph,
    ):
        seen: list[Observation] = []
        targets: list[Target] = []
        heights_m: list[float] = []
        graph.node.create_subscription(Observation, "observation", seen.append, TICK)
        graph.node.create_subscription(Target, "target", targets.append, TICK)
        graph.node.create_subscription(
            RobotState, "robot_state", lambda state: heights_m.append(state.tool_pose.position.z), TICK
        )
        graph.until(lambda: graph.status("robot"), "the arm's state", START_S)
        assert not graph.status("robot").simulated
        sender.said = b"1 0 0 0.5 0 0 0"
        heard = len(heights_m)
        graph.until(lambda: len(heights_m) > heard + 10, "states of the arm that is not armed")
        assert set(heights_m) == {START_Z_M}, "it moved before a person had armed it"
        sender.said = b"0 0 0 0 0 0 0"
        graph.arm()
        graph.until(lambda: seen and seen[-1].phase == Phase.RUN and seen[-1].images, "image in an Observation")
        picture = seen[-1].images[0]
        assert (picture.height, picture.width) == (84, 84) and set(picture.data) == {GREY}
        assert np.isfinite(seen[-1].link_age_s).all(), "nobody publishes part_poses, and nobody has to"
        sender.said = b"1 0 0 0.5 0 0 0"
        graph.until(lambda: heights_m[-1] > START_Z_M + 0.03, "the arm raised by the device")
        assert any(not target.hold and target.episode_id for target in targets)
        answer = graph.inril("episode", "success")
        assert answer.returncode == 0, answer.stderr
        assert graph.finished(START_S) == 0
        (episode,) = graph.episodes()
    assert episode.complete and episode.success and (episode.source == SOURCE_HUMAN).any()
    assert (episode.images["front"] == GREY).all() and len(episode.images["front"]) == episode.steps + 1


def test_a_part_that_is_wrong_ends_the_graph_by_name(lab: Lab) -> None:
    """Pins: an arm of hardware in a graph that says that it is simulated."""
    arguments = {"contract": "hold_above.yaml", "arm": "rehearsal", "real_time_factor": 1.0}
    with GraphRun("collect_demos", lab.folder / "run", **arguments | {"plan": "demo:1:episodes"}) as graph:
        assert graph.finished(START_S) != 0
        log = (lab.folder / "run" / "logs" / "sim_cell.log").read_text()
    assert "arm = 'rehearsal' is not simulated" in log and "write robot_node instead of sim_cell" in log


def test_the_person_s_program_of_the_page_sends_what_the_device_takes(lab: Lab) -> None:
    part = device_config("udp", {"port": free_port(), "silent_s": 10.0})
    device = part.build(load_contract("hold_above.yaml"))
    device.open()
    words = [
        sys.executable,
        str(EXAMPLE / "send.py"),
        str(part.model_dump()["port"]),
        *["1", "0", "0", "0.5", "0", "0", "0"],
    ]
    with subprocess.Popen(words) as process:
        try:
            said = device.read(None)
            while not said.grab:  # until it raises that nobody speaks
                said = device.read(None)
        finally:
            process.kill()
            device.close()
    assert said.action.tolist() == [0.0, 0.0, 0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["arm:=rehearsall"], "arm = 'rehearsall': did you mean 'rehearsal'"),
        (["arm:=peg_lab.udp:Config"], "must be a subclass of inril_core.hardware.arms.base.ArmConfig"),
        (["arm_settings:={speed: 1}"], "arm_settings.speed"),
        (["cameras:={front: {source: snapshott, path: a.png}}"], "cameras.front.source = 'snapshott': did you mean"),
        (["cameras:={font: {source: snapshot, path: a.png}}"], r"cameras: \['font'\] are not in the contract"),
        (["device:=udpp"], "device = 'udpp': did you mean 'udp'"),
    ],
)
def test_mistakes_are_named_before_anything_is_started(lab: Lab, words: list[str], told: str) -> None:
    graph = load_graph("arm.yaml")
    with pytest.raises(ConfigError, match=told):
        check(graph.resolve(parse_values(["run_dir:=run", *words])))
