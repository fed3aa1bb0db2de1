"""Which episode came in before which update: with the episodes, all that is needed to train a policy once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.files import read_lines

if TYPE_CHECKING:
    from inril_core.finetune.learner import Learner

INGEST_LOG_NAME = "ingest.jsonl"


@dataclass(frozen=True)
class IngestRecord:
    """One line of the ingest log: before which update an episode came in, and its content."""

    update: int
    episode_id: str
    sha256: str
    steps: int


def read_ingest_log(run_dir: Path) -> list[IngestRecord]:
    """The ingest log of a run, oldest first.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_lines(Path(run_dir) / INGEST_LOG_NAME, IngestRecord)


def replay_run(learner: "Learner", log: Sequence[IngestRecord], episodes: dict[str, Episode], updates: int) -> None:
    """Give a fresh ``learner`` the episodes of ``log``, each before the update it came before, up to ``updates``.

    With the run's config, initial policy and demonstrations, the outcome is the run's, bit for bit.

    Raises:
        ConfigError: an episode is missing or its content is not what was ingested; or the method is on-policy.
    """
    if learner.on_policy:
        raise ConfigError(
            f"rl.method = {learner.config.rl.method!r}: an on-policy run cannot be replayed from its log, which does "
            "not say from which update on each version of the policy acted; resume the run from its checkpoint instead"
        )
    for record in log:
        while learner.updates < min(record.update, updates):
            learner.train_step()
        episode = episodes.get(record.episode_id)
        if episode is None or episode.sha256 != record.sha256:
            raise ConfigError(f"episode {record.episode_id}: missing, or not the content {record.sha256[:12]} ingested")
        learner.ingest(episode)
    while learner.updates < updates:
        learner.train_step()
