"""Serves finished episodes, so that serving never delays recording."""

from __future__ import annotations

import numpy as np
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import EVENT, LATCHED
from inril_msgs.msg import EpisodeReady, RecorderStatus, SaidStretch
from inril_msgs.srv import ListEpisodes

from inril_core.blobs import BlobServer
from inril_core.data.store import Announcement, EpisodeStore
from inril_core.run import default_key_path, open_run
from inril_core.vocabulary import Label, Purpose
from inril_core.weights import load_or_create_key

MAX_LISTED = 1000
POLL_PERIOD_S = 0.5
"""The list is looked at so often, and whenever recorder_status tells of an episode."""


class StoreNode(InrilPlainNode):
    """Follows the list of finished episodes; serves store/list_episodes, and the files by a `BlobServer`.

    Announces each episode on /episode_ready, again when a person says something of it.
    """

    def __init__(self) -> None:
        super().__init__("store_node")

    def setup(self) -> None:
        """Read the list and serve it."""
        run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        timeout_s = self.param("label_timeout_s", 10.0, "an unlabelled episode is announced after this", 0.0, 3600.0)
        run.paths.episodes.mkdir(parents=True, exist_ok=True)
        host = self.param("blob_host", "127.0.0.1", "address at which episodes are served, that the learner reaches")
        key = load_or_create_key(default_key_path())
        self._blobs = BlobServer(key, host)
        self._store = EpisodeStore(run.paths.episodes, timeout_s, self._blobs.put)
        self._told_problems = 0
        self._publisher = self.create_publisher(EpisodeReady, "episode_ready", LATCHED)
        self._poll()
        self.create_service(ListEpisodes, "store/list_episodes", self._list)
        self._on_disk = 0
        self.create_subscription(RecorderStatus, "recorder_status", self._on_recorder_status, EVENT)
        self.steady_timer(POLL_PERIOD_S, self._poll)

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
        revised = self._store.revised(request.after_line, min(request.limit, MAX_LISTED))
        response.revised = [_message(announcement) for announcement in revised]
        response.total = self._store.total
        response.address = self._blobs.address
        return response


def _message(announcement: Announcement) -> EpisodeReady:
    entry, said = announcement.entry, announcement.said
    return EpisodeReady(
        index=entry.index,
        episode_id=entry.episode_id,
        run_id=entry.run_id,
        purpose=Purpose.of(entry.purpose),
        steps=entry.steps,
        complete=entry.complete,
        label=Label.of(said.success),
        by=said.by,
        left_out=said.left_out,
        stretches=[
            SaidStretch(
                first_step=stretch.first_step,
                last_step=stretch.last_step,
                gives_reward=stretch.reward is not None,
                mark=int(stretch.mark or 0),
                reward=stretch.reward or 0.0,
            )
            for stretch in said.stretches
        ],
        line=announcement.line,
        sha256=np.frombuffer(bytes.fromhex(entry.sha256), np.uint8),
        size_bytes=entry.size_bytes,
    )


def main() -> None:
    """Entry point."""
    run_node(StoreNode)


if __name__ == "__main__":
    main()
