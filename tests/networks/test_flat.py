"""One flat vector for all parameters, and Adam on it, against torch's own."""

import torch
from torch import nn

from inril_core.networks.flat import Adam, FlatParameters


def test_flat_vector_is_the_module() -> None:
    """Pins: a copy instead of a view: steps on the vector that never reach the network."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    rows = torch.randn(6, 3)
    before = net(rows)
    flat = FlatParameters(net.parameters())
    assert torch.equal(net(rows), before)
    expected = torch.autograd.grad(net(rows).square().sum(), list(net.parameters()))
    gradient = flat.gradient(net(rows).square().sum())
    torch.testing.assert_close(gradient, torch.cat([g.reshape(-1) for g in expected]))
    twice = flat.gradient(net(rows).square().sum())
    torch.testing.assert_close(twice, torch.cat([g.reshape(-1) for g in expected]))  # not accumulated
    flat.value.zero_()
    assert torch.equal(net(rows), torch.zeros(6, 2))


def test_adam_is_torch_adam() -> None:
    """Pins: bias correction or epsilon in the wrong place."""
    torch.manual_seed(1)
    ours, theirs = torch.randn(20), nn.Parameter(torch.empty(20))
    theirs.data.copy_(ours)
    adam, reference = Adam(20, 0.01), torch.optim.Adam([theirs], 0.01)
    for step in range(30):
        gradient = torch.randn(20) * 10.0 ** (step % 5 - 6)
        theirs.grad = gradient.clone()
        reference.step()
        ours.sub_(adam.direction(gradient), alpha=adam.lr)
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_adam_state_continues() -> None:
    """Pins: a moment or the step count lost in a checkpoint."""
    torch.manual_seed(2)
    a, b = Adam(4, 0.1), Adam(4, 0.1)
    for _ in range(3):
        a.direction(torch.randn(4))
    b.load({name: tensor.clone() for name, tensor in a.state().items()})
    gradient = torch.randn(4)
    assert torch.equal(a.direction(gradient), b.direction(gradient))


def test_precondition_uses_the_second_moment_only() -> None:
    """Pins: momentum, or a changed state, in the borrowed preconditioner."""
    adam = Adam(2, 0.1, eps=0.0)
    g = torch.tensor([2.0, 0.5])
    assert torch.equal(adam.precondition(g), g)
    adam.direction(g)
    torch.testing.assert_close(adam.precondition(torch.tensor([4.0, 1.0])), torch.tensor([2.0, 2.0]))
    assert adam.steps == 1
