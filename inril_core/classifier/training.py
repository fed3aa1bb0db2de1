"""Training of a success classifier on labelled episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inril_core.classifier.examples import Example, View, example_of, labelled_by_person, split
from inril_core.classifier.model import Classifier, Network, judge_rows
from inril_core.classifier.threshold import choose
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.networks.encoder import EncoderConfig, draw_shifts, shifted


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a classifier besides the data."""

    precision: float = 0.9
    """Stated; the threshold is the one that keeps it on held-out episodes."""
    confidence: float = 0.95
    held_out: float = 0.5
    """Share of the episodes that choose the threshold; a stated precision costs many."""
    gap_s: float = 0.5
    """So long before its end a success is surely not one yet."""
    updates: int = 1500
    batch: int = 64
    """Rows, half of them positives."""
    lr: float = 1e-3
    hidden: int = 64
    seed: int = 0
    any_label: bool = False
    """Take the machine's labels, too, e.g. those of a simulated cell."""
    encoder: EncoderConfig = EncoderConfig()

    def __post_init__(self) -> None:
        """Raises:
        ConfigError: a value is out of its range.
        """
        for name in ("precision", "held_out"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be between 0 and 1")
        if not 0.5 < self.confidence < 1.0:
            raise ConfigError(f"confidence = {self.confidence}: must be in (0.5, 1)")
        for name, low in (("gap_s", 0.0), ("updates", 1), ("batch", 2), ("hidden", 1)):
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be at least {low}")


def train(
    episodes: Sequence[Episode],
    view: View,
    settings: TrainingSettings,
    on_update: Callable[[int, float], None] | None = None,
) -> Classifier:
    """A classifier of what people labelled; decided by the episodes, in their order, and ``settings.seed``.

    Args:
        on_update: told each update's index and loss.

    Raises:
        ConfigError: too few labels, episodes of several interfaces, a missing image, or no threshold keeps the stated
            precision.
    """
    used = [e for e in episodes if labelled_by_person(e) or (settings.any_label and _labelled(e))]
    if not used:
        raise ConfigError(
            f"{len(episodes)} episodes, none labelled by a person: say success or failure at the end of each "
            "(`inril episode success`, or the button of the device), or take the machine's labels (--any-label)"
        )
    if len({episode.interface_digest for episode in used}) > 1:
        raise ConfigError("the episodes were recorded under several interfaces; give those of one contract")
    examples = [example_of(episode, view, settings.gap_s) for episode in used]
    shown, held_out = split(examples, settings.held_out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        state_size = used[0].observations.shape[1] if view.state else 0
        network = Network(state_size, view.images, settings.hidden, settings.encoder)
        _fit(network, shown, settings, on_update)
    network.eval()
    scores = [judge_rows(network, example.rows)[0] for example in held_out]
    threshold = choose(held_out, scores, settings.precision, settings.confidence)
    facts = {
        "seed": settings.seed,
        "updates": settings.updates,
        "episodes": [episode.sha256 for episode in used],
        "held_out": [example.episode_id for example in held_out],
    }
    return Classifier(network, view, threshold, settings.gap_s, used[0].interface_digest, facts)


def _labelled(episode: Episode) -> bool:
    return episode.success is not None and episode.complete and not episode.left_out


def _fit(
    network: Network,
    shown: Sequence[Example],
    settings: TrainingSettings,
    on_update: Callable[[int, float], None] | None,
) -> None:
    rows = torch.from_numpy(np.concatenate([example.rows for example in shown]))
    sides = [
        torch.from_numpy(np.flatnonzero(np.concatenate([getattr(e, side) for e in shown])))
        for side in ("positive", "negative")
    ]
    progress = torch.from_numpy(np.concatenate([example.progress for example in shown]))
    timed = torch.from_numpy(np.flatnonzero(~np.isnan(progress.numpy())))
    first = network.pixels.first
    if first:
        network.mean.copy_(rows[:, :first].mean(0))
        network.std.copy_(rows[:, :first].std(0, correction=0).clamp_min(1e-3))
    generator = torch.Generator().manual_seed(settings.seed)
    adam = torch.optim.Adam(network.parameters(), settings.lr)
    half = max(settings.batch // 2, 1)
    wanted = torch.cat((torch.ones(half), torch.zeros(half)))
    for update in range(settings.updates):
        picks = torch.cat([_drawn(side, half, generator) for side in sides])
        when = _drawn(timed, half, generator)
        logits, _ = network(_moved(rows[picks], network, generator))
        _, guessed = network(_moved(rows[when], network, generator))
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        loss = loss + functional.mse_loss(guessed, progress[when])
        adam.zero_grad()
        loss.backward()
        adam.step()
        if on_update is not None:
            on_update(update, float(loss.detach()))


def _drawn(among: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return among[torch.randint(len(among), (count,), generator=generator)]


def _moved(rows: Tensor, network: Network, generator: torch.Generator) -> Tensor:
    """Rows whose images are shifted at random, and are brighter or darker by up to a fifth."""
    pixels, begin = network.pixels, network.pixels.first
    if not pixels.shapes:
        return rows
    rows = rows.clone()
    for shape in pixels.shapes:
        columns = slice(begin, begin + shape.size)
        image = rows[:, columns].reshape(-1, shape.height_px, shape.width_px, 3)
        if pixels.shift_px:
            image = shifted(image, draw_shifts(len(rows), pixels.shift_px, generator))
        light = 0.8 + 0.4 * torch.rand((len(rows), 1, 1, 1), generator=generator)
        rows[:, columns] = (image * light).clamp(0.0, 255.0).flatten(1)
        begin += shape.size
    return rows
