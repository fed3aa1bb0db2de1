"""The network: image encoder and state into one hidden layer, and from there success and progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from inril_core.classifier.examples import View
from inril_core.contract import ImageShape
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.networks.checkpoint import read_checkpoint, write_checkpoint
from inril_core.networks.encoder import EncoderConfig, ImageEncoder, PixelColumns

_BATCH = 256


class Network(nn.Module):
    """Logit of success ``[B]`` and progress ``[B]`` in [0, 1], of rows ``[B, D]`` (`View.rows`)."""

    mean: Tensor
    std: Tensor

    def __init__(self, state_size: int, images: tuple[ImageShape, ...], hidden: int, encoder: EncoderConfig) -> None:
        super().__init__()
        self.pixels = PixelColumns(state_size, images, encoder.shift_px)
        self.encoder = ImageEncoder(self.pixels, encoder)
        self.register_buffer("mean", torch.zeros(state_size))
        self.register_buffer("std", torch.ones(state_size))
        width = self.encoder.width(state_size + self.pixels.size)
        self.body = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.success, self.progress = nn.Linear(hidden, 1), nn.Linear(hidden, 1)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        state = (rows[:, : self.pixels.first] - self.mean) / self.std
        seen = self.body(self.encoder(torch.cat((state, rows[:, self.pixels.first :]), 1)))
        return self.success(seen).squeeze(1), torch.sigmoid(self.progress(seen).squeeze(1))


@dataclass(frozen=True)
class Threshold:
    """From which score on an observation is called a success, and how that was chosen."""

    score: float
    precision: float
    """Stated: of the held-out episodes in which it was reached, at least this share were successes that were over."""
    confidence: float
    fired_n: int
    """Held-out episodes in which it was reached."""
    right_n: int
    """Of them successes, called one no earlier than the gap before their end."""
    successes_n: int
    """Held-out successes."""
    precision_low: float
    """Lower bound of the precision (Clopper-Pearson), for all thresholds that were looked at together."""


@dataclass(frozen=True)
class Classifier:
    """A trained network with its threshold."""

    network: Network
    view: View
    threshold: Threshold
    gap_s: float
    interface_digest: str
    facts: Mapping[str, Any]
    """How it was made."""

    def scores(self, episode: Episode) -> npt.NDArray[np.float32]:
        """Of each observation, ``[T + 1]`` in [0, 1].

        Raises:
            ConfigError: recorded under another interface, or an image is missing.
        """
        return self.judged(episode)[0]

    def judged(self, episode: Episode) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scores and progress of each observation, ``[T + 1]`` in [0, 1].

        Raises:
            ConfigError: as `scores`.
        """
        if episode.interface_digest != self.interface_digest:
            raise ConfigError(
                f"episode {episode.episode_id}: interface {episode.interface_digest[:12]} is not the classifier's "
                f"{self.interface_digest[:12]}; train one on episodes of this contract"
            )
        return judge_rows(self.network, self.view.rows(episode))

    def says_success(self, episode: Episode) -> bool:
        """Whether the closing observation of a complete episode is called a success."""
        return episode.complete and bool(self.scores(episode)[-1] >= self.threshold.score)

    def save(self, path: Path) -> None:
        """Write all of it into one file, atomically."""
        facts = {
            "kind": "success_classifier",
            "state": self.view.state,
            "images": [list(image) for image in self.view.images],
            "hidden": self.network.success.in_features,
            "state_size": self.network.pixels.first,
            "encoder": self.network.encoder.config.model_dump(mode="json"),
            "threshold": asdict(self.threshold),
            "gap_s": self.gap_s,
            "interface_digest": self.interface_digest,
            "facts": dict(self.facts),
        }
        write_checkpoint(path, {"network": self.network.state_dict()}, facts)


def load_classifier(path: Path) -> Classifier:
    """What `Classifier.save` wrote.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        parts, facts = read_checkpoint(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: no readable success classifier; make one with `inril classifier train`") from error
    if facts.get("kind") != "success_classifier":
        raise ConfigError(f"{path}: is no success classifier; make one with `inril classifier train`")
    try:
        images = tuple(ImageShape(*image) for image in facts["images"])
        network = Network(facts["state_size"], images, facts["hidden"], EncoderConfig(**facts["encoder"]))
        network.load_state_dict(parts["network"])
        threshold, view = Threshold(**facts["threshold"]), View(facts["state"], images)
        return Classifier(network.eval(), view, threshold, facts["gap_s"], facts["interface_digest"], facts["facts"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{path}: no readable success classifier ({error}); train it again") from error


def judge_rows(
    network: Network, rows: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Scores and progress ``[N]`` of rows ``[N, D]``."""
    with torch.no_grad():
        found = [network(torch.from_numpy(part)) for part in np.array_split(rows, -(-len(rows) // _BATCH))]
    logits, progress = (torch.cat(column) for column in zip(*found, strict=True))
    return torch.sigmoid(logits).numpy(), progress.numpy()
