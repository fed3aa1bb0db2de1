"""PCGrad, CAGrad and CAIR as combinations: the joint gradient, its scales, and where lambda goes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.combine.common.gradients import cagrad, cosine, pcgrad
from inril_core.finetune.methods import method_config
from tests.finetune.test_combine import build

SIZE = 50


def pair(alignment: float, seed: int = 0, il_scale: float = 1.0):
    g_rl, noise = torch.randn(2, SIZE, generator=torch.Generator().manual_seed(seed))
    return g_rl, il_scale * (alignment * g_rl + noise)


def first(values, g_rl, g_il):
    """The joint gradient of the first step (Adam's first moment is a tenth of it) and the metrics."""
    combiner, _ = build(values)
    metrics = combiner.step(lambda: (g_rl.clone(), {}), lambda: (g_il.clone(), {})).metrics
    return 10.0 * combiner.adams["joint"].first, metrics


def test_the_joint_gradients_are_those_of_the_pure_functions() -> None:
    """Pins: swapped gradients or weights between the formulas and the combinations."""
    g_rl, g_il = pair(-1.0)
    raw = {"normalise": "none"}
    torch.testing.assert_close(first({"method": "pcgrad", **raw}, g_rl, g_il)[0], pcgrad([g_rl, g_il]))
    values = {"method": "cagrad", "c": 0.4, "scaling": "c_squared", **raw}
    torch.testing.assert_close(first(values, g_rl, g_il)[0], cagrad([g_rl, g_il], 0.4, "c_squared"))
    plain = first({"method": "cagrad", "rl_weight": 0.3, "c": 0.0, **raw}, g_rl, g_il)[0]
    torch.testing.assert_close(plain, 0.3 * g_rl + 0.7 * g_il)


def parts(joint, g_rl, g_il):
    """RL's share of a joint gradient by length, found from the gradients alone."""
    basis = torch.stack([g_rl, g_il], 1).double()
    lengths = torch.linalg.lstsq(basis, joint.double()[:, None]).solution[:, 0] * basis.norm(dim=0)
    return float(lengths[0] / lengths.sum())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    alignment=st.floats(-3.0, 3.0),
    seed=st.integers(0, 1000),
    c=st.floats(0.0, 0.95),
    il_scale=st.sampled_from([0.01, 1.0, 100.0]),
    normalise=st.sampled_from(["none", "gradient", "loss"]),
)
def test_rls_share_grows_with_lambda_from_nothing_to_all(alignment, seed, c, il_scale, normalise) -> None:
    """Pins: a weight that CAGrad's ball takes back, because it is filled along the loss that was weighted down."""
    g_rl, g_il = pair(alignment, seed, il_scale)
    shares = []
    for rl_weight in (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0):
        values = {"rl_weight": rl_weight, "c": c, "normalise": normalise}
        joint, metrics = first({"method": "cagrad", **values}, g_rl, g_il)
        shares.append(metrics["rl_share"])
        assert shares[-1] == pytest.approx(parts(joint, g_rl, g_il), abs=2e-3)
        follows = {"method": "cair", "rate": 0.0, "least_rl_weight": 0.0, **values}
        torch.testing.assert_close(first(follows, g_rl, g_il)[0], joint)
    assert shares[0] == 0.0 and shares[-1] == 1.0
    assert all(b > a for a, b in zip(shares[:-1], shares[1:], strict=True))
    if normalise != "none":
        assert shares[1] < 0.2 < 0.8 < shares[-2], "lambda acts, whatever c is"


@pytest.mark.parametrize("normalise", ["gradient", "loss"])
def test_the_scale_of_a_loss_does_not_decide(normalise: str) -> None:
    """Pins: an IL loss a thousand times larger that makes the conflict-averse direction its own."""
    outcomes = []
    for scale in (1.0, 1000.0):
        g_rl, g_il = pair(-0.5, il_scale=scale)
        joint, metrics = first({"method": "cagrad", "normalise": normalise}, g_rl, g_il)
        outcomes.append(joint)
        assert metrics["rl_norm"] == pytest.approx(float(g_rl.norm()), rel=1e-5)
        assert metrics["il_norm"] == pytest.approx(float(g_il.norm()), rel=1e-5)
        assert cosine(joint, g_rl) > 0.0 and cosine(joint, g_il) > 0.0
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=1e-3, atol=1e-4)
    g_rl, g_il = pair(-0.5, il_scale=1000.0)
    unscaled = first({"method": "cagrad", "normalise": "none"}, g_rl, g_il)[0]
    assert cosine(unscaled, g_rl) < 0.0, "without it the large loss wins: the reason for the default"


