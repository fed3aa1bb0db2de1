"""`python -m inril_bringup.recording_benchmark`: what recording three cameras at full rate costs, and what is lost.

camera_node and recorder_node run as processes of their own. The cameras' pictures are drawn from the simulated cell
before, with the noise of a sensor, and given at 30 Hz; this process is the arm (100 Hz) and the control tick (10 Hz).
`--out docs/results/recording.md` writes the page.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import rclpy
import yaml
from inril_common.convert import array_to_image, float32_array, ns_to_stamp
from inril_common.measuring import cpu_s
from inril_common.qos import EVENT, TICK
from inril_hardware.camera_topics import JPEG_QUALITY, encode_jpeg
from inril_msgs.msg import EpisodeEvent, ExecutedAction, Observation, RecorderStatus, RobotState, Target
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from PIL import Image as Picture
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from inril_bringup.environment import dds_environment
from inril_bringup.recording_report import (
    CAMERAS,
    EPISODE_S,
    STATE_HZ,
    Codec,
    Episode,
    Result,
    page,
)
from inril_bringup.shown_camera import HEIGHT, RATE_HZ, WIDTH, chosen_cameras, draw_pictures, number_of
from inril_core.contract import load_contract
from inril_core.data.container import read_recording
from inril_core.data.frames import read_frames
from inril_core.data.reader import MAX_EPISODE_BYTES, decode_topics, load_file
from inril_core.data.schemas import ROBOT_STATE, camera_topic
from inril_core.errors import ConfigError
from inril_core.files import check_writable, write_atomically
from inril_core.run import RunPaths

WAIT_S = 60.0


class Rig(Node):
    """The arm, the control tick, and who listens to the recorder."""

    def __init__(self, contract: Any) -> None:
        super().__init__("recording_benchmark")
        self.contract = contract
        self.statuses: list[RecorderStatus] = []
        kinds = {"robot_state": RobotState, "observation": Observation, "executed_action": ExecutedAction}
        kinds |= {"target": Target, "episode_event": EpisodeEvent}
        self._said = {
            topic: self.create_publisher(kind, topic, EVENT if topic == "episode_event" else TICK)
            for topic, kind in kinds.items()
        }
        self.create_subscription(RecorderStatus, "recorder_status", self.statuses.append, EVENT)
        self.executor_ = SingleThreadedExecutor()
        self.executor_.add_node(self)
        self._seq = 0
        pixels = np.random.default_rng(0).integers(0, 255, (84, 84, 3), dtype=np.uint8)
        self._images = [array_to_image(pixels, ns_to_stamp(0), image.name) for image in contract.images]

    @property
    def heard(self) -> bool:
        """The recorder is connected to everything that is sent."""
        return all(publisher.get_subscription_count() for publisher in self._said.values())

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Spin until it holds."""
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            self.executor_.spin_once(timeout_sec=0.01)
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no {what} within {WAIT_S:g} s")

    def ask(self, kind: Any, name: str, request: Any) -> None:
        """Call a service of which only the success counts."""
        client = self.create_client(kind, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(request)
        self.until(future.done, f"answer of {name}")
        if not future.result().success:
            raise RuntimeError(f"{name} failed; its log is above")

    def run_episode(self, episode_id: str, steps: int) -> float:
        """Send everything of an episode in real time; the recorder's seconds for finishing it."""
        self._say_event(EpisodeEvent.BEGIN, episode_id, steps)
        begin_s = time.monotonic()
        per_step = STATE_HZ // 10
        for n in range(steps * per_step + 1):
            wait_s = begin_s + n / STATE_HZ - time.monotonic()
            while wait_s > 0.0:
                self.executor_.spin_once(timeout_sec=wait_s)
                wait_s = begin_s + n / STATE_HZ - time.monotonic()
            self._say_state()
            if n % per_step == 0:
                self._say_step(episode_id, n // per_step, steps)
        self._say_event(EpisodeEvent.END, episode_id, steps)
        end_s = time.monotonic()
        self.statuses.clear()
        self.until(lambda: self.statuses and self.statuses[-1].state == RecorderStatus.IDLE, "finished episode")
        return time.monotonic() - end_s

    def _stamped(self, message: Any) -> Any:
        message.header.stamp, message.header.frame_id = ns_to_stamp(time.time_ns()), self.contract.base_frame
        return message

    def _say_event(self, event: int, episode_id: str, steps: int) -> None:
        message = EpisodeEvent(event=event, run_id="bench", episode_id=episode_id, max_steps=steps)
        message.purpose, message.label, message.by = Observation.PURPOSE_DEMO, EpisodeEvent.LABEL_SUCCESS, "bench"
        self._said["episode_event"].publish(self._stamped(message))

    def _say_state(self) -> None:
        message = RobotState(boot_id="arm", seq=self._seq, joint_torque_nm=[0.1] * 7)
        message.tool_pose.orientation.w = 1.0
        self._seq += 1
        self._said["robot_state"].publish(self._stamped(message))

    def _say_step(self, episode_id: str, step: int, steps: int) -> None:
        tick = {"boot_id": "bench", "k": self._seq, "episode_id": episode_id}
        observation = Observation(**tick, step=step, purpose=Observation.PURPOSE_DEMO, last=step == steps)
        observation.phase, observation.images = Observation.PHASE_RUN, self._images
        observation.state = float32_array(np.zeros(self.contract.state_size))
        observation.tool_pose.orientation.w = 1.0
        if step:
            observation.outcome.episode_id, observation.outcome.step = episode_id, step - 1
        self._said["observation"].publish(self._stamped(observation))
        if step == steps:
            return
        zeros = float32_array(np.zeros(self.contract.action.size))
        action = ExecutedAction(**tick, step=step, source=ExecutedAction.SOURCE_HUMAN, n=-1)
        action.proposed = action.executed = zeros
        self._said["executed_action"].publish(self._stamped(action))
        self._said["target"].publish(self._stamped(Target(**tick)))


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "104")))
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.out is not None:
        try:
            check_writable(arguments.out)
        except ConfigError as error:
            raise SystemExit(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        pictures = draw_pictures(Path(folder), CAMERAS)
        codecs = _codecs(np.load(pictures["front"]))
        result = _measured(Path(folder), pictures, arguments.minutes, arguments.domain)
    text = page(arguments.minutes, result, codecs)
    print(text)
    if arguments.out is not None:
        write_atomically(arguments.out, text.encode())


def _measured(folder: Path, pictures: dict[str, Path], minutes: float, domain: int) -> Result:
    os.environ.update({**dds_environment(os.environ), "ROS_DOMAIN_ID": str(domain)})
    contract_path, run = folder / "three_cameras.yaml", folder / "run"
    content = yaml.safe_load(load_contract("insert_leg").text)
    content["episode_length_steps"] = 2 * round(EPISODE_S * 10)
    content["images"] = [{"name": n, "camera": n, "width_px": 84, "height_px": 84} for n in CAMERAS]
    contract_path.write_text(yaml.safe_dump(content))
    common = ["-p", f"contract:={contract_path}"]
    programs = {
        "inril_hardware.camera_node": [*common, "-p", f"cameras:='{chosen_cameras(pictures)}'"],
        "inril_session.recorder_node": [*common, "-p", f"run_dir:={run}", "-p", "real_time_factor:=1.0"]
        + ["-p", "full_rate:=true"],
    }
    rclpy.init()
    rig = Rig(load_contract(str(contract_path)))
    result = Result()
    try:
        with _running(programs) as pids:
            for change in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                rig.ask(
                    ChangeState, "recorder_node/change_state", ChangeState.Request(transition=Transition(id=change))
                )
            rig.until(lambda: rig.heard and rig.statuses, "recorder")
            rig.until(lambda: all(rig.count_publishers(camera_topic(name)) for name in CAMERAS), "cameras")
            rig.run_episode("warm-up", 20)  # imports, first files, connection of the cameras
            before, begin_s = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
            for number in range(max(1, round(minutes * 60.0 / EPISODE_S))):
                finishing_s = rig.run_episode(f"episode-{number}", round(EPISODE_S * 10))
                result.episodes.append(Episode(finishing_s=finishing_s))
            result.seconds = time.monotonic() - begin_s
            result.cpu_share = {n: (cpu_s(pid) - before[n]) / result.seconds for n, pid in pids.items()}
            result.peak_mb = {n: _peak_mb(pid) for n, pid in pids.items()}
    finally:
        rig.executor_.shutdown()
        rig.destroy_node()
        rclpy.try_shutdown()
    for number, episode in enumerate(result.episodes):
        _audit(RunPaths(run).episodes / f"episode-{number}.mcap", episode)
    return result


@contextmanager
def _running(programs: dict[str, list[str]]) -> Iterator[dict[str, int]]:
    processes = {}
    try:
        for name, words in programs.items():
            processes[name] = subprocess.Popen([sys.executable, "-m", name, "--ros-args", *words])
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            try:
                process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _audit(path: Path, episode: Episode) -> None:
    recording = read_recording(load_file(path), MAX_EPISODE_BYTES)
    episode.raw_bytes = sum(len(message.data) for message in recording.messages)
    seqs = sorted({m.seq for _, _, m in decode_topics(recording, (ROBOT_STATE,))})
    episode.states, episode.lost_states = len(seqs), seqs[-1] - seqs[0] + 1 - len(seqs)
    steps = sorted({m.step for _, _, m in decode_topics(recording, ("/executed_action",))})
    expected = round(EPISODE_S * 10)
    episode.steps, episode.lost_steps = len(steps), expected - len(steps)
    for camera in CAMERAS:
        numbers = sorted({number_of(int(stamp)) for stamp in read_frames(path, camera).stamps_ns})
        if not numbers:
            raise RuntimeError(f"{path}: no image of {camera}; the log of camera_node is above")
        episode.images += len(numbers)
        episode.lost_images += numbers[-1] - numbers[0] + 1 - len(numbers)
        episode.lost_images += max(0, round(EPISODE_S * RATE_HZ) - 1 - (numbers[-1] - numbers[0] + 1))
    episode.seconds = EPISODE_S


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024.0 for line in lines if line.startswith("VmHWM"))


