"""Serves finished episodes, so that serving never delays recording."""

from __future__ import annotations

import numpy as np
from inril_common.convert import byte_array
from inril_common.node import InrilPlainNode, run_node
from inril_common.qos import EVENT, LATCHED
from inril_msgs.msg import EpisodeReady, RecorderStatus
from inril_msgs.srv import ListEpisodes, ReadBlob

from inril_core.data.blobs import BlobRefused
from inril_core.data.store import Announcement, EpisodeStore
from inril_core.run import open_run
from inril_core.vocabulary import Label, Purpose

MAX_LISTED = 1000


class StoreNode(InrilPlainNode):
    """Follows the list of finished episodes; serves store/list_episodes and store/read_blob.

    Announces each episode on /episode_ready, again when its label changes.
    """

    def __init__(self) -> None:
        super().__init__("store_node")

    def setup(self) -> None:
        """Read the list and serve it."""
        run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        timeout_s = self.param("label_timeout_s", 10.0, "an unlabelled episode is announced after this", 0.0, 3600.0)
        rate_hz = self.param("poll_rate_hz", 2.0, "how often the list is looked at besides recorder_status", 0.1, 100.0)
        run.paths.episodes.mkdir(parents=True, exist_ok=True)
        self._store = EpisodeStore(run.paths.episodes, timeout_s)
        self._told_problems = 0
        self._publisher = self.create_publisher(EpisodeReady, "episode_ready", LATCHED)
        self._poll()
        self.create_service(ListEpisodes, "store/list_episodes", self.guarded(self._list))
        self.create_service(ReadBlob, "store/read_blob", self.guarded(self._read))
        self._on_disk = 0
        self.create_subscription(RecorderStatus, "recorder_status", self._on_recorder_status, EVENT)
        self.steady_timer(1.0 / rate_hz, self._poll)

    def _on_recorder_status(self, message: RecorderStatus) -> None:
        if message.episodes_on_disk != self._on_disk:
            self._on_disk = message.episodes_on_disk
            self._poll()

    def _poll(self) -> None:
        for announcement in self._store.poll(self.mono_ns()):
            self._publisher.publish(_message(announcement))
        for problem in self._store.problems[self._told_problems :]:
            self.get_logger().error(f"{problem}; its episode is not served (`inril data list` names the file)")
        self._told_problems = len(self._store.problems)

    def _list(self, request: ListEpisodes.Request, response: ListEpisodes.Response) -> ListEpisodes.Response:
        listed = self._store.listed(request.first_index, min(request.limit, MAX_LISTED))
        response.episodes = [_message(announcement) for announcement in listed]
        response.total = self._store.total
        return response

    def _read(self, request: ReadBlob.Request, response: ReadBlob.Response) -> ReadBlob.Response:
        try:
            size, data = self._store.read(bytes(request.sha256).hex(), request.offset, request.length)
        except BlobRefused as error:
            response.message = str(error)
            return response
        response.success, response.size_bytes, response.data = True, size, byte_array(data)
        return response


def _message(announcement: Announcement) -> EpisodeReady:
    entry = announcement.entry
    return EpisodeReady(
        index=entry.index,
        episode_id=entry.episode_id,
        run_id=entry.run_id,
        purpose=Purpose.of(entry.purpose),
        steps=entry.steps,
        complete=entry.complete,
        label=Label.of(announcement.success),
        sha256=np.frombuffer(bytes.fromhex(entry.sha256), np.uint8),
        size_bytes=entry.size_bytes,
    )


def main() -> None:
    """Entry point."""
    run_node(StoreNode)


if __name__ == "__main__":
    main()
