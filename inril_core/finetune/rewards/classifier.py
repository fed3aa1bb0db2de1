"""A success classifier's judgement as the reward (HIL-SERL, arXiv 2410.21845): 1 for the last action of an episode
whose closing observation is called a success.

What a person says of an episode counts more: it is taken where there is a label of a person.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from inril_core.classifier.agreement import DriftWatch
from inril_core.classifier.examples import labelled_by_person
from inril_core.classifier.model import Classifier, load_classifier
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig
from inril_core.finetune.memory.transitions import last_acted


class Config(RewardConfig):
    """Settings of the classifier's reward."""

    method: Literal["classifier"]
    provides = frozenset({"last_step"})
    path: str = Field(min_length=1)
    """File that `inril classifier train` wrote. As a suggestion only, leave this method out: `inril classifier check`
    then says what the classifier would have said."""
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    """Of the file, as `inril classifier train` prints it: with it a run cannot go on with another classifier. Empty:
    not looked at."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        limits = whole.rl.value_bounds()
        if limits is not None and (limits[0] > 0.0 or limits[1] < 1.0):
            raise ConfigError(
                f"rl.target_range = {list(limits)} cuts off values of rewards.method = 'classifier', which lie in "
                "[0, 1]; set it to null or to that"
            )
        self.classifier()

    def classifier(self) -> Classifier:
        """The classifier.

        Raises:
            ConfigError: it cannot be read, or has another digest.
        """
        return _loaded(Path(self.path).expanduser().absolute(), self.sha256)

    def succeeded(self, episode: Episode) -> bool:
        """Success by a person's label, or by the classifier."""
        if labelled_by_person(episode):
            return episode.succeeded
        return not episode.left_out and self.classifier().says_success(episode)

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """See `RewardConfig.label`.

        Raises:
            ConfigError: an image that the classifier looks at is missing.
        """
        rewards, masks = np.zeros(episode.steps, np.float32), np.ones(episode.steps, np.float32)
        won = self.succeeded(episode)
        if episode.complete and (won or episode.terminated):
            last = last_acted(episode)
            rewards[last], masks[last] = float(won), 0.0
        return rewards, masks

    def informative(self, episode: Episode) -> npt.NDArray[np.bool_]:
        """See `RewardConfig.informative`."""
        told = np.zeros(episode.steps, bool)
        told[last_acted(episode)] = episode.complete and self.succeeded(episode)
        return told

    def drift_watch(self) -> DriftWatch:
        """Compares the classifier with people's labels while a learner runs."""
        return DriftWatch(self.classifier())


@lru_cache(maxsize=4)
def _loaded(path: Path, sha256: str) -> Classifier:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"rewards.path = {str(path)!r}: {error.strerror}; give the file of a classifier") from error
    if sha256 and found != sha256:
        raise ConfigError(
            f"rewards.sha256 = {sha256[:12]}...: {path} has {found[:12]}...; give the file that the run began with, or "
            "begin a new run"
        )
    return load_classifier(path)
