"""The ways of interleaving: units, insertions, separation, which gradient is projected, and an adaptive ratio."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.combine.common.adaptive_ratio import AdaptiveRatio, required_ratio
from inril_core.finetune.combine.common.gradients import cosine
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.methods import method_config
from inril_core.networks.flat import FlatParameters
from tests.finetune.point_task import contract, demos, policy_roll, small_config
from tests.finetune.test_combine import build, gradients


class Sources:
    """RL and IL gradients that note when and where they were asked for."""

    def __init__(self, flat: FlatParameters, conflict: float = -1.0) -> None:
        self.flat, self.conflict = flat, conflict
        self.calls: list[str] = []
        self.at: list[torch.Tensor] = []
        self.given: list[torch.Tensor] = []

    def _give(self, which: int, name: str):
        self.calls.append(name)
        self.at.append(self.flat.value.clone())
        self.given.append(gradients(self.conflict, len(self.calls) // 2)[which])
        return self.given[-1].clone(), {f"{name}_loss": 0.0}

    def rl(self):
        return self._give(0, "rl")

    def il(self):
        return self._give(1, "il")


def interleave(**values):
    combiner, flat = build({"method": "interleave", "il_lr": 0.01, **values})
    return combiner, Sources(flat)


def test_iterations_insert_after_the_epochs_only() -> None:
    """Pins: an IL step between two minibatch steps of one rollout, whose log-probabilities it would make stale."""
    combiner, s = interleave(il_unit="iteration", rl_per_il=2, il_steps=3)
    for _ in range(4):
        for _ in range(5):
            combiner.step(s.rl, s.il)
        combiner.end_update(s.rl, s.il)
    epochs, insertion = ["rl"] * 5, ["il"] * 3
    assert s.calls == 2 * (2 * epochs + insertion)
    assert combiner.adams["rl"].steps == 20 and combiner.adams["il"].steps == 6


@pytest.mark.parametrize("kind", ["conflicting", "orthogonal"])
def test_after_an_iteration_imitation_does_not_undo_what_rl_moved(kind: str) -> None:
    """Pins: a projection against the gradient of a minibatch drawn after the epochs, along which RL never stepped: here
    it points back, as after a step too far, and calls the way back no conflict."""
    values = {"il_unit": "iteration", "rl_per_il": 2, "il_steps": 4, "il_lr": 0.01, "projection": {"kind": kind}}
    combiner, flat = build({"method": "interleave", **values})
    wanted, aside = torch.randn(2, flat.value.numel(), generator=torch.Generator().manual_seed(0))
    start = flat.value.clone()
    for _ in range(2):
        for _ in range(5):
            combiner.step(lambda: (wanted.clone(), {}), lambda: (aside.clone(), {}))
        moved = start - flat.value
        before = flat.value.clone()
        combiner.end_update(lambda: (-wanted.clone(), {}), lambda: (aside - 0.5 * wanted, {}))
    step = before - flat.value
    assert cosine(moved, wanted) > 0.5, "RL went where its gradients pointed"
    assert float(step.norm()) > 0.0 and abs(cosine(step, moved)) < 1e-3, "all four steps keep what RL moved"


def test_an_iteration_in_which_rl_did_not_move_leaves_imitation_whole() -> None:
    """Pins: a displacement of an earlier iteration, or a division by its length."""
    values = {"il_unit": "iteration", "rl_per_il": 1, "il_steps": 1, "projection": {"kind": "orthogonal"}}
    combiner, s = interleave(**values)
    metrics = combiner.end_update(s.rl, s.il).metrics
    assert metrics["norm_removed"] == 0.0 and s.calls == ["il"]


def test_each_il_step_of_an_insertion_has_both_gradients_where_it_stands() -> None:
    """Pins: a projection against an RL gradient of parameters that are no more."""
    combiner, s = interleave(rl_per_il=1, il_steps=3, projection={"kind": "orthogonal"})
    combiner.step(s.rl, s.il)
    assert s.calls == ["rl"] + ["rl", "il"] * 3
    ends = [s.at[3], s.at[5], combiner.flat.value]
    for insertion, end in enumerate(ends):
        start, g_rl = s.at[1 + 2 * insertion], s.given[1 + 2 * insertion]
        assert torch.equal(start, s.at[2 + 2 * insertion])
        assert abs(cosine(end - start, g_rl)) < 1e-3


@pytest.mark.parametrize("kind", ["orthogonal", "conflicting"])
def test_projected_rl_steps_do_not_undo_imitation(kind: str) -> None:
    """Pins: the option that projects the wrong one of the two, or against a stale IL gradient."""
    combiner, s = interleave(projection={"kind": kind, "target": "rl"}, rl_per_il=100)
    for _ in range(6):
        before = combiner.flat.value.clone()
        metrics = combiner.step(s.rl, s.il).metrics
        assert s.calls[-2:] == ["rl", "il"]
        reached = cosine(before - combiner.flat.value, s.given[-1])
        assert reached >= -1e-4 and metrics["rl_step_cosine"] == pytest.approx(reached, abs=1e-3)
        if kind == "orthogonal":
            assert abs(reached) < 1e-3
    free, f = interleave(projection={"kind": kind}, rl_per_il=100)
    free.step(f.rl, f.il)
    assert f.calls == ["rl"], "who projects the IL step pays no IL gradient per RL step"


def test_projected_rl_leaves_the_il_step_whole() -> None:
    """Pins: a projection of both, which neither option is."""
    both = [interleave(projection={"kind": "orthogonal", "target": p}, rl_per_il=1) for p in ("rl", "il")]
    cosines = [combiner.step(s.rl, s.il).metrics["step_cosine"] for combiner, s in both]
    assert abs(cosines[0]) > 0.05 and abs(cosines[1]) < 1e-3


def test_separate_networks_share_no_gradient(tmp_path) -> None:
    """Pins: a base that RL moves, or a residual that imitation moves: the other's gradient is exactly zero."""
    config = small_config(
        "interleave",
        **{
            "policy": {"kind": "residual", "base": {"kind": "gaussian", "hidden": [16]}, "hidden": [16]},
            "combine.separation": "network",
            "combine.projection.kind": "none",
            "combine.rl_per_il": 2,
            "schedule.rewards_before_actor": 0,
            "schedule.warmup_steps": 30,
            "schedule.critic_warmup_updates": 5,
        },
    )
    policy = new_policy(config, contract(), demos())
    learner = Learner(config, contract(), policy, demos(), tmp_path)
    for seed in range(6):
        learner.ingest(policy_roll(policy, seed))
    for _ in range(5):
        learner.train_step()  # the critics' warm-up
    base = torch.cat([torch.full_like(p, n.startswith("base.")).reshape(-1) for n, p in policy.named_parameters()]) > 0
    g_rl = learner.parts.rl.actor_gradient(learner.loop.batch())[0].clone()
    g_il = learner.parts.il.gradient(learner.buffers.clones)[0].clone()
    assert g_rl[base].abs().max() == 0.0 and g_rl[~base].abs().max() > 0.0
    assert g_il[~base].abs().max() == 0.0 and g_il[base].abs().max() > 0.0
    at = [learner.parts.actor.value.clone()]
    for _ in range(4):
        learner.train_step()
        at.append(learner.parts.actor.value.clone())
    moved = [(bool((b - a)[base].any()), bool((b - a)[~base].any())) for a, b in zip(at[:-1], at[1:], strict=True)]
    assert moved == [(False, True), (True, True)] * 2
    stored, drawn = learner.buffers.replay.first(1000).observations, learner.loop.batch()
    assert not torch.equal(policy.refresh(stored), stored), "the base has moved since"
    for rows in (drawn.observations, drawn.next_observations):
        assert torch.equal(policy.refresh(rows), rows), "what is learned from shows the base as it is now"


