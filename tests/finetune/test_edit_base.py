"""RL that edits a frozen base: what the actor is shown, what holds it, and what of it is sent."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner
from inril_core.finetune.local import collect_demos, fine_tune, policy_actor, run_episode
from inril_core.finetune.memory.replay import Batch
from inril_core.finetune.methods import method_config
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.flat import FlatParameters
from inril_core.policies import exploration_rng, policy_config
from inril_core.weights import unpack, write_pack
from tests.finetune.point_task import PointExpert, PointTask, contract, success_rate

D, A, B, SCALE = 4, 6, 400, 0.3
BASE = {"kind": "diffusion", "chunk": 3, "hidden": [16], "time_size": 4, "denoising_steps": 5}
POLICY = {"kind": "residual", "freeze_base": True, "base": BASE, "hidden": [16], "scale": SCALE}


def make(**changes):
    """RLPD on a residual that has moved away from its base."""
    torch.manual_seed(0)
    policy = policy_config(POLICY).build(D, A)
    policy.prepare_finetuning()
    with torch.no_grad():
        policy.head.weight.normal_()
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    config = method_config("rl", {"method": "rlpd", "hidden": (8,), "temperature": 0.0, **changes})
    return config.build(policy, flat, torch.Generator().manual_seed(1)), policy, flat


def batch(demos: int = 0, rows: int = B) -> Batch:
    g = torch.Generator().manual_seed(5)

    def inputs() -> torch.Tensor:  # a base so far from the bounds that nothing is clipped, and never at zero
        base = 0.1 + 0.5 * torch.rand((rows, A), generator=g)
        return torch.cat((torch.randn((rows, D), generator=g), base), 1)

    actions = torch.rand((rows, A), generator=g) * 1.8 - 0.9
    return Batch(inputs(), actions, torch.zeros(rows), torch.ones(rows), inputs(), actions, demos)


class Shown:
    """What a policy's network was shown, call by call."""

    def __init__(self, policy) -> None:
        self.calls: list[torch.Tensor] = []
        policy.register_forward_pre_hook(lambda _, given: self.calls.append(given[0].detach().clone()))

    def hidden(self) -> torch.Tensor:
        """In which rows of the last call the reference was zeros."""
        return (self.calls[-1].reshape(-1, D + A)[:, D:] == 0.0).all(1)


def test_the_reference_is_hidden_with_its_probability_from_whole_rows_of_the_actors_loss() -> None:
    """Pins: dropout of single numbers, of the state, or with another share; the same rows every time."""
    rl, policy, _ = make(reference_dropout=0.3)
    data, shown = batch(rows=20_000), Shown(policy)
    rl.actor_gradient(data)
    hidden, given = shown.hidden(), shown.calls[-1]
    assert abs(float(hidden.float().mean()) - 0.3) < 5 * (0.3 * 0.7 / 20_000) ** 0.5
    assert torch.equal(given[~hidden], data.observations[~hidden])
    assert torch.equal(given[:, :D], data.observations[:, :D])
    rl.actor_gradient(data)
    assert not torch.equal(hidden, shown.hidden())


def test_targets_and_the_acting_policy_always_see_the_reference() -> None:
    """Pins: dropout on the robot, or in the value of what the robot does."""
    rl, policy, _ = make(reference_dropout=0.9)
    shown = Shown(policy)
    for data in [batch()] * 5:
        rl.targets(data)
        assert not shown.hidden().any()
    row = np.linspace(-1, 1, D, dtype=np.float32)
    for t in range(30):
        for explore in (True, False):
            aux = policy.act(row, explore, exploration_rng(0, t)).aux
            np.testing.assert_array_equal(shown.calls[-1][D:].numpy(), aux)
    policy.trial(np.tile(row, (30, 1)))
    assert not shown.hidden().any() and len(shown.calls) == 95


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("demos", [0, 150])
def test_regularisation_towards_the_base_has_its_closed_form(demos: int, dropout: float) -> None:
    """Pins: a pull to the replayed action, a sum for a mean, the reference hidden from the loss as well; demonstrations
    that are unlearned for the base's sake."""
    gradients, data = {}, batch(demos)
    for weight in (1.0, 3.0):
        rl, policy, flat = make(
            behaviour_regularisation=weight, behaviour_towards="reference", reference_dropout=dropout
        )
        shown = Shown(policy)
        gradients[weight] = rl.actor_gradient(data).vector.clone()
    with torch.no_grad():
        squashed = torch.tanh(policy(shown.calls[0])[0])
    error = SCALE * squashed  # of the executed mode, base + scale * tanh, to the base
    error[B - demos :] += data.observations[B - demos :, D:] - data.actions[B - demos :]
    # (3 - 1) d/d bias of the mean over rows and dimensions of error^2
    expected = 2.0 * (2.0 * error * SCALE * (1.0 - squashed.square())).sum(0) / (A * B)
    names = [n for n, p in policy.named_parameters() if p.requires_grad]
    assert names[-1] == "head.bias"
    torch.testing.assert_close((gradients[3.0] - gradients[1.0])[-A:], expected, rtol=1e-3, atol=1e-6)
    assert expected.abs().max() > 1e-3


def test_at_the_start_the_base_is_where_the_actor_is_held() -> None:
    """Pins: a pull away from the base before anything was learned, as replayed exploration gives."""
    policy = policy_config(POLICY).build(D, A)
    policy.prepare_finetuning()
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    found = []
    for weight in (1.0, 5.0):
        values = {"method": "rlpd", "hidden": (8,), "behaviour_regularisation": weight, "temperature": 0.0}
        config = method_config("rl", {**values, "behaviour_towards": "reference"})
        rl = config.build(policy, flat, torch.Generator().manual_seed(1))
        found.append(rl.actor_gradient(batch()).vector.clone())
    assert torch.equal(*found) and found[0].abs().max() > 0.0


