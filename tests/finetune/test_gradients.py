"""Projections of gradients, against their closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.finetune.combine.common.gradients import cosine, project_conflicting, project_orthogonal

numbers = st.floats(-1e3, 1e3, width=32)
pairs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.lists(numbers, min_size=n, max_size=n), st.lists(numbers, min_size=n, max_size=n))
)


def vectors(pair: tuple[list[float], list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(pair[0], dtype=torch.float64), torch.tensor(pair[1], dtype=torch.float64)


@settings(max_examples=200, deadline=None)
@given(pairs)
def test_orthogonal_leaves_nothing_along_ref_and_all_else(pair: tuple[list[float], list[float]]) -> None:
    """Pins: a wrong sign or denominator: the result must be orthogonal to ref and differ from g along ref only."""
    g, ref = vectors(pair)
    out = project_orthogonal(g, ref)
    scale = float(g.norm() * ref.norm())
    if float(ref @ ref) <= 1e-30:  # taken for zero: the quotient would leave the range of float32
        assert torch.equal(out, g)
        return
    assert abs(float(out @ ref)) <= 1e-9 * scale + 1e-12
    taken = g - out
    along = (float(taken @ ref) / float(ref @ ref)) * ref
    torch.testing.assert_close(taken, along, rtol=1e-7, atol=1e-7)


@settings(max_examples=200, deadline=None)
@given(pairs)
def test_conflicting_acts_on_conflict_only(pair: tuple[list[float], list[float]]) -> None:
    """Pins: projection of agreeing gradients, or none of conflicting ones."""
    g, ref = vectors(pair)
    out = project_conflicting(g, ref)
    if float(g @ ref) >= 0.0:
        assert torch.equal(out, g)
    else:
        assert torch.equal(out, project_orthogonal(g, ref))
        assert float(out @ ref) >= -1e-9 * float(g.norm() * ref.norm()) - 1e-12


def test_known_case() -> None:
    """Pins: numbers worked out by hand."""
    g, ref = torch.tensor([-1.0, 2.0]), torch.tensor([2.0, 0.0])
    assert project_conflicting(g, ref).tolist() == [0.0, 2.0]
    assert project_conflicting(-g, ref).tolist() == [1.0, -2.0]
    assert project_orthogonal(-g, ref).tolist() == [0.0, -2.0]
    assert cosine(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx(0.5**0.5)


def test_zero_ref_returns_g() -> None:
    """Pins: 0/0 at the start of training."""
    g = torch.tensor([1.0, -2.0])
    for project in (project_conflicting, project_orthogonal):
        assert torch.equal(project(g, torch.zeros(2)), g)
    assert cosine(g, torch.zeros(2)) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("project", [project_conflicting, project_orthogonal, cosine])
def test_non_finite_is_refused(project, bad: float) -> None:
    """Pins: one NaN that spreads into the weights."""
    good, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, bad])
    for pair in ((good, wrong), (wrong, good)):
        with pytest.raises(ValueError, match="NaN"):
            project(*pair)


def test_shapes_must_agree() -> None:
    """Pins: broadcasting two different networks' gradients."""
    for pair in (
        (torch.ones(2), torch.ones(3)),
        (torch.ones(1), torch.ones(2)),
        (torch.ones(2, 1), torch.ones(2, 1)),
    ):
        with pytest.raises(ValueError, match="1-D"):
            project_conflicting(*pair)
