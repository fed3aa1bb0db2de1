"""PCGrad and CAGrad, against closed forms and a numerical solver of the problem they claim to solve."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from inril_core.finetune.combine.common.gradients import cagrad, pcgrad, project_conflicting

numbers = st.floats(-10.0, 10.0, width=32).filter(lambda x: x == 0.0 or abs(x) > 1e-3)


def stacks(low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    return st.tuples(st.integers(low, high), st.integers(1, 6)).flatmap(
        lambda kp: st.lists(st.lists(numbers, min_size=kp[1], max_size=kp[1]), min_size=kp[0], max_size=kp[0]).map(
            lambda rows: np.array(rows, np.float64)
        )
    )


def as_grads(rows: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(row) for row in rows]


def best_worst_case(rows: np.ndarray, c: float, average: np.ndarray) -> float:
    """max_d min_i <g_i, d> in the ball, by a general solver on the primal, from two starts."""
    g0 = average @ rows
    radius, best = c * np.linalg.norm(g0), -np.inf
    for seed in range(2):
        offset = 0.1 * seed * radius * np.random.default_rng(seed).standard_normal(len(g0))
        solution = minimize(
            lambda x: -x[-1],
            np.append(g0 + offset, -1.0),
            jac=lambda x: np.append(np.zeros(len(x) - 1), -1.0),
            method="SLSQP",
            constraints=[
                {"type": "ineq", "fun": lambda x: rows @ x[:-1] - x[-1]},
                {"type": "ineq", "fun": lambda x: radius**2 - ((x[:-1] - g0) ** 2).sum()},
            ],
            options={"maxiter": 300, "ftol": 1e-13},
        )
        d = solution.x[:-1]
        d = g0 + (d - g0) * min(1.0, radius / max(np.linalg.norm(d - g0), 1e-300))
        best = max(best, float((rows @ d).min()))
    return best


@settings(max_examples=80, deadline=None, derandomize=True)
@given(stacks(2, 4), st.sampled_from([0.1, 0.5, 0.9, 1.0, 1.5]))
def test_cagrad_solves_its_problem(rows: np.ndarray, c: float) -> None:
    """Pins: a wrong dual: d must lie in the ball, and no solver may find a better worst case in it."""
    average = np.full(len(rows), 1.0 / len(rows))
    d = cagrad(as_grads(rows), c).numpy()
    g0, size = average @ rows, 1e-6 + np.linalg.norm(rows, axis=1).mean()
    assert np.linalg.norm(d - g0) <= c * np.linalg.norm(g0) + 1e-6 * size
    assert (rows @ d).min() >= best_worst_case(rows, c, average) - 2e-5 * size**2


@settings(max_examples=150, deadline=None, derandomize=True)
@given(stacks(2, 2), st.floats(0.05, 0.95))
def test_two_gradients_reach_the_minimum_of_the_dual(rows: np.ndarray, c: float) -> None:
    """Pins: the closed form: min_i <g_i, d> is the least <g_w, g0> + c |g0| |g_w|, here over a fine grid."""
    d, g0 = cagrad(as_grads(rows), c).numpy(), rows.mean(0)
    x = np.linspace(0.0, 1.0, 20_001)[:, None]
    blend = x * rows[0] + (1.0 - x) * rows[1]
    dual = float((blend @ g0 + c * np.linalg.norm(g0) * np.linalg.norm(blend, axis=1)).min())
    assert (rows @ d).min() == pytest.approx(dual, abs=2e-4 * (1.0 + np.linalg.norm(rows) ** 2))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(stacks(1, 5))
def test_cagrad_without_radius_is_the_average(rows: np.ndarray) -> None:
    """Pins: a weighting that is left when conflict aversion is off."""
    torch.testing.assert_close(cagrad(as_grads(rows), 0.0), torch.from_numpy(rows.mean(0)), rtol=1e-9, atol=1e-9)


def test_cagrad_by_hand() -> None:
    """Pins: numbers worked out by hand: at right angles and of one length, d is the lengthened bisector."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(cagrad([a, b], 0.5), torch.tensor([0.75, 0.75]))
    for scaling, divisor in (("c", 1.5), ("c_squared", 1.25), ("lambda", 1.5)):  # |g_w| = |g0| here
        torch.testing.assert_close(cagrad([a, b], 0.5, scaling), torch.tensor([0.75, 0.75]) / divisor)
    assert cagrad([a, -a], 0.5).tolist() == [0.0, 0.0]
    assert cagrad([a, a], 0.5).tolist() == [1.5, 0.0]
    # the weaker one decides: g_w = b' and d = g0 + c |g0| b' / |b'|
    strong, weak = torch.tensor([4.0, 0.0]), torch.tensor([-0.5, 0.5])
    g0 = (strong + weak) / 2
    expected = g0 + 0.4 * g0.norm() * weak / weak.norm()
    torch.testing.assert_close(cagrad([strong, weak], 0.4), expected)


