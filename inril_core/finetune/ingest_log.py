"""Which episode came in before which update: with the episodes, all that is needed to train a policy once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inril_core.data.episode import Episode
from inril_core.data.said import digest_of
from inril_core.errors import ConfigError
from inril_core.files import read_lines

if TYPE_CHECKING:
    from inril_core.finetune.learner import Learner

INGEST_LOG_NAME = "ingest.jsonl"


@dataclass(frozen=True)
class IngestRecord:
    """One line of the ingest log: an episode that came in or was corrected, and its content."""

    update: int
    """The update before which it came in."""
    episode_id: str
    sha256: str
    steps: int
    """Of the episode; 0 where it, or a demonstration, was taken in before and something new was said of it."""
    said: str
    """Digest of what was said of it, `inril_core.data.said.digest_of`."""


def read_ingest_log(run_dir: Path) -> list[IngestRecord]:
    """The ingest log of a run, oldest first.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_lines(Path(run_dir) / INGEST_LOG_NAME, IngestRecord)


def replay_run(learner: "Learner", log: Sequence[IngestRecord], episodes: Sequence[Episode], updates: int) -> None:
    """Give a fresh ``learner`` the episodes of ``log``, each before the update it came before, up to ``updates``.

    Args:
        episodes: all that the log names; one that was corrected both as it came and as it was then.

    With the run's config, initial policy and demonstrations, the outcome is the run's, bit for bit.

    Raises:
        ConfigError: an episode is missing or its content is not what was ingested; or the method is on-policy.
    """
    if learner.on_policy:
        raise ConfigError(
            f"rl.method = {learner.config.rl.method!r}: an on-policy run cannot be replayed from its log, which does "
            "not say from which update on each version of the policy acted; resume the run from its checkpoint instead"
        )
    found = {(episode.episode_id, episode.sha256, digest_of(episode)): episode for episode in episodes}
    for record in log:
        while learner.updates < min(record.update, updates):
            learner.train_step()
        episode = found.get((record.episode_id, record.sha256, record.said))
        if episode is None:
            raise ConfigError(
                f"episode {record.episode_id}: missing, or not the content {record.sha256[:12]} ingested, or other "
                "things were said of it"
            )
        if learner.said(record.episode_id) is None:
            learner.ingest(episode)
        else:
            learner.revise(episode)
    while learner.updates < updates:
        learner.train_step()
