"""What each way of drawing a diffusion policy's plans makes of demonstrations that go two ways.

    python -m inril_core.bench.two_ways

A plan is four actions of one number. Half of the demonstrations pass an obstacle on the left, near -0.6, half on the
right, near 0.6, each with a constant offset of its own of std 0.05; -0.3 to 0.3 is the obstacle. Told are: the share of
single actions in the obstacle; the spread of ten plans for one state around their own way, as a critic that chooses
among candidates gets them (the demonstrations' is 0.05); in how many states all ten go the same way (by chance 0.2 %);
and how often the network is asked for a plan.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from inril_core.networks.compute import use_one_thread
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import ImitationSettings, diffusion, exploration_rng

WAY, OFFSET_STD, OBSTACLE = 0.6, 0.05, 0.3
CHUNK = 4
Inference = Literal["posterior", "ddim", "mean"]
INFERENCES: tuple[Inference, ...] = ("posterior", "ddim", "mean")


@dataclass(frozen=True)
class TwoWays:
    """What the plans of one policy do."""

    through_obstacle: float
    """Share of single actions."""
    candidate_spread: float
    """Std of ten plans for one state around the mean of those that go the same way; root mean square over states."""
    one_way: float
    """Share of states for which all plans go the same way."""
    network_calls: int
    """Per plan."""


def demonstrations(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs ``[N, 1]``, which tell nothing of the way, and plans ``[N, CHUNK]``."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 2.0 * torch.rand((count, 1), generator=generator) - 1.0
    ways = torch.where(torch.arange(count) % 2 == 0, WAY, -WAY)[:, None]
    return inputs, (ways + OFFSET_STD * torch.randn((count, 1), generator=generator)).expand(-1, CHUNK).contiguous()


def cloned(seed: int, updates: int = 2000) -> diffusion.DiffusionPolicy:
    """A policy that was trained on the demonstrations."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = diffusion.Config(chunk=CHUNK, hidden=(64, 64)).build(1, 1)
    inputs, plans = demonstrations(512, seed)
    flat, generator = FlatParameters(policy.parameters()), torch.Generator().manual_seed(seed)
    adam = Adam(flat.value.numel(), 3e-3)
    for update in range(updates):
        rows = torch.randint(len(inputs), (256,), generator=generator)
        loss = policy.imitation_loss(inputs[rows], plans[rows], ImitationSettings(), generator)
        flat.value.sub_(adam.direction(flat.gradient(loss)), alpha=adam.lr * (1.0 - update / updates))
    return policy


@torch.no_grad()
def measure(
    policy: diffusion.DiffusionPolicy, inference: Inference, states: int = 100, candidates: int = 10
) -> TwoWays:
    """Draw ``candidates`` plans for each of so many states, not exploring."""
    calls = 0

    def counted(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = policy.network.register_forward_hook(counted)
    given, policy.config = policy.config, policy.config.model_copy(update={"inference": inference})
    try:
        rows = torch.linspace(-1.0, 1.0, states)[:, None, None].expand(-1, candidates, -1)
        plans = np.stack([policy.draw(row, False, exploration_rng(0, i))[-1].numpy() for i, row in enumerate(rows)])
    finally:
        policy.config = given
        hook.remove()
    right = plans[..., :1] > 0.0
    squares = []
    for here, side in zip(plans, right[..., 0], strict=True):
        for way in (here[side], here[~side]):
            if len(way) > 1:
                squares.append(way.var(0, ddof=1).mean())
    return TwoWays(
        float((np.abs(plans) < OBSTACLE).mean()),
        float(np.sqrt(np.mean(squares))),
        float((right.all((1, 2)) | ~right.any((1, 2))).mean()),
        calls // states,
    )


def main() -> None:
    """Print a Markdown table: means of three seeds."""
    use_one_thread()
    policies = [cloned(seed) for seed in range(3)]
    print("| `policy.inference` | in the obstacle, % | spread of ten plans | all ten one way, % | network calls |")
    print("|---|---|---|---|---|")
    for inference in INFERENCES:
        found = [measure(policy, inference) for policy in policies]
        shares = ", ".join(f"{100 * one.through_obstacle:.1f}" for one in found)
        spread = ", ".join(f"{one.candidate_spread:.4f}" for one in found)
        one_way = ", ".join(f"{100 * one.one_way:.0f}" for one in found)
        print(f"| `{inference}` | {shares} | {spread} | {one_way} | {found[0].network_calls} |")


if __name__ == "__main__":
    main()