@pytest.mark.parametrize("changes", [{"rl.behaviour_towards": "reference"}, {"rl.reference_dropout": 0.5}])
def test_without_a_base_to_see_both_are_refused(changes) -> None:
    with pytest.raises(ConfigError, match="needs 'reference' from policy.*only a residual sees"):
        load_config("rl_only").changed(**changes)


class Drifting(PointExpert):
    """Misses the origin to one side, so that a clone succeeds from where that side is met."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        action = super().act(observation)
        action[:2] = np.clip(action[:2] + 0.3, -0.95, 0.95)
        return action


def config_of(**changes):
    policy = {**POLICY, "hidden": [32], "scale": 1.0, "log_std_init": -1.0, "base_delay_steps": 1}
    policy["base"] = {**BASE, "hidden": [32]}
    small = {
        "policy": policy,
        "pretrain.updates": 400,
        "pretrain.batch": 64,
        "rl.hidden": [32, 32],
        "rl.batch": 64,
        "rl.actor_lr": 1e-3,
        "rl.critic_lr": 1e-3,
        "rl.gamma": 0.9,
        "rl.tau": 0.02,
        "rl.behaviour_regularisation": 1.0,
        "rl.behaviour_regularisation_end": 0.05,
        "rl.behaviour_decay_steps": 500,
        "schedule.warmup_steps": 200,
        "schedule.critic_warmup_updates": 200,
        "schedule.budget_steps": 1200,
        "metrics_every_updates": 50,
    }
    return load_config("edit_base").changed(**{**small, **changes})


def shown_demos():
    return collect_demos(PointTask(), Drifting(), range(10_000, 10_006))


def test_a_base_that_misses_to_one_side_is_edited_to_the_origin_and_stays_as_it_was(tmp_path) -> None:
    """Pins: an actor that no gradient reaches, or a gradient that reaches the base."""
    config, shown = config_of(), shown_demos()
    policy = pretrain(config, contract(), shown)
    for seed in range(5):  # before anything is learned, the base's action to the bit
        started = run_episode(PointTask(), policy_actor(policy, seed, False), seed, "eval")
        np.testing.assert_array_equal(started.proposed, started.aux)
    before, wins = {n: t.clone() for n, t in policy.base.named_parameters()}, success_rate(policy, 40)
    learner, _ = fine_tune(config, PointTask(), policy, shown, tmp_path, 0)
    after = dict(policy.base.named_parameters())
    trained = {id(parameter) for parameter in learner.parts.actor.parameters}
    assert trained.isdisjoint(id(parameter) for parameter in after.values())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert wins <= 0.5 and success_rate(policy, 40) >= 0.9


def test_stop_and_resume_equals_never_having_stopped(tmp_path) -> None:
    """Pins: hidden rows that are drawn from a generator of their own, which no checkpoint keeps."""
    config, shown = config_of(), shown_demos()
    start = pretrain(config, contract(), shown).state_dict()

    def learner_in(folder: Path) -> Learner:
        policy = config.policy.build(D, A)
        policy.load_state_dict(start)
        return Learner(config, contract(), policy, shown, folder)

    def go_on(learner: Learner, seeds: range, updates: int) -> None:
        for seed in seeds:
            acting = policy_actor(learner.policy, seed, True)
            learner.ingest(run_episode(PointTask(), acting, seed, "train", True, "x", 0))
        for _ in range(updates):
            learner.train_step()

    straight, cut = learner_in(tmp_path / "a"), learner_in(tmp_path / "b")
    for learner in (straight, cut):
        go_on(learner, range(30), 220)
    assert straight.actor_updates > 0
    cut.checkpoint()
    resumed = learner_in(tmp_path / "b")
    resumed.resume()
    for learner in (straight, resumed):
        go_on(learner, range(30, 33), 15)
    assert torch.equal(straight.parts.actor.value, resumed.parts.actor.value)
    assert torch.equal(straight.parts.rl.state()["critic"], resumed.parts.rl.state()["critic"])


def test_a_pack_holds_the_small_actor_and_nothing_of_a_base_behind_a_server(tmp_path) -> None:
    """Pins: a large base that is sent with each version. One in this process is sent: a pack must act alone."""

    def sent(policy) -> dict[str, torch.Tensor]:
        manifest = {"run_id": "r", "n": 1, "parent": None, "interface_digest": "x", "contract_text": ""}
        manifest |= {"policy": policy.manifest(), "created_ns": time.time_ns()}
        write_pack(tmp_path / "pack", policy.state_dict(), manifest)
        return dict(unpack(np.fromfile(tmp_path / "pack", np.uint8))[0])

    remote = policy_config({**POLICY, "base": {"kind": "remote", "chunk": 3}}).build(D, A)
    remote.prepare_finetuning()
    actor = {name for name, p in remote.named_parameters() if p.requires_grad}
    assert actor == {"layers.0.weight", "layers.0.bias", "head.weight", "head.bias"}
    normalisers = {f"{of}observation_{what}" for of in ("", "base.") for what in ("mean", "std")}
    assert set(sent(remote)) == actor | normalisers
    assert any(name.startswith("base.network") for name in sent(policy_config(POLICY).build(D, A)))
