"""Writes what happens: every message of an episode, as it came, before the next one is read."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from inril_common.deadline_timer import DeadlineTimer
from inril_common.diagnostics import ERROR, OK, Health
from inril_common.executor import gather
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_common.qos import EVENT, RECORD, sensor_qos
from inril_msgs import msg as messages
from inril_msgs.msg import RecorderStatus
from sensor_msgs.msg import CompressedImage

from inril_core.contract import Contract
from inril_core.data.episode_router import EpisodeRouter, LateDiscard, LateLabel, RouterSettings
from inril_core.data.episode_writer import episode_metadata, estimate_episode_bytes
from inril_core.data.finalise import Recovery
from inril_core.data.finisher import Finisher
from inril_core.data.index import Annotation, Drop, EpisodeIndex
from inril_core.data.schemas import (
    COMPRESSED_TYPE,
    EPISODE_EVENT,
    OBSERVATION,
    SENSOR_TOPICS,
    TOPICS,
    full_rate_topics,
    recorded_schemas,
)
from inril_core.errors import ConfigError
from inril_core.run import open_run
from inril_core.vocabulary import PURPOSES

POLL_PERIOD_S = 0.05
"""How often time-outs are looked at where no message comes."""
FINISHING_PERIOD_NS = 10_000_000
"""The same while an episode is being finished, for which others wait."""
STATUS_PERIOD_S = 0.5
PROGRESS_PERIOD_NS = 200_000_000
"""Steps that have reached the disk are told this often at most; what begins and ends an episode is told at once."""
STOP_TIMEOUT_S = 10.0


class RecorderNode(InrilNode):
    """Hears everything that makes an episode, raw; publishes /recorder_status.

    Episodes that an earlier process left unfinished are finished first, beside the recording.
    """

    gather_s = 0.04

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._finisher: Finisher | None = None
        self._recorder: EpisodeRouter | None = None
        self._lock: IO[str] | None = None
        self._heard: list[Any] = []
        self._polling: DeadlineTimer | None = None
        self._telling: Any = None

    def setup(self) -> None:
        """Take hold of the run's folders, recover what lies there, subscribe."""
        self.contract = self.contract_param()
        run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        lockstep = self.param("real_time_factor", 0.0, "0: lockstep; N: N times real time", 0.0, 100.0) == 0.0
        self._full_rate = self.param("full_rate", False, "record each image of each camera, and each state of the arm")
        cameras = {image.camera for image in self.contract.images}
        streams = full_rate_topics(cameras) if self._full_rate else {}
        settings = self._settings()
        for folder in (run.paths.raw, run.paths.episodes):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = run.paths.raw
        self._lock = _lock(run.paths.raw)
        index = EpisodeIndex(run.paths.episodes)
        self._finisher = Finisher(run.paths.raw, run.paths.episodes, index)
        self._recorder = EpisodeRouter(
            run.paths.raw,
            recorded_schemas(),
            settings,
            describe=_describe(self.contract, run.run_id),
            needed_bytes=lambda purpose, steps: estimate_episode_bytes(self.contract, purpose, steps, self._full_rate),
            known=lambda episode_id: index.find(episode_id) is not None,
            streams=streams,
        )
        self._index = index
        self._purposes = settings.purposes
        self._told_step, self._told_ns = -1, 0
        self._told: tuple[Any, ...] = ()
        self._said = ""
        self._publisher = self.create_publisher(RecorderStatus, "recorder_status", EVENT)
        self._link = self.link("observation", self.contract.staleness.session_s, self._idle)
        self.diagnose("recording", self._health)
        for topic, type_name in {**TOPICS, **streams}.items():
            kind = CompressedImage if type_name == COMPRESSED_TYPE else getattr(messages, type_name.rsplit("/", 1)[1])
            quality = sensor_qos(lockstep, record=True) if topic in SENSOR_TOPICS else RECORD
            hear = self._hear(topic)
            subscription = self.create_subscription(kind, topic.lstrip("/"), hear, quality, raw=True)
            if topic != EPISODE_EVENT:  # others wait for what begins and ends an episode
                gather(subscription)
            self._heard.append(subscription)
        self._look_at_disk()
        self._polling = self.deadline_timer(self.guarded(self._poll), POLL_PERIOD_S)
        self._telling = self.steady_timer(STATUS_PERIOD_S, self.guarded(self._tell))

    def stop(self) -> None:
        """End the running episode where it is."""
        if self._recorder is not None and self._finisher is not None:
            for path in self._recorder.close_all():
                self._finisher.submit(path)

    def teardown(self) -> None:
        """Finish what is closed; what is not done in time waits on disk for the next start."""
        while self._heard:  # a second setup must not hear everything twice
            self.destroy_subscription(self._heard.pop())
        if self._polling is not None:
            self._polling.destroy(self)
            self.destroy_timer(self._telling)
            self._polling = None
        if self._finisher is not None and not self._finisher.stop(STOP_TIMEOUT_S):
            self.get_logger().warning(f"{self._finisher.backlog} episodes are not finished; the next start does that")
        self._finisher = self._recorder = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _idle(self) -> bool:
        return not self.active or self._recorder is None or not self._recorder.recording

    def _settings(self) -> RouterSettings:
        purposes = self.param("record_purposes", list(PURPOSES), "purposes of the episodes to record")
        unknown = sorted(set(purposes) - set(PURPOSES))
        if unknown:
            raise ConfigError(f"record_purposes: {unknown} are not purposes; give some of {PURPOSES}")
        return RouterSettings(purposes=tuple(purposes))

    def _hear(self, topic: str) -> Callable[[bytes], None]:
        def hear(data: bytes) -> None:
            if not self.active or self._recorder is None:
                return
            now_ns = self.mono_ns()
            if topic == OBSERVATION:
                self._link.saw(now_ns)
            try:
                self._recorder.handle(topic, data, self.ros_ns(), now_ns)
            except ValueError as error:
                self.diagnostics.complain("message", f"not recorded: {error}")
            self._advance(now_ns)

        return hear

    def _poll(self) -> int:
        now_ns = self.mono_ns()
        if self.active:
            self._advance(now_ns)
        assert self._finisher is not None
        for result in self._finisher.results():
            self._report(result)
        return now_ns + (FINISHING_PERIOD_NS if self._finisher.backlog else round(POLL_PERIOD_S * 1e9))

    def _advance(self, now_ns: int) -> None:
        assert self._recorder is not None and self._finisher is not None
        for job in (*self._recorder.poll(now_ns), *self._words()):
            self._finisher.submit(job)
            if self._polling is not None:
                self._polling.at(now_ns + FINISHING_PERIOD_NS)
        recorder = self._recorder
        state = (recorder.recording, recorder.episode_id, recorder.refusal)
        if recorder.refusal and recorder.refusal != self._said:
            self.get_logger().error(f"not recorded: {recorder.refusal}")
        self._said = recorder.refusal
        progress = recorder.last_step_on_disk != self._told_step and now_ns - self._told_ns >= PROGRESS_PERIOD_NS
        if state != self._told or progress:
            self._told = state
            self._publish()

    def _words(self) -> Iterator[LateLabel | LateDiscard]:
        assert self._recorder is not None
        while self._recorder.words:
            yield self._recorder.words.popleft()

    def _tell(self) -> None:
        self._look_at_disk()
        if self.active:
            self._publish()

    def _look_at_disk(self) -> None:
        assert self._recorder is not None
        steps = self.contract.episode_length_steps
        refusals = (self._recorder.room_for(purpose, steps) for purpose in self._purposes)
        self._no_room = next((refusal for refusal in refusals if refusal), "")
        self._free_bytes = shutil.disk_usage(self._folder).free

    def _publish(self) -> None:
        assert self._recorder is not None and self._finisher is not None
        recorder = self._recorder
        self._told_step, self._told_ns = recorder.last_step_on_disk, self.mono_ns()
        reason = self._reason()
        status = RecorderStatus(
            boot_id=self.boot_id,
            episode_id=recorder.episode_id,
            last_step_on_disk=recorder.last_step_on_disk,
            episodes_on_disk=len(self._index.entries),
            free_bytes=self._free_bytes,
            reason="" if recorder.recording else reason,
        )
        status.header.stamp = self.get_clock().now().to_msg()
        if recorder.recording:
            status.state = RecorderStatus.RECORDING
        elif reason:
            status.state = RecorderStatus.REFUSING
        else:
            status.state = RecorderStatus.FINALISING if self._finisher.backlog else RecorderStatus.IDLE
        self._publisher.publish(status)

    def _reason(self) -> str:
        """Why no episode is recorded now; empty if one would be."""
        assert self._recorder is not None and self._finisher is not None
        if not self._finisher.keeps_up:
            return f"{self._finisher.backlog} episodes wait to be finished; is the disk full or slow?"
        return self._recorder.refusal or self._no_room

    def _health(self) -> Health:
        if self._recorder is None or self._finisher is None:
            return Health(OK, "not set up")
        values = {
            "episode_id": self._recorder.episode_id,
            "last_step_on_disk": self._recorder.last_step_on_disk,
            "unrecorded_messages": self._recorder.unrecorded,
            "streamed_messages_left_out": self._recorder.streams_cut,
            "free_bytes": self._free_bytes,
            "waiting_to_be_finished": self._finisher.backlog,
        }
        reason = self._reason()
        if reason:
            return Health(ERROR, reason, values)
        return Health(OK, "recording" if self._recorder.recording else "idle", values)

    def _report(self, result: Recovery | Annotation | Drop | str) -> None:
        if isinstance(result, str):
            self.get_logger().error(result)
        elif isinstance(result, Recovery):
            if result.entry is None:
                self.get_logger().error(f"not finished: {result.problem}", throttle_duration_sec=10.0)
            elif result.entry.problems:
                entry = result.entry
                found = "; ".join(entry.problems)
                self.get_logger().warning(
                    f"episode {entry.episode_id}, {entry.steps} steps, is not as it should be: {found}"
                )
        if self.active:
            self._publish()


def _describe(contract: Contract, run_id: str) -> Callable[[Any, str], Mapping[str, str]]:
    versions = json.dumps({"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}})

    def describe(begin: Any, purpose: str) -> Mapping[str, str]:
        return episode_metadata(
            contract, begin.run_id or run_id, purpose, begin.seed, begin.explore, begin.max_steps, versions
        )

    return describe


_PACKAGES = ("inril", "rclpy", "numpy", "mujoco", "mcap")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _lock(folder: Path) -> IO[str]:
    file = (folder / ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(
            f"{folder}: another recorder writes here; stop it, or give this one another run_dir"
        ) from error
    return file


def main() -> None:
    """Entry point."""
    run_node(RecorderNode)


if __name__ == "__main__":
    main()
