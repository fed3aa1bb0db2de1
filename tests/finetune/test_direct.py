"""Gradients that are written out against autograd's on the readable formulas."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inril_core.bench.speed_task import filled_learner
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner
from inril_core.networks.direct import plain
from inril_core.networks.native import library
from inril_core.policies import GaussianPolicy

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
POLICIES = {
    "bounded_mean": {"policy.mean_limit": 2.0},
    "tanh": {"policy.activation": "tanh"},
    "fixed_log_std": {"policy.log_std": "fixed"},
    "log_std_at_its_bound": {"policy.log_std_init": 0.0},
}
LOSSES = {
    "smallest_value": {"rl.actor_q": "min"},
    "entropy": {"rl.temperature": 0.1, "rl.entropy_in_target": True, "rl.target_range": None},
    "no_behaviour": {"rl.behaviour_regularisation": 0.0, "rl.behaviour_regularisation_end": 0.0},
    "all_critics": {"rl.target_subset": 4},
    "nll": {"il.loss": "nll"},
    "mse": {"il.loss": "mse"},
}
SHAPES = {
    "odd": {"rl.hidden": [37, 20, 5], "policy.hidden": [19, 50], "rl.critics": 3, "rl.batch": 50, "il.batch": 23},
    "single": {"rl.hidden": [1], "policy.hidden": [1], "rl.critics": 1, "rl.target_subset": 1, "rl.batch": 7},
    "wide": {"rl.hidden": [256, 256], "policy.hidden": [256, 130]},
}
PRESETS = ["weighted_sum", "interleave", "interleave_network", "il_only", "hg_dagger", "rlif", "cair"]


WAYS = pytest.mark.parametrize("native", [False, True], ids=["torch", "native"])


def learner_of(folder, preset: str = "weighted_sum", native: bool = True, **changes: object) -> Learner:
    """A learner with the preset's networks, moved away from where its weights start."""
    if native and library() is None:
        pytest.skip("no C++ compiler")
    whole = {"schedule.replay_capacity": 2000, "rl.target_range": None}  # a clip would hide the targets
    whole["compute.native"] = native
    config = load_config(preset).changed(**{**whole, **changes})
    learner = filled_learner(config, folder)
    noise = torch.Generator().manual_seed(5)
    learner.parts.actor.value.add_(torch.randn(learner.parts.actor.value.shape, generator=noise), alpha=0.03)
    return learner


def gradients(learner: Learner) -> dict[str, Tensor]:
    """What one draw of everything random gives: gradients, and the critics after their step."""
    parts = learner.parts
    parts.generator.manual_seed(3)
    batch = learner.loop.batch()
    rl, of_rl = parts.rl.actor_gradient(batch)
    found = {"rl": rl.clone(), "targets": parts.rl.targets(batch)}
    il, of_il = parts.il.gradient(parts.buffers.clones)
    found["il"] = il.clone()
    before = parts.rl.state()
    before = {name: tensor.clone() for name, tensor in before.items()}
    of_critics = parts.rl.critic_step(batch)
    found["critics"] = parts.rl.state()["adam.first"].clone()  # a tenth of the gradient, at the first step
    parts.rl.load(before)
    return found | {name: torch.as_tensor(v) for name, v in {**of_rl, **of_il, **of_critics}.items()}


def check(learner: Learner) -> None:
    """The same numbers by both ways; within rounding of the largest number of each."""
    with plain():
        expected = gradients(learner)
    found = gradients(learner)
    assert sorted(found) == sorted(expected)
    for name, twin in expected.items():
        scale = float(twin.abs().max())
        assert scale > 0.0, name
        assert float((found[name] - twin).abs().max()) < 1e-5 * scale + 1e-9, name


@WAYS
@pytest.mark.parametrize("preset", PRESETS)
def test_every_family_of_presets_gets_the_twins_gradients(preset: str, native: bool, tmp_path) -> None:
    check(learner_of(tmp_path, preset, native))


