"""Learning from pixels: bytes in replay, an encoder before every network, and a task that only seeing solves."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.contract import ImageShape
from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config, preset_names
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import collect_demos, evaluate, fine_tune, policy_actor, run_episode
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.methods import KINDS, method_config
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.encoder import ImageEncoder, PixelColumns
from inril_core.networks.flat import FlatParameters
from inril_core.policies import policy_config
from inril_core.policies.manifest import policy_kinds
from tests.finetune.dot_task import DotTask, ReachTask, dot_config

SHAPES = (ImageShape("a", 4, 5), ImageShape("b", 3, 3))
SIZE = sum(shape.size for shape in SHAPES)
COLUMNS = PixelColumns(2, SHAPES, 0)
TASK = DotTask()


def walk(first: int, count: int) -> Batch:
    """Steps of one episode: two numbers of state, pixels, and one more number; each tells which step it is."""
    n = torch.arange(first, first + count + 1, dtype=torch.float32)
    pixels = torch.randint(0, 256, (count + 1, SIZE), generator=torch.Generator().manual_seed(first)).float()
    rows = torch.cat((n[:, None].repeat(1, 2), pixels, -n[:, None]), 1)
    actions = n[:count, None] + 0.25
    return Batch(rows[:-1], actions, n[:-1] + 0.5, n[:-1] + 0.75, rows[1:], actions + 1)


def filled(
    capacity: int, episodes: int, length: int = 9
) -> tuple[Replay, dict[int, tuple[torch.Tensor, torch.Tensor]]]:
    replay, steps = Replay(capacity, 3 + SIZE, 1, pixels=COLUMNS), {}
    for first in range(0, episodes * length, length):
        batch = walk(first, length)
        replay.add(batch)
        steps |= {first + i: (batch.observations[i], batch.next_observations[i]) for i in range(length)}
    return replay, steps


@pytest.mark.parametrize(("episodes", "length"), [(1, 9), (3, 9), (10, 9), (2, 50)])
def test_pixels_come_back_as_they_went_in_over_the_seam_of_the_ring(episodes: int, length: int) -> None:
    """Pins: frames of overwritten transitions, or of the wrong ones."""
    replay, steps = filled(20, episodes, length)
    everything, drawn = replay.first(99), replay.sample(64, torch.Generator().manual_seed(0))
    newest = range(max(0, episodes * length - 20), episodes * length)
    assert sorted(everything.observations[:, 0].int().tolist()) == list(newest)
    for batch in (everything, drawn):
        for row, following in zip(batch.observations, batch.next_observations, strict=True):
            assert torch.equal(row, steps[int(row[0])][0]) and torch.equal(following, steps[int(row[0])][1])


def test_a_frame_is_stored_once_and_as_bytes() -> None:
    """Pins: eight times the memory: floats, and every next observation again."""
    replay, _ = filled(1000, 10, 50)
    assert replay._frames.state().dtype == torch.uint8
    assert len(replay._frames) == 10 * 51 == len(replay._frames.state())
    many, _ = filled(100, 40, 10)
    assert len(many._frames) == 10 * 11
    assert len(many._frames.state()) <= 10 * 11 + 11, "given back frames are used again"
    assert "frames" not in Replay(5, 3, 2).state()


def test_a_checkpoint_goes_on_with_the_same_batches() -> None:
    a, _ = filled(20, 5)
    b = Replay(20, 3 + SIZE, 1, pixels=COLUMNS)
    b.load(a.state(), a.owners())
    for replay in (a, b):
        replay.add(walk(1000, 12))
    ga, gb = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for _ in range(3):
        x, y = a.sample(16, ga), b.sample(16, gb)
        assert torch.equal(x.observations, y.observations) and torch.equal(x.next_observations, y.next_observations)
    assert len(a._frames) == len(b._frames)


def test_what_is_no_byte_is_refused_and_changes_nothing() -> None:
    replay, _ = filled(20, 2)
    before = replay.state()
    for value in (0.5, -1.0, 256.0, float("nan")):
        batch = walk(500, 3)
        batch.observations[1, 4] = value
        with pytest.raises(ValueError, match="pixel"):
            replay.add(batch)
    assert all(torch.equal(before[name], tensor) for name, tensor in replay.state().items())


def test_samples_are_shifted_and_the_measuring_set_is_not() -> None:
    """Pins: augmentation that never happens, happens to the state, or moves observation and next alike."""
    replay = Replay(50, 3 + SIZE, 1, pixels=replace(COLUMNS, shift_px=2))
    batch = walk(0, 30)
    replay.add(batch)
    assert torch.equal(replay.first(30).observations, batch.observations)
    drawn = replay.sample(64, torch.Generator().manual_seed(0))
    n = drawn.observations[:, 0].long()
    changed = (drawn.observations != batch.observations[n]).any(0)
    assert changed[2:-1].all() and not changed[:2].any() and not changed[-1]
    a, b = replay.sample(8, torch.Generator().manual_seed(1)), replay.sample(8, torch.Generator().manual_seed(1))
    assert torch.equal(a.observations, b.observations)


@pytest.mark.parametrize("kind", policy_kinds())
@pytest.mark.parametrize("name", KINDS["rl"].known())
def test_no_network_is_fed_raw_pixels(name: str, kind: str) -> None:
    """Pins: a policy or a critic that forgot its encoder: millions of weights, and nothing is learned."""
    image = ImageShape("eye", 64, 64)
    rl = method_config("rl", {"method": name})
    with_base = "base" in importlib.import_module(f"inril_core.policies.{kind}").Config.model_fields
    settings = policy_config({"kind": kind, **({"base": {"kind": "gaussian"}} if with_base else {})}).seeing((image,))
    if any(part == "policy" and capability not in settings.provides for part, capability in rl.needs()):
        pytest.skip(f"{name} does not go with {kind}")
    policy = settings.build(5 + image.size, 2)
    flat = FlatParameters(policy.parameters())
    reward = method_config("rewards", {"method": "csil"}).model(policy) if name.startswith("csil") else None
    made = rl.build(policy, flat, torch.Generator().manual_seed(0), reward)
    assert max(tensor.numel() for tensor in (flat.value, *made.state().values())) < 100 * image.size


def test_cloning_learns_to_see() -> None:
    demos = collect_demos(TASK, TASK.expert(), range(100, 160))
    policy = pretrain(dot_config(), TASK.interface, demos)
    assert sum(evaluate(TASK, policy, range(40))) >= 30
    assert demos[0].observations.shape[1] == 1 and demos[0].images["eye"].dtype == np.uint8


def test_reinforcement_learns_to_see(tmp_path) -> None:
    """Pins: any broken link: gradients to the encoder, pixels in replay, the critics' own encoder."""
    config = dot_config("rl_only")
    demos = collect_demos(TASK, TASK.expert(), range(4))
    policy = new_policy(config, TASK.interface, demos)
    blind = sum(evaluate(TASK, policy, range(40)))
    fine_tune(config, TASK, policy, demos, tmp_path, 0)
    assert blind <= 16 and sum(evaluate(TASK, policy, range(40))) >= 32


