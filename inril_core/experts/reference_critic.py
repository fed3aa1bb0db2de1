"""What a simulated intervener judges by: a critic of a reference policy, fitted on episodes or taken from a run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.networks.checkpoint import read_checkpoint, write_checkpoint
from inril_core.networks.critics import CriticEnsemble, views_like
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies.gaussian import GaussianPolicy
from inril_core.settings import Settings
from inril_core.tasks.base import Demonstrator

Array = npt.NDArray[np.float32]


class CriticConfig(Settings):
    """How a reference critic is fitted.

    Attributes:
        file: see `load_reference_critic`; None: it is fitted before the run, with the rest of these settings.
        episodes: of the reference, in which its actions get noise rising from 0 to ``noise``, so that worse actions
            are known too.
        members: of the ensemble; their mean judges.
    """

    file: str | None = None
    episodes: int = Field(40, ge=2)
    noise: float = Field(0.6, ge=0.0, le=2.0)
    updates: int = Field(3000, ge=1)
    batch: int = Field(256, ge=1)
    lr: float = Field(1e-3, gt=0.0)
    gamma: float = Field(0.97, gt=0.0, lt=1.0)
    tau: float = Field(0.01, gt=0.0, le=1.0)
    members: int = Field(2, ge=1)
    hidden: tuple[int, ...] = (128, 128)


@dataclass(frozen=True)
class ReferenceCritic:
    """Q of a reference policy.

    Attributes:
        low, high: range of the returns it was fitted on; values are clipped to it.
    """

    critics: CriticEnsemble
    normaliser: GaussianPolicy
    low: float
    high: float

    @torch.no_grad()
    def value(self, observation: Array, action: Array) -> float:
        """Q(s, a), the members' mean, for an observation ``[D]`` and an executed action ``[A]``."""
        row = self.normaliser.normalise(self.normaliser.checked(observation))
        asked = torch.from_numpy(np.ascontiguousarray(action, np.float32)).clamp(-1.0, 1.0)
        q: Tensor = self.critics(row[None], asked[None])
        return min(max(float(q.mean()), self.low), self.high)

    def save(self, path: Path) -> None:
        """Write it to one safetensors file."""
        n = self.normaliser
        facts = {
            "reference_critic": {
                "members": self.critics.members,
                "hidden": list(self.critics.hidden),
                "sizes": [n.observation_size, n.action_size],
                "range": [self.low, self.high],
            }
        }
        weights = {str(i): w for i, w in enumerate(self.critics.weights)}
        normaliser = {"mean": n.observation_mean, "std": n.observation_std}
        write_checkpoint(path, {"critic": weights, "normaliser": normaliser}, facts)


def load_reference_critic(path: Path) -> ReferenceCritic:
    """What `ReferenceCritic.save` wrote, or the critic in the checkpoint of a run with ``rlpd``.

    Raises:
        ConfigError: missing, not readable, or something else.
    """
    parts, facts = read_checkpoint(path)
    if isinstance(facts.get("reference_critic"), dict):
        shape = facts["reference_critic"]
        sizes, (low, high) = shape["sizes"], shape["range"]
        weights = torch.cat([parts["critic"][str(i)].reshape(-1) for i in range(len(parts["critic"]))])
        normaliser = parts["normaliser"]
    else:
        rl, policy = (facts.get("config", {}).get("rl", {}), facts.get("policy", {}))
        if rl.get("method") != "rlpd" or policy.get("kind") != "gaussian":
            raise ConfigError(
                f"{path}: holds no reference critic, nor the checkpoint of a gaussian policy trained with rlpd; save "
                "one with ReferenceCritic.save"
            )
        shape = {"members": rl["critics"], "hidden": rl["hidden"]}
        sizes = [policy["observation_size"], policy["action_size"]]
        low, high = rl["target_range"] or (-math.inf, math.inf)
        weights = parts["rl"]["critic"]
        normaliser = {name: parts["policy"][f"observation_{name}"] for name in ("mean", "std")}
    d, a = sizes
    critics = CriticEnsemble(shape["members"], d, a, shape["hidden"], torch.Generator())
    FlatParameters(critics.parameters()).value.copy_(weights)
    scale = GaussianPolicy(d, a)
    scale.observation_mean.copy_(normaliser["mean"])
    scale.observation_std.copy_(normaliser["std"])
    return ReferenceCritic(critics, scale, low, high)


def fit_reference_critic(
    episodes: Sequence[Episode],
    reference: Demonstrator,
    label: Callable[[Episode], tuple[Array, Array]],
    config: CriticConfig,
    seed: int,
) -> ReferenceCritic:
    """Q of the ``reference`` by temporal differences: y = r + gamma * mask * Q'(s', a_ref(s')).

    Episodes may be anybody's; those of the reference with some noise know what lies near its way.

    Args:
        episodes: recorded, of one task.
        reference: acts in every recorded state once more, for a_ref.
        label: rewards ``[T]`` and masks ``[T]`` of an episode: what is valued.
        seed: decides the initial weights and the minibatches.

    Raises:
        ConfigError: no episodes.
    """
    if not episodes:
        raise ConfigError("a reference critic needs episodes of the reference; give at least one")
    generator = torch.Generator().manual_seed(seed)
    d, a = episodes[0].observations.shape[1], episodes[0].actions.shape[1]
    normaliser = GaussianPolicy(d, a)
    normaliser.fit_normaliser(np.concatenate([e.observations for e in episodes]))
    columns: list[list[Tensor]] = [[], [], [], [], [], []]
    returns = [0.0]
    for episode in episodes:
        reward, mask = label(episode)
        rows = normaliser.normalise(torch.tensor(episode.observations))
        reference.reset(episode.seed)
        answers = torch.tensor(np.stack([reference.act(row) for row in episode.observations]))
        parts = (rows[:-1], torch.tensor(episode.actions), torch.tensor(reward), torch.tensor(mask), rows[1:])
        for column, part in zip(columns, (*parts, answers[1:]), strict=True):
            column.append(part)
        running = 0.0
        for value in reward[::-1]:
            running = float(value) + config.gamma * running
            returns.append(running)
    s, actions, r, masks, following, answers = (torch.cat(column) for column in columns)
    low, high = min(returns), max(returns)
    critics = CriticEnsemble(config.members, d, a, config.hidden, generator)
    flat = FlatParameters(critics.parameters())
    target = flat.value.clone()
    target_weights = views_like(target, list(critics.weights))
    adam = Adam(flat.value.numel(), config.lr)
    for _ in range(config.updates):
        picks = torch.randint(len(s), (config.batch,), generator=generator)
        with torch.no_grad():
            beyond = critics(following[picks], answers[picks], target_weights).mean(0)
            y = (r[picks] + config.gamma * masks[picks] * beyond).clamp(low, high)
        loss = (critics(s[picks], actions[picks]) - y).square().mean() * config.members
        flat.value.sub_(adam.direction(flat.gradient(loss)), alpha=adam.lr)
        target.lerp_(flat.value, config.tau)
    return ReferenceCritic(critics, normaliser, low, high)
