"""What a simulated intervener judges by: a critic of a reference policy, fitted on episodes or taken from a run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.experts.base import Expert
from inril_core.experts.intervener import CriticConfig
from inril_core.networks.checkpoint import read_checkpoint, write_checkpoint
from inril_core.networks.critics import CriticEnsemble, views_like
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies.gaussian import GaussianPolicy

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceCritic:
    """Q of a reference policy."""

    critics: CriticEnsemble
    normaliser: GaussianPolicy
    low: float
    """Least return it was fitted on; values are clipped to it."""
    high: float
    """Largest return it was fitted on; values are clipped to it."""

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
    reference: Expert,
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