@pytest.mark.parametrize("rl", ["rlpd", "ppo"])
def test_a_residual_over_a_base_trains_from_pixels_and_resumes(tmp_path, rl: str) -> None:
    """Pins: frames or encoders that a checkpoint forgets, and an on-policy rollout with images."""
    ppo = {"rl": {"method": "ppo", "rollout_steps": 40, "epochs": 2, "minibatches": 2, "critic_warmup_iterations": 0}}
    policy_values = {"kind": "residual", "base": {"kind": "gaussian", "hidden": [8]}, "hidden": [8]}
    small = {
        "policy": policy_values,
        "schedule.rewards_before_actor": 0,
        "schedule.warmup_steps": 10 if rl == "rlpd" else 0,
        "schedule.critic_warmup_updates": 5,
    }
    small |= {"schedule.budget_steps": 200, "combine": {"method": "rl_only"}}
    config = dot_config("rl_only", **{**small, **(ppo if rl == "ppo" else {})})
    demos = collect_demos(TASK, TASK.expert(), range(3))
    policy = new_policy(config, TASK.interface, demos)
    episodes = [run_episode(TASK, policy_actor(policy, i, True), i, "train", True, "x", 0) for i in range(30)]
    learner = Learner(config, TASK.interface, policy, demos, tmp_path)
    before = policy.image_encoder.weights[0].detach().clone()

    def train(target: Learner, first: int, end: int) -> None:
        for episode in episodes[first:end]:
            target.ingest(episode)
        for _ in range(min(10, target.updates_due - target.updates)):
            target.train_step()

    train(learner, 0, 30)
    assert learner.updates and not torch.equal(before, policy.image_encoder.weights[0])
    learner.checkpoint()
    again = Learner(config, TASK.interface, new_policy(config, TASK.interface, demos), demos, tmp_path)
    again.resume()
    for name, tensor in again.policy.state_dict().items():
        assert torch.equal(tensor, policy.state_dict()[name])
    if rl == "rlpd":
        for target in (learner, again):
            target.train_step()
        assert torch.equal(again.parts.actor.value, learner.parts.actor.value)


