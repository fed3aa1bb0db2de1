"""A made-up episode as the graph would publish it: real messages, serialised by rclpy."""

from __future__ import annotations

import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from inril_msgs.msg import (
    CellTruth,
    EpisodeEvent,
    ExecutedAction,
    Observation,
    PartPoses,
    PolicyAction,
    RobotState,
    Target,
    TeleopAction,
)
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from inril_core.contract import load_contract
from inril_core.data.episode_writer import EpisodeWriter, episode_metadata
from inril_core.data.schemas import MessageSchema, recorded_schemas

_PACKAGED = load_contract("insert_leg")
CONTRACT = _PACKAGED.model_copy(
    update={"images": tuple(image.model_copy(update={"recorded_in": ("demo", "eval")}) for image in _PACKAGED.images)}
)
"""The packaged task, with the camera also recorded while evaluating."""
PERIOD_NS = 100_000_000
PURPOSE_CODES = {"demo": 1, "train": 2, "eval": 3}


@cache
def schemas() -> dict[str, MessageSchema]:
    """The built message definitions."""
    return recorded_schemas()


def fill(message: Any, stamp_ns: int = 0, **fields: Any) -> Any:
    """Set a message's fields; numpy arrays go in as the array type that rclpy wants."""
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            value = array.array("d" if value.dtype == np.float64 else "f", value.tobytes())
        setattr(message, name, value)
    return message