@WAYS
@pytest.mark.parametrize("name", [*POLICIES, *LOSSES, *SHAPES])
def test_every_setting_gets_the_twins_gradients(name: str, native: bool, tmp_path) -> None:
    """Pins: a setting that the written-out formulas forget; widths that fill no register or no block of rows."""
    check(learner_of(tmp_path, native=native, **(POLICIES | LOSSES | SHAPES)[name]))


@WAYS
def test_what_is_written_out_is_used(native: bool, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: a condition that is never met, so that everything above compares the twin with itself."""
    learner = learner_of(tmp_path, native=native)
    if native:
        learner.parts.rl.direct.clear()
        learner.parts.il.direct.clear()
    monkeypatch.setattr(GaussianPolicy, "forward", None)
    monkeypatch.setattr(type(learner.parts.rl.critics), "forward", None)
    learner.train_step()
    with pytest.raises(TypeError), plain():
        learner.train_step()


def test_metrics_of_a_group_do_not_depend_on_a_checkpoint_within_it(tmp_path) -> None:
    """Pins: tensors in the window that a checkpoint cannot write, or that another update changes."""
    whole, cut = (learner_of(tmp_path / name, metrics_every_updates=6) for name in "ab")
    expected = [whole.train_step() for _ in range(6)][-1]
    for _ in range(3):
        cut.train_step()
    cut.checkpoint()
    again = learner_of(tmp_path / "b", metrics_every_updates=6)
    again.resume()
    assert [again.train_step() for _ in range(3)][-1] == expected
    assert all(isinstance(value, float) for value in again.last_metrics.values())


def test_weights_that_move_are_seen(tmp_path) -> None:
    """Pins: views of weights that were taken before the parameters moved to another buffer."""
    learner = learner_of(tmp_path)
    first = gradients(learner)
    learner.policy.load_state_dict({name: 0.5 * t for name, t in learner.policy.state_dict().items()})
    check(learner)
    moved = gradients(learner)
    assert all(not torch.equal(first[name], moved[name]) for name in ("rl", "il", "targets"))


@WAYS
def test_what_is_not_finite_stays_so(native: bool, tmp_path) -> None:
    """Pins: a kernel that drops a NaN, as a maximum with 0 does, and trains on."""
    learner = learner_of(tmp_path, native=native)
    parts = learner.parts
    batch = learner.loop.batch()
    batch.observations[3, 2] = float("nan")
    for found in (
        parts.rl.actor_gradient(batch).vector,
        parts.rl.targets(replace(batch, next_observations=batch.observations)),
    ):
        assert found.isnan().any()
    _, of_critics = parts.rl.critic_step(batch), parts.rl.state()["adam.first"]
    assert of_critics.isnan().any()


@WAYS
def test_optimizers_follow_their_twin(native: bool, tmp_path) -> None:
    """Pins: a moment, a bias correction or a target network that the kernels get wrong after some steps."""
    learner, twin = (learner_of(tmp_path / name, native=native, **{"schedule.utd": 50.0}) for name in "ab")
    start = learner.parts.actor.value.clone()
    for _ in range(12):
        learner.train_step()
    with plain():
        for _ in range(12):
            twin.train_step()
    for name, expected in {**twin.parts.rl.state(), "actor": twin.parts.actor.value}.items():
        found = {**learner.parts.rl.state(), "actor": learner.parts.actor.value}[name].double()
        # Adam turns the rounding of a gradient near zero into a step of either sign
        assert float((found - expected).norm()) <= 1e-3 * float(expected.double().norm()), name
    moved = float((twin.parts.actor.value - start).norm())
    assert 0.0 < float((learner.parts.actor.value - twin.parts.actor.value).norm()) < 0.02 * moved


def test_the_settings_above_are_of_one_preset_each() -> None:
    """Pins: a name in both tables, of which only one would be tried."""
    assert not any(a == b for a, b in itertools.product(POLICIES, LOSSES))
