"""How a classifier agrees with the labels that people give, and when that is no longer what was stated."""

from __future__ import annotations

from dataclasses import dataclass, fields

from inril_core.classifier.examples import example_of, labelled_by_person
from inril_core.classifier.model import Classifier, Threshold
from inril_core.classifier.threshold import counts
from inril_core.data.episode import Episode
from inril_core.evaluation.statistics.proportions import Interval, clopper_pearson


@dataclass
class Agreement:
    """Counts over the episodes that people labelled."""

    episodes_n: int = 0
    fired_n: int = 0
    """Episodes in which the threshold was reached."""
    right_n: int = 0
    """Of them successes, called one no earlier than the classifier's gap before their end."""
    successes_n: int = 0
    """Episodes that people called a success."""

    def saw(self, classifier: Classifier, episode: Episode) -> bool:
        """Count an episode, if a person labelled it; whether one did.

        Raises:
            ConfigError: as `Classifier.judged`.
        """
        if not labelled_by_person(episode):
            return False
        example = example_of(episode, classifier.view, classifier.gap_s)
        fired, right = counts([example], [classifier.scores(episode)], classifier.threshold.score)
        self.episodes_n += 1
        self.fired_n += fired
        self.right_n += right
        self.successes_n += episode.succeeded
        return True

    def precision(self, confidence: float = 0.95) -> Interval | None:
        """Clopper-Pearson interval; None where it was never reached."""
        return clopper_pearson(self.right_n, self.fired_n, confidence) if self.fired_n else None

    def recall(self, confidence: float = 0.95) -> Interval | None:
        """Share of the successes that were found; None without successes."""
        return clopper_pearson(self.right_n, self.successes_n, confidence) if self.successes_n else None

    def drift(self, stated: Threshold) -> str:
        """Why the classifier should not be trusted any more; empty where the labels do not speak against it.

        It warns where the labels exclude the stated precision, or a recall as it was on the held-out episodes: with
        each of the two a false alarm has a probability of at most ``1 - confidence``.
        """
        two_sided = 2.0 * stated.confidence - 1.0
        two_sided = max(two_sided, 0.501)
        found = self.precision(two_sided)
        if found is not None and found.high < stated.precision:
            return (
                f"it was right in {self.right_n} of {self.fired_n} episodes, and its stated precision is "
                f"{stated.precision:g}: do not use it as a reward; label more episodes and train it again"
            )
        recall = self.recall(two_sided)
        held_out = clopper_pearson(stated.right_n, stated.successes_n, stated.confidence).low
        if recall is not None and recall.high < held_out:
            return (
                f"it found {self.right_n} of {self.successes_n} successes, and at least {held_out:.2f} of those it was "
                "chosen on: what the cameras see has changed; label more episodes and train it again"
            )
        return ""


class DriftWatch:
    """Looks at each episode of a running learner, and says when the labels begin to speak against the classifier."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._seen: dict[str, Agreement] = {}
        self._drifted = False

    @property
    def agreement(self) -> Agreement:
        """With the newest label of each episode."""
        total = Agreement()
        for seen in self._seen.values():
            for field in fields(Agreement):
                setattr(total, field.name, getattr(total, field.name) + getattr(seen, field.name))
        return total

    def saw(self, episode: Episode) -> str:
        """Count an episode, or its newer label in the place of the older; the warning, when it becomes true.

        Raises:
            ConfigError: as `Classifier.judged`.
        """
        seen = Agreement()
        self._seen.pop(episode.episode_id, None)
        if seen.saw(self._classifier, episode):
            self._seen[episode.episode_id] = seen
        drift, before = self.agreement.drift(self._classifier.threshold), self._drifted
        self._drifted = bool(drift)
        return "" if before else drift