def test_what_only_one_loss_reaches_is_no_conflict() -> None:
    """Pins: a log-std that imitation does not train, counted in the angle and the lengths."""
    g_rl, g_il = pair(-1.0)
    il_blind = g_il.clone()
    il_blind[:20] = 0.0
    joint, metrics = first({"method": "pcgrad", "normalise": "none"}, g_rl, il_blind)
    torch.testing.assert_close(joint[20:], pcgrad([g_rl[20:], g_il[20:]]))
    torch.testing.assert_close(joint[:20], 0.5 * g_rl[:20])
    assert metrics["gradient_cosine"] == pytest.approx(cosine(g_rl[20:], g_il[20:]), abs=1e-6)


def cair(alignment, steps: int, **values):
    combiner, _ = build({"method": "cair", "rl_weight": 0.5, "rate": 0.01, **values})
    path = []
    for step in range(steps):
        g_rl, g_il = pair(alignment if isinstance(alignment, float) else alignment(step), step)
        metrics = combiner.step(lambda g=g_rl: (g.clone(), {}), lambda g=g_il: (g.clone(), {})).metrics
        path.append(metrics["rl_weight"])
    return path


def test_lambda_rises_while_aligned_and_falls_in_conflict_within_bounds() -> None:
    """Pins: the sign of the adaptation, and a weight outside its range."""
    assert cair(2.0, 200)[-1] == 1.0 and cair(-2.0, 200)[-1] == 0.05
    assert cair(-2.0, 200, least_rl_weight=0.0)[-1] == 0.0
    rising = cair(1.0, 30)
    assert rising == sorted(rising) and rising[-1] > rising[0]
    assert 0.5 < cair(1.0, 1)[0] <= 0.51, "one step moves by at most the rate"


def test_monotone_lambda_never_falls_and_sign_steps_are_equal() -> None:
    """Pins: the variant that the theorem is about, and the sign variant."""

    def turning(step: int) -> float:
        return 1.0 if step < 50 else -1.0

    free, held = cair(turning, 300, decay=0.9), cair(turning, 300, decay=0.9, monotone=True)
    assert held == sorted(held) and max(free) > free[-1] and held[-1] == pytest.approx(max(held))
    signed = cair(1.0, 30, rule="sign")
    steps = {round(b - a, 9) for a, b in zip(signed[:-1], signed[1:], strict=True)}
    assert steps == {0.01}


def test_lambda_follows_the_mean_and_not_a_single_angle() -> None:
    """Pins: a random walk on minibatch noise."""

    def noisy(step: int) -> float:
        return -3.0 if step % 10 == 9 else 1.0

    path = cair(noisy, 100, decay=0.97)
    assert all(b >= a for a, b in zip(path[20:-1], path[21:], strict=True))


def test_at_no_rl_weight_the_step_is_imitation() -> None:
    """Pins: RL that enters right after cloning, whatever lambda says."""
    g_rl, g_il = pair(-1.0)
    joint, _ = first({"method": "cair", "rl_weight": 0.0, "least_rl_weight": 0.0, "rate": 0.0}, g_rl, g_il)
    assert cosine(joint, g_il) == pytest.approx(1.0, abs=1e-5)


def test_bad_settings_are_refused() -> None:
    """Pins: a radius beyond the paper's condition, and unknown options."""
    cases = [
        ("c", 1.0),
        ("rl_weight", 1.1),
        ("rl_weight", 0.01),
        ("normalise", "rms"),
        ("rule", "tanh"),
        ("decay", 1.0),
    ]
    for name, value in cases:
        with pytest.raises(ConfigError, match=name):
            method_config("combine", {"method": "cair", name: value})