def test_networks_that_are_not_separate_are_found_out() -> None:
    """Pins: a policy that claims to be separated and is not."""
    combiner, s = interleave(separation="network", projection={"kind": "none"}, rl_per_il=1)
    with pytest.raises(ValueError, match="gradients of both"):
        combiner.step(s.rl, s.il)


@settings(max_examples=200, deadline=None)
@given(st.floats(-10, 10), st.floats(-1, 10), st.integers(1, 5), st.integers(5, 40))
def test_the_ratio_repays_the_rise_and_keeps_its_limits(rise: float, fall: float, low: int, high: int) -> None:
    """Pins: an m that does not make up for the IL step though it could, is too large, or leaves its limits."""
    m = required_ratio(rise, fall, low, high)
    assert low <= m <= high
    if m < high:
        assert rise <= 0.0 or m * fall >= rise - 1e-9
    if m > low:
        assert (m - 1) * fall < rise


def test_the_ratio_of_plain_gradient_steps_is_the_descent_lemmas() -> None:
    """Pins: the formula: [a_IL rho |g||h| + L/2 a_IL^2 |g|^2] / [a_RL (1 - L a_RL / 2) |h|^2]."""
    il_lr, rl_lr, smoothness = 0.1, 0.02, 3.0
    values = {"rl_per_il": "adaptive", "m_min": 1, "m_max": 10_000, "smoothness": smoothness, "il_lr": il_lr}
    combiner, _ = build({"method": "interleave", **values})
    g_rl, g_il = gradients(-1.0)
    combiner._ratio.took(rl_lr * g_rl)
    combiner._ratio.saw(g_rl)
    combiner._ratio.measured(il_lr * g_il, g_rl)
    rho, a, b = -cosine(g_il, g_rl), float(g_il.norm()), float(g_rl.norm())
    expected = (il_lr * rho * a * b + 0.5 * smoothness * il_lr**2 * a**2) / (
        rl_lr * (1 - 0.5 * smoothness * rl_lr) * b**2
    )
    assert combiner.rl_per_il == int(np.ceil(expected)) > 1