def _codecs(images: np.ndarray) -> list[Codec]:
    found = [_cost(f"JPEG {q}, OpenCV", images, lambda p, q=q: encode_jpeg(p, q), _of_jpeg) for q in (80, 90, 95)]
    found.append(_cost("JPEG 90, Pillow", images, _pillow, _of_jpeg))
    for preset in ("ultrafast", "veryfast"):
        encoder, decoder = _h264(preset), av.CodecContext.create("h264", "r")
        found.append(_cost(f"H.264 {preset}, crf 23", images, encoder, lambda d, c=decoder: _of_h264(c, d)))
    return found


def _cost(
    name: str, images: np.ndarray, encode: Callable[[np.ndarray], bytes], decode: Callable[[bytes], np.ndarray | None]
) -> Codec:
    decode(encode(images[0]))
    begin_s = time.process_time()
    coded = [encode(image) for image in images]
    middle_s = time.process_time()
    decoded = [decode(data) for data in coded]
    end_s = time.process_time()
    pairs = [(a, b) for a, b in zip(images, decoded, strict=True) if b is not None]
    error = np.mean([np.mean((a.astype(np.float64) - b) ** 2) for a, b in pairs]) if name.startswith("JPEG") else np.nan
    return Codec(
        name,
        1e3 * (middle_s - begin_s) / len(images),
        1e3 * (end_s - middle_s) / len(images),
        sum(map(len, coded)) / len(coded) / 1e3,
        float(10.0 * np.log10(255.0**2 / error)),
    )


def _pillow(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Picture.fromarray(pixels).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _of_jpeg(data: bytes) -> np.ndarray:
    with Picture.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _h264(preset: str) -> Callable[[np.ndarray], bytes]:
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.thread_count = WIDTH, HEIGHT, "yuv420p", 1
    context.framerate, context.time_base = Fraction(RATE_HZ), Fraction(1, RATE_HZ)
    context.options = {"preset": preset, "tune": "zerolatency", "crf": "23", "g": str(RATE_HZ)}
    count = iter(range(1 << 30))

    def encode(pixels: np.ndarray) -> bytes:
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
        frame.pts = next(count)
        return b"".join(bytes(packet) for packet in context.encode(frame))

    return encode


def _of_h264(context: Any, data: bytes) -> np.ndarray | None:
    images = [frame.to_ndarray(format="rgb24") for frame in context.decode(av.Packet(data))]
    return images[-1] if images else None


if __name__ == "__main__":
    main()
