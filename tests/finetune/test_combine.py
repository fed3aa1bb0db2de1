"""How combinations step: the projection holds for the step really taken, and the schedule is m to one."""

import pytest
import torch

from inril_core.finetune.combine.common.gradients import cosine, project_conflicting
from inril_core.finetune.methods import method_config
from inril_core.networks.flat import FlatParameters

SIZE = 50


def build(values, size: int = SIZE):
    parameter = torch.nn.Parameter(torch.zeros(size))
    flat = FlatParameters([parameter])
    return method_config("combine", values).build(flat, 0.01), flat


def gradients(conflict: float, seed: int = 0):
    """Two gradients of very different scale per entry, so that Adam turns them; <g_il, g_rl> has `conflict`'s sign."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** (6 * torch.rand(SIZE, generator=generator) - 3)
    g_rl = torch.randn(SIZE, generator=generator) * scale
    g_il = torch.randn(SIZE, generator=generator) * scale.flip(0) + conflict * g_rl
    return g_rl, g_il


def run(values, updates=12, conflict=-1.0):
    """Steps taken, as changes of the parameters, and the metrics of each update."""
    combiner, flat = build(values)
    changes, metrics = [], []
    for update in range(updates):
        g_rl, g_il = gradients(conflict, update)
        before = flat.value.clone()
        rl, il = (g_rl, {"rl_loss": 0.0}), (g_il, {"il_loss": 0.0})
        metrics.append(combiner.step(lambda x=rl: (x[0].clone(), x[1]), lambda x=il: (x[0].clone(), x[1])))
        changes.append(flat.value - before)
    return changes, metrics, combiner


@pytest.mark.parametrize("m", [1, 3, 5])
def test_one_il_step_after_every_m_rl_updates(m: int) -> None:
    """Pins: an IL step too many, too few, or before its RL updates."""
    _, metrics, combiner = run({"method": "interleave", "rl_per_il": m}, updates=15)
    assert [("il_loss" in x) for x in metrics] == [(i + 1) % m == 0 for i in range(15)]
    assert combiner.adams["rl"].steps == 15 and combiner.adams["il"].steps == 15 // m


@pytest.mark.parametrize("kind", ["conflicting", "orthogonal"])
@pytest.mark.parametrize("preconditioner", ["own", "rl"])
def test_the_step_really_taken_does_not_undo_rl(kind: str, preconditioner: str) -> None:
    """Pins: a projection before Adam: the IL change of the parameters must not point up the RL loss."""
    values = {"method": "interleave", "rl_per_il": 1, "il_lr": 0.01, "projection": {"kind": kind}}
    combiner, flat = build({**values, "preconditioner": preconditioner})
    for update in range(8):
        g_rl, g_il = gradients(-1.0, update)
        at: list[torch.Tensor] = []

        def rl(g=g_rl, at=at):
            at.append(flat.value.clone())
            return g.clone(), {}

        metrics = combiner.step(rl, lambda g=g_il: (g.clone(), {}))
        il_change = flat.value - at[1]  # the second RL gradient is computed between the two steps
        reached = cosine(-il_change, g_rl)
        assert reached >= -1e-4
        assert metrics["step_cosine"] == pytest.approx(reached, abs=1e-3)
        if kind == "orthogonal":
            assert abs(reached) < 1e-3
        assert metrics["gradient_cosine"] == pytest.approx(cosine(g_il, g_rl), abs=1e-6)


def test_where_rl_has_no_moments_the_il_step_has_its_own() -> None:
    """Pins: a gradient divided by nothing: units that only demonstrations wake up would move by a million."""
    g_rl, g_il = gradients(-1.0)
    g_rl[:5] = 0.0
    combiner, flat = build({"method": "interleave", "rl_per_il": 1, "il_lr": 0.01, "preconditioner": "rl"})
    combiner.step(lambda: (g_rl.clone(), {}), lambda: (g_il.clone(), {}))
    torch.testing.assert_close(flat.value[:5], -0.01 * torch.sign(g_il[:5]))


def test_projecting_before_adam_is_not_enough() -> None:
    """Pins: the reason for the default: the same projection, made before Adam, lets steps through that undo RL."""
    raw = {"method": "interleave", "rl_per_il": 1, "projection": {"space": "gradient"}, "il_lr": 0.01}
    _, metrics, _ = run(raw)
    assert min(x["step_cosine"] for x in metrics) < -0.01


def test_agreeing_gradients_are_left_alone() -> None:
    """Pins: a projection where there is no conflict."""
    values = {"method": "interleave", "rl_per_il": 1, "il_lr": 0.01}
    changes, metrics, _ = run(values, updates=1, conflict=2.0)
    free, _, _ = run({**values, "projection": {"kind": "none"}}, updates=1, conflict=2.0)
    assert metrics[0]["norm_removed"] == 0.0 and torch.equal(changes[0], free[0])


def test_raw_projection_feeds_the_projected_gradient_to_adam() -> None:
    """Pins: the option that does not do what it says: one step of Adam on the projected gradient."""
    g_rl, g_il = gradients(-1.0)
    values = {"method": "interleave", "rl_per_il": 1, "projection": {"space": "gradient"}, "il_lr": 0.01}
    _, _, combiner = run(values, updates=1)
    torch.testing.assert_close(combiner.adams["il"].first, 0.1 * project_conflicting(g_il, g_rl))


def test_weighted_sum_is_one_adam_step_on_the_sum() -> None:
    """Pins: two steps, or a weight on the wrong loss."""
    g_rl, g_il = gradients(-1.0)
    changes, metrics, combiner = run({"method": "weighted_sum", "il_weight": 0.3}, updates=1)
    torch.testing.assert_close(combiner.adams["rl"].first, 0.1 * (g_rl + 0.3 * g_il))
    torch.testing.assert_close(changes[0], -0.01 * torch.sign(g_rl + 0.3 * g_il), rtol=1e-3, atol=1e-5)
    assert metrics[0]["gradient_cosine"] == pytest.approx(cosine(g_rl, g_il), abs=1e-6)


def test_rl_only_and_il_only_use_one_loss_each() -> None:
    """Pins: a base line that cheats."""
    g_rl, g_il = gradients(-1.0)
    changes, _, _ = run({"method": "rl_only"}, updates=1)
    torch.testing.assert_close(changes[0], -0.01 * torch.sign(g_rl), rtol=1e-3, atol=1e-5)
    changes, _, _ = run({"method": "il_only", "il_lr": 0.02}, updates=1)
    torch.testing.assert_close(changes[0], -0.02 * torch.sign(g_il), rtol=1e-3, atol=1e-5)