@dataclass
class Synthetic:
    """T steps of random numbers; `messages()` gives (topic, message) in the order of the graph."""

    steps: int = 6
    episode_id: str = "episode-0"
    purpose: str = "train"
    seed: int = 3
    images: bool = False
    measured: bool = False
    label: int = EpisodeEvent.LABEL_SUCCESS
    boot_id: str = "boot-a"
    first_k: int = 40
    human_from: int | None = None
    succeeds: bool = True
    policy_n: int = 7
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        size, actions = CONTRACT.observation_size, CONTRACT.action.size
        f32 = np.float32
        self.arrays = {
            "observations": rng.normal(size=(self.steps + 1, size)).astype(f32),
            "proposed": rng.uniform(-1, 1, size=(self.steps, actions)).astype(f32),
            "raw": rng.normal(size=(self.steps, actions)).astype(f32),
            "log_prob": rng.normal(size=self.steps).astype(f32),
            "qpos": rng.normal(size=(self.steps + 1, 16)),
            "joint_torque_nm": rng.normal(size=(self.steps + 1, 7)),
            "images": rng.integers(0, 255, size=(self.steps + 1, 84, 84, 3), dtype=np.uint8),
        }
        self.arrays["actions"] = self.arrays["proposed"] * f32(0.5)

    def stamp_ns(self, step: int) -> int:
        """Of the observation of a step."""
        return 1_000_000_000 + step * PERIOD_NS

    def by_human(self, step: int) -> bool:
        """Whether the human is in control of a step."""
        return self.human_from is not None and step >= self.human_from

    def begin(self) -> EpisodeEvent:
        """The event that opens the episode."""
        return self._event(EpisodeEvent.BEGIN)

    def end(self, label: int | None = None, event: int = EpisodeEvent.END) -> EpisodeEvent:
        """The event that closes it, or labels it later."""
        return fill(self._event(event), label=self.label if label is None else label, by="cell", reason="seated")

    def messages(self) -> Iterator[tuple[str, Any]]:
        """Everything from BEGIN to END."""
        yield "/episode_event", self.begin()
        for step in range(self.steps + 1):
            yield from self.tick(step)
        yield "/episode_event", self.end()

    def tick(self, step: int) -> Iterator[tuple[str, Any]]:
        """One tick."""
        stamp, common = self.stamp_ns(step), {"boot_id": self.boot_id, "k": self.first_k + step}
        yield (
            "/cell_truth",
            fill(
                CellTruth(),
                stamp,
                reset_id=self.episode_id,
                step=step,
                qpos=self.arrays["qpos"][step],
                success=self.succeeds and step == self.steps,
            ),
        )
        if self.measured:
            yield from self.sensors(step)
        yield "/observation", self.observation(step)
        if step == self.steps:
            return
        a = self.arrays
        yield (
            "/policy_action",
            fill(
                PolicyAction(),
                stamp,
                run_id="run",
                n=self.policy_n,
                raw=a["raw"][step],
                log_prob=float(a["log_prob"][step]),
                **common,
            ),
        )
        yield (
            "/teleop_action",
            fill(TeleopAction(), stamp, k=common["k"], synchronous=True, grab=self.by_human(step)),
        )
        yield (
            "/executed_action",
            fill(
                ExecutedAction(),
                stamp,
                episode_id=self.episode_id,
                step=step,
                source=ExecutedAction.SOURCE_HUMAN if self.by_human(step) else ExecutedAction.SOURCE_POLICY,
                run_id="" if self.by_human(step) else "run",
                n=-1 if self.by_human(step) else 7,
                proposed=a["proposed"][step],
                executed=a["actions"][step],
                limits=["translation_step"] if step == 1 else [],
                **common,
            ),
        )
        yield "/target", fill(Target(), stamp, episode_id=self.episode_id, **common)

    def sensors(self, step: int) -> Iterator[tuple[str, Any]]:
        """What arm and tracker say at the stamp of a step's observation."""
        stamp = self.stamp_ns(step)
        torque = self.arrays["joint_torque_nm"][step]
        robot = fill(
            RobotState(), stamp, boot_id="arm", seq=step, joint_torque_nm=torque.tolist(), gripper_width_m=0.03
        )
        robot.joint_position_rad = (torque + 1.0).tolist()
        robot.tool_pose.orientation.w = 1.0
        parts = fill(PartPoses(), stamp, names=["leg", "hole"], poses=[Pose(), Pose()])
        parts.poses[0].position.x = 0.1 * step
        for message in (robot, parts):
            message.header.frame_id = "base"
        yield "/robot_state", robot
        yield "/part_poses", parts

    def observation(self, step: int) -> Observation:
        """The observation of a step; the last one closes the episode."""
        last = step == self.steps
        message = fill(
            Observation(),
            self.stamp_ns(step),
            boot_id=self.boot_id,
            k=self.first_k + step,
            episode_id=self.episode_id,
            step=step,
            phase=Observation.PHASE_RUN,
            purpose=PURPOSE_CODES[self.purpose],
            seed=self.seed,
            state=self.arrays["observations"][step],
            link_age_s=np.array([0.01, 0.02, np.nan], np.float32),
            last=last,
        )
        message.tool_pose.position.x = step * 0.1
        message.tool_pose.orientation.w = 1.0
        if step:
            fill(message.outcome, episode_id=self.episode_id, step=step - 1, success=last, terminated=last)
            message.outcome.source = "cell" if last else ""
        if self.images:
            pixels = self.arrays["images"][step]
            image = fill(Image(), self.stamp_ns(step), height=84, width=84, encoding="rgb8", step=252)
            image.header.frame_id = "front"
            image.data = array.array("B", pixels.tobytes())
            message.images = [image]
        return message

    def metadata(self) -> dict[str, str]:
        """What the recorder writes at BEGIN."""
        return episode_metadata(CONTRACT, "run", self.purpose, self.seed, False, self.steps, "{}")

    def write(self, writer: EpisodeWriter, until: int | None = None) -> None:
        """Write the messages; the first `until` of them."""
        for number, (topic, message) in enumerate(self.messages()):
            if until is not None and number >= until:
                return
            stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            writer.write(topic, serialize_message(message), stamp, stamp, getattr(message, "step", None))

    def record(self, folder: Path, until: int | None = None) -> Path:
        """Leave a raw file as a recorder would."""
        path = folder / f"{self.episode_id}.mcap"
        writer = EpisodeWriter(path, self.episode_id, self.metadata(), schemas())
        self.write(writer, until)
        writer.close()
        return path

    def _event(self, event: int) -> EpisodeEvent:
        return fill(
            EpisodeEvent(),
            self.stamp_ns(0),
            event=event,
            run_id="run",
            episode_id=self.episode_id,
            purpose=PURPOSE_CODES[self.purpose],
            seed=self.seed,
            max_steps=self.steps,
        )
