"""Episodes: written while they run, finished, listed, served, pulled and read. `read_episode` is the one
reader."""

from inril_core.data.container import EpisodeUnreadable
from inril_core.data.episode import Episode, InvalidEpisode
from inril_core.data.episode_writer import EpisodeWriter, RecordingFailed
from inril_core.data.finalise import EpisodeConflict, finalise, recover
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.measured import Measured
from inril_core.data.reader import EpisodeEmpty, read_episode
from inril_core.data.store import EpisodeStore

__all__ = [
    "Episode",
    "EpisodeConflict",
    "EpisodeEmpty",
    "EpisodeIndex",
    "EpisodeStore",
    "EpisodeUnreadable",
    "EpisodeWriter",
    "IndexEntry",
    "InvalidEpisode",
    "Measured",
    "RecordingFailed",
    "finalise",
    "read_episode",
    "recover",
]