def mean_ratio(alignment: float, noise: float) -> float:
    """m over the second half of a run, with unit gradients of a fixed cosine under noise of a given length."""
    size, updates = 500, 3000
    values = {"rl_per_il": "adaptive", "m_min": 1, "m_max": 30, "il_lr": 1e-3, "projection": {"kind": "none"}}
    combiner, _ = build({"method": "interleave", **values}, size)
    combiner.adams["rl"].lr = 1e-4
    generator, logged = torch.Generator().manual_seed(1), []
    g_rl, other = (torch.randn(size, generator=generator) for _ in range(2))
    g_rl = g_rl / g_rl.norm()
    other = other - (other @ g_rl) * g_rl
    g_il = alignment * g_rl + (1.0 - alignment**2) ** 0.5 * other / other.norm()

    def given(g: torch.Tensor):
        return lambda: (g + noise * torch.randn(size, generator=generator) / size**0.5, {})

    for _ in range(updates):
        metrics = combiner.step(given(g_rl), given(g_il)).metrics
        if "rl_per_il" in metrics:
            logged.append(metrics["rl_per_il"])
    return float(np.mean(logged[len(logged) // 2 :]))


def test_conflict_raises_the_ratio_and_agreement_lowers_it_within_limits() -> None:
    """Pins: an m that follows the alignment the wrong way, or leaves its limits."""
    ratios = [mean_ratio(alignment, 0.0) for alignment in (0.5, -0.1, -0.3, -0.6)]
    assert ratios[0] == 1.0 < ratios[1] < ratios[2] < ratios[3] < 30.0


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_noise_of_the_minibatches_is_not_taken_for_progress(noise: float) -> None:
    """Pins: a fall measured along the very minibatch that made the step, which never asks for more than one update."""
    assert mean_ratio(-0.3, noise) == pytest.approx(mean_ratio(-0.3, 0.0), rel=0.3)


def test_one_noisy_angle_does_not_decide_the_ratio() -> None:
    """Pins: an m from a single pair of minibatches."""
    ratio, along = AdaptiveRatio(2, 30), torch.ones(1)
    assert ratio.m == 2

    def measured(rise: float) -> None:
        ratio.took(along)
        ratio.saw(along)
        ratio.measured(torch.tensor([-rise]), along)

    for _ in range(20):
        measured(8.0)
    assert ratio.m == 8
    measured(0.0)
    assert 7 <= ratio.m <= 8


@pytest.mark.parametrize(
    "values",
    [
        {"rl_per_il": 3, "il_steps": 2},
        {"rl_per_il": 2, "il_unit": "iteration"},
        {"rl_per_il": "adaptive", "m_max": 5},
        {"projection": {"target": "rl"}, "rl_per_il": 3},
        {"method": "cair"},
        {"method": "cagrad", "rl_weight": 0.3},
        {"method": "pcgrad"},
    ],
)
def test_saved_and_loaded_equals_never_having_stopped(values) -> None:
    """Pins: a counter, a running mean or a weight that is not saved."""
    values = {"method": "interleave", **values}
    (whole, _), (other, flat) = build(values), build(values)

    def step(combiner, update: int) -> None:
        g_rl, g_il = gradients(-0.5, update)
        combiner.step(lambda: (g_rl.clone(), {}), lambda: (g_il.clone(), {}))
        combiner.end_update(lambda: (g_rl.clone(), {}), lambda: (g_il.clone(), {}))

    for update in range(7):
        step(whole, update)
    flat.value.copy_(whole.flat.value)
    other.load({name: tensor.clone() for name, tensor in whole.state().items()})
    for update in range(7, 20):
        step(whole, update)
        step(other, update)
    assert torch.equal(whole.flat.value, other.flat.value)
    assert all(torch.equal(a, other.state()[name]) for name, a in whole.state().items())


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"rl_per_il": 0}, "rl_per_il = 0.*adaptive"),
        ({"rl_per_il": "often"}, "rl_per_il"),
        ({"m_min": 9, "m_max": 3}, "m_min = 9"),
        ({"separation": "network"}, "set combine.projection.kind to 'none'"),
        ({"separation": "network", "projection": {"kind": "none"}, "rl_per_il": "adaptive"}, "give a number"),
        ({"separation": "network", "projection": {"kind": "none"}, "preconditioner": "rl"}, "'own'"),
        ({"projection": {"kind": "none", "target": "rl"}}, "choose another kind"),
        ({"il_unit": "iteration", "rl_per_il": "adaptive"}, "give a number"),
        ({"il_unit": "iteration", "projection": {"reference": "step"}}, "displacement by RL"),
    ],
)
def test_settings_that_contradict_are_refused(changes, word: str) -> None:
    """Pins: a setting that is silently ignored."""
    with pytest.raises(ConfigError, match=word):
        method_config("combine", {"method": "interleave", **changes})