def test_cagrad_lets_no_gradient_lose_as_the_average_does() -> None:
    """Pins: the point of it: the average harms the weak gradient, d harms it less, and less the larger c is."""
    strong, weak = torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 0.2])
    gains = [float(weak @ cagrad([strong, weak], c)) for c in (0.0, 0.3, 0.6, 0.9)]
    assert gains[0] < 0.0 and gains == sorted(gains) and gains[-1] > gains[0] + 0.5


@settings(max_examples=150, deadline=None, derandomize=True)
@given(stacks(2, 2))
def test_pcgrad_of_two_is_the_closed_form(rows: np.ndarray) -> None:
    """Pins: a projection against the already projected gradient, or one without conflict."""
    a, b = as_grads(rows)
    g11, g12, g22 = float(a @ a), float(a @ b), float(b @ b)
    expected = (a + b) / 2
    if g12 < 0.0:
        expected = 0.5 * ((1.0 - g12 / g11) * a + (1.0 - g12 / g22) * b)
    torch.testing.assert_close(pcgrad([a, b]), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pcgrad([a, b], "sum"), 2.0 * expected, rtol=1e-9, atol=1e-9)
    assert float(pcgrad([a, b]) @ a) >= -1e-7 and float(pcgrad([a, b]) @ b) >= -1e-7


def test_pcgrad_of_three_goes_through_the_others_in_order() -> None:
    """Pins: the order, and that the others are the originals."""
    a, b, c = (torch.tensor(v) for v in ([1.0, 0.0], [-1.0, 1.0], [-1.0, -2.0]))
    each = [
        project_conflicting(project_conflicting(a, b), c),
        project_conflicting(project_conflicting(b, a), c),
        project_conflicting(project_conflicting(c, a), b),
    ]
    torch.testing.assert_close(pcgrad([a, b, c]), sum(each) / 3)
    drawn = {tuple(pcgrad([a, b, c], generator=torch.Generator().manual_seed(i)).tolist()) for i in range(20)}
    assert len(drawn) > 1  # the order matters, so drawing it must show


@pytest.mark.parametrize("combine", [pcgrad, lambda grads: cagrad(grads, 0.5)])
def test_bad_gradients_are_refused(combine) -> None:
    """Pins: a NaN, a broadcast or an empty list that spreads into the weights."""
    with pytest.raises(ValueError, match="no gradients"):
        combine([])
    with pytest.raises(ValueError, match="1-D"):
        combine([torch.ones(2), torch.ones(3)])
    with pytest.raises(ValueError, match="1-D"):
        combine([torch.ones(2, 1), torch.ones(2, 1)])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="NaN"):
            combine([torch.ones(2), torch.tensor([0.0, bad])])
    assert combine([torch.zeros(3), torch.zeros(3)]).tolist() == [0.0, 0.0, 0.0]
    assert combine([torch.ones(3), torch.ones(3)]).dtype == torch.float32


@pytest.mark.parametrize("c", [-0.1, float("nan"), float("inf")])
def test_bad_radius_and_options_are_refused(c: float) -> None:
    """Pins: an option that silently means another."""
    pair = [torch.ones(2), torch.ones(2)]
    with pytest.raises(ValueError, match="c ="):
        cagrad(pair, c)
    with pytest.raises(ValueError, match="scaling"):
        cagrad(pair, 0.5, "exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction"):
        pcgrad(pair, "max")  # type: ignore[arg-type]
