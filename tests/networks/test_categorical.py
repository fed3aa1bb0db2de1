"""Categorical critics: C51's projection in closed form, batch norm by hand, unit weight vectors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inril_core.networks.categorical import CategoricalCritics, project

VALUES = torch.linspace(-2.0, 2.0, 5)


def atoms(values) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


@given(
    seed=st.integers(0, 1000),
    shift=st.floats(-6, 6),
    shrink=st.floats(0.0, 1.0),
)
def test_mass_is_kept_and_so_is_the_mean_inside(seed: int, shift: float, shrink: float) -> None:
    g = torch.Generator().manual_seed(seed)
    probabilities = torch.softmax(3 * torch.randn((4, 5), generator=g), -1)
    moved = (shift + shrink * VALUES).expand(4, 5)
    projected, outside = project(-2.0, 2.0, moved, probabilities)
    assert (projected >= 0.0).all()
    torch.testing.assert_close(projected.sum(-1), torch.ones(4))
    clipped = (probabilities * moved.clamp(-2, 2)).sum(-1)
    torch.testing.assert_close(projected @ VALUES, clipped, atol=1e-5, rtol=1e-5)
    inside = ((moved >= -2) & (moved <= 2)).float()
    torch.testing.assert_close(outside, (probabilities * (1 - inside)).sum(-1), atol=1e-6, rtol=0)


def test_no_shift_changes_nothing_and_a_whole_step_moves_by_one() -> None:
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0]])
    torch.testing.assert_close(project(-2, 2, VALUES[None], p)[0], p)
    torch.testing.assert_close(project(-2, 2, VALUES[None] + 1.0, p)[0], torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4]]))
    torch.testing.assert_close(project(-2, 2, VALUES[None] + 0.25, p)[0][0, :2], torch.tensor([0.075, 0.175]))


def test_what_is_outside_goes_to_the_ends_and_is_told() -> None:
    p = torch.tensor([[0.5, 0.0, 0.2, 0.0, 0.3]])
    projected, outside = project(-2.0, 2.0, VALUES[None] * 3.0, p)
    torch.testing.assert_close(projected, torch.tensor([[0.5, 0.0, 0.2, 0.0, 0.3]]))
    assert outside.item() == pytest.approx(0.8)
    projected, outside = project(-2.0, 2.0, atoms([2.0, -2.0, 9.0, 0.0, 0.0]), torch.full((1, 5), 0.2))
    torch.testing.assert_close(projected, torch.tensor([[0.2, 0.0, 0.4, 0.0, 0.4]]))
    assert outside.item() == pytest.approx(0.2)


def make(members: int = 2) -> CategoricalCritics:
    return CategoricalCritics(members, 3, (6, 5), 7, torch.Generator().manual_seed(0))


def test_the_forward_pass_is_that_of_each_members_own_layers() -> None:
    """Pins: members mixed by the batched product, activation before the norm, statistics over the wrong axis."""
    critics = make()
    with torch.no_grad():
        for weight in list(critics.weights)[:6]:
            weight.add_(0.3 * torch.randn_like(weight))
    rows = torch.randn(16, 3)
    logits = critics(rows, "batch")
    for member in range(2):
        w = [tensor[member] for tensor in critics.weights]
        hidden = rows
        for layer in range(3):
            if layer:
                hidden = hidden @ w[5 + layer]
            norm = torch.nn.functional.batch_norm(
                hidden, None, None, w[2 * layer][0], w[2 * layer + 1][0], training=True, eps=1e-3
            )
            hidden = torch.relu(norm) if layer else norm
        torch.testing.assert_close(logits[member], hidden @ w[8] + w[9], rtol=1e-4, atol=1e-5)


def test_running_statistics_move_by_one_hundredth() -> None:
    """Pins: Flax's momentum 0.99 given to PyTorch, where it means the opposite."""
    critics, rows = make(1), torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 7.0]])
    critics(rows, "batch")
    assert critics.means[0].abs().max() == 0.0, "only an update takes statistics in"
    critics(rows, "update")
    torch.testing.assert_close(critics.means[0][0, 0].data, 0.01 * torch.tensor([2.0, 2.0, 5.0]))
    torch.testing.assert_close(critics.variances[0][0, 0].data, 0.99 + 0.01 * torch.tensor([1.0, 0.0, 4.0]))
    alone, together = critics(rows[:1], "running"), critics(rows, "running")[:, :1]
    torch.testing.assert_close(alone, together)
    assert not torch.allclose(critics(rows, "batch")[:, :1], together)


def test_every_unit_has_a_weight_vector_of_length_one_and_nothing_else_changes() -> None:
    critics, rows = make(), torch.randn(16, 3)
    before = critics(rows, "batch").detach()
    norms = list(critics.weights)[:6]
    kept = [tensor.clone() for tensor in norms]
    with torch.no_grad():
        for weight in list(critics.weights)[6:8]:
            weight.mul_(torch.rand_like(weight[:, :1]) + 0.5)
    critics.unit_norm_()
    for weight in list(critics.weights)[6:9]:
        torch.testing.assert_close(torch.linalg.vector_norm(weight, dim=1), torch.ones_like(weight[:, 0]))
    assert all(torch.equal(a, b) for a, b in zip(kept, norms, strict=True))
    torch.testing.assert_close(critics(rows, "batch"), before, rtol=1e-3, atol=1e-3)