def test_pairs_that_cannot_work_are_refused_with_the_remedy() -> None:
    """Pins: stale log-probabilities, a separation without two networks, imitation of a frozen base."""
    base = load_config("interleave")
    with pytest.raises(ConfigError, match="needs 'separated' from policy"):
        base.changed(**{"combine.separation": "network", "combine.projection.kind": "none"})
    with pytest.raises(ConfigError, match="set combine.separation to 'network'"):
        base.changed(policy={"kind": "residual", "base": {"kind": "gaussian"}})
    replayed = {"separation": "network", "projection": {"kind": "none"}, "method": "interleave"}
    over_plans = {"policy": {"kind": "residual", "base": {"kind": "diffusion"}}, "combine": replayed}
    with pytest.raises(ConfigError, match="what the base did before"):
        base.changed(**over_plans)
    load_config("residual_ppo_network").changed(policy=over_plans["policy"])
    base.changed(policy={**over_plans["policy"], "freeze_base": True}, combine={"method": "rl_only"})
    base.changed(policy={"kind": "residual", "base": {"kind": "gaussian"}}, combine=replayed)
    on_policy = load_config("residual_ppo_network")
    with pytest.raises(ConfigError, match="set combine.il_unit to 'iteration'"):
        on_policy.changed(**{"combine.il_unit": "grad_step"})
    with pytest.raises(ConfigError, match="freeze_base"):
        on_policy.changed(**{"policy.freeze_base": True})


@pytest.mark.parametrize("name", ["rl_only", "weighted_sum", "interleave", "interleave_adaptive", "cair", "pcgrad"])
def test_the_combination_does_not_change_how_fast_behaviour_regularisation_falls(tmp_path, name: str) -> None:
    """Pins: a schedule that counts gradients, of which a projection takes more: two things compared at once."""
    changes = {"rl.behaviour_regularisation": 1.0, "rl.behaviour_decay_steps": 100, "schedule.critic_warmup_updates": 0}
    settings = small_config(name, **changes)
    learner = Learner(settings, contract(), new_policy(settings, contract(), demos()), demos(), tmp_path)
    learner.ingest(policy_roll(learner.policy, 0))
    for _ in range(8):
        learner.train_step()
    assert learner.parts.rl.behaviour_regularisation == pytest.approx(0.92)