def test_an_episode_without_its_images_is_refused() -> None:
    """Pins: black pictures where none were recorded."""
    policy = policy_config({"kind": "gaussian"}).seeing(TASK.interface.image_shapes).build(769, 2)
    demo = collect_demos(TASK, TASK.expert(), [0])[0]
    assert policy.inputs(demo).shape == (demo.steps + 1, 769)
    short = replace(demo, images={"eye": demo.images["eye"][:-1]}, image_steps={"eye": demo.image_steps["eye"][:-1]})
    for bad in (replace(demo, images={}, image_steps={}), short):
        with pytest.raises(ConfigError, match="recorded at every step"):
            policy.inputs(bad)


@pytest.mark.parametrize("trained_by", ["actions", "key_poses"])
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_runs_from_pixels(tmp_path, preset: str, trained_by: str) -> None:
    """Pins: a method whose networks, replay or augmentation know states only, or the size of the observation."""
    task, values = ReachTask(), load_config(preset).model_dump(mode="json")
    tiny = {
        "schedule.rewards_before_actor": 0,
        "schedule.warmup_steps": 2 if load_config(preset).rl.collection == "off_policy" else 0,
        "schedule.critic_warmup_updates": 0,
        "schedule.budget_steps": 400,
    }
    tiny |= {"pretrain.updates": 2, "pretrain.batch": 4, "il.batch": 4, "pretrain.encoder": {"updates": 2, "batch": 4}}
    tiny["policy.encoder"] = {"trained_by": trained_by}
    if "base" in values["policy"]:
        tiny["policy.base.encoder"] = {"trained_by": trained_by}
    for name, value in {"batch": 4, "rollout_steps": 10, "sarsa_updates": 2, "critic_warmup_iterations": 0}.items():
        if name in values["rl"]:
            tiny[f"rl.{name}"] = value
    config = load_config(preset).changed(**tiny)
    demos = collect_demos(task, task.expert(), range(3))
    policy = pretrain(config, task.interface, demos)
    learner = Learner(config, task.interface, policy, demos, tmp_path)
    encoders = [
        m for m in policy.modules() if isinstance(m, ImageEncoder) and m.pixels.shapes and m.weights[0].requires_grad
    ]
    before = [image_encoder.weights[0].detach().clone() for image_encoder in encoders]
    for seed in range(60):
        asked = task.expert() if "answers" in config.il.lives_on() else None
        learner.ingest(run_episode(task, policy_actor(policy, seed, True), seed, "train", True, "x", 0, asked))
        if learner.updates_due >= 6:
            break
    trained = learner.parts.actor.value.clone()
    for _ in range(6):
        learner.train_step()
    if trained_by == "key_poses":
        assert not encoders and not torch.equal(learner.parts.actor.value, trained)
        return
    assert any(not torch.equal(a, image_encoder.weights[0]) for a, image_encoder in zip(before, encoders, strict=True))
