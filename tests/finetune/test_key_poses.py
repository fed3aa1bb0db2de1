"""Key poses out of recordings, and policies whose encoder learns from them before anything else does."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.contract import ImageShape
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.config import EncoderFitConfig, FineTuneConfig
from inril_core.finetune.key_poses import fit_encoder, key_poses, key_steps
from inril_core.finetune.learner import Learner
from inril_core.finetune.local import collect_demos, evaluate, fine_tune, policy_actor, run_episode
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.encoder import KEY_POSE_SIZE, ImageEncoder, PixelColumns, key_pose_row, key_position_m
from inril_core.policies import load_policy, policy_config, policy_from_manifest, save_policy
from tests.finetune.dot_task import ReachTask, dot_config

TASK = ReachTask()
GENERATOR = torch.Generator()
SMALL = {"channels": [8, 8], "strides": [1, 1], "shift_px": 0, "trained_by": "key_poses"}


def seeing(updates: int = 20, **changes: object) -> FineTuneConfig:
    fitted = {"updates": updates, "batch": 32, "lr": 5e-3}
    return dot_config("rl_only", **{"policy.encoder": SMALL, "pretrain.encoder": fitted, **changes})


def moved(demo: Episode, poses: np.ndarray, gripper: list[float] | None = None) -> Episode:
    """``demo`` with other tool poses, and with a gripper's commands behind six motions."""
    steps = len(poses) - 1
    actions = np.zeros((steps, 6 if gripper is None else 7), np.float32)
    if gripper is not None:
        actions[:, 6] = gripper
    rows = {name: getattr(demo, name)[[0] * steps] for name in ("source", "log_prob", "policy_n")}
    return replace(
        demo, actions=actions, proposed=actions, raw=np.full_like(actions, np.nan), tool_pose=poses,
        observations=demo.observations[[0] * (steps + 1)], stamps_ns=np.arange(steps + 1),
        link_age_s=np.zeros((steps + 1, 0), np.float32), limits=((),) * steps, policy_run_ids=("",) * steps,
        aux=None, chunk_index=None, rewards=None, images={}, image_steps={}, **rows,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo() -> Episode:
    return collect_demos(TASK, TASK.expert(), [0])[0]


def line(count: int) -> np.ndarray:
    return np.array([[0.1 * i, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0] for i in range(count)])


@pytest.mark.parametrize(
    ("gripper", "then"),
    [
        (None, [4, 4, 4, 4, 4]),
        ([1.0, 1.0, 1.0, 1.0], [4, 4, 4, 4, 4]),
        ([1.0, 1.0, -1.0, -1.0], [2, 2, 2, 4, 4]),
        ([1.0, -1.0, -1.0, 1.0], [1, 1, 3, 3, 4]),
        ([1.0, 0.95, 1.0, 1.0], [4, 4, 4, 4, 4]),
    ],
)
def test_a_key_moment_is_where_the_gripper_works_or_the_attempt_ends(
    demo: Episode, gripper: list[float] | None, then: list[int]
) -> None:
    assert key_steps(moved(demo, line(5), gripper)).tolist() == then


def test_a_key_pose_is_seen_from_the_tool(demo: Episode) -> None:
    """Pins: the wrong frame, or the wrong way round."""
    poses = line(3)
    poses[0, 3:] = Rotation.from_euler("z", 90, degrees=True).as_quat()
    told = key_poses(moved(demo, poses))
    assert np.allclose(key_position_m(told).numpy(), [[0.0, -0.2, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-6)
    assert np.allclose(told[0, 3:].numpy(), [0.0, -1.0, 0.0, 1.0, 0.0, 0.0], atol=1e-6)
    assert torch.allclose(told[2], torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1, 0]))


@given(st.lists(st.floats(-3.0, 3.0), min_size=6, max_size=6), st.integers(0, 99))
def test_where_the_base_stands_is_not_seen(demo: Episode, elsewhere: list[float], seed: int) -> None:
    """Pins: labels that only a camera on the robot's base could learn."""
    rng = np.random.default_rng(seed)
    poses = np.concatenate((rng.normal(size=(4, 3)), Rotation.random(4, rng).as_quat()), 1)
    turn = Rotation.from_rotvec(elsewhere[3:])
    there = np.concatenate(
        (turn.apply(poses[:, :3]) + elsewhere[:3], (turn * Rotation.from_quat(poses[:, 3:])).as_quat()), 1
    )
    a, b = key_poses(moved(demo, poses)), key_poses(moved(demo, there))
    assert torch.allclose(a, b, atol=1e-3)


@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3))
def test_a_position_comes_back_from_its_row(position: list[float]) -> None:
    row = key_pose_row(torch.tensor(position), torch.eye(3))
    assert row.shape == (KEY_POSE_SIZE,) and torch.allclose(key_position_m(row), torch.tensor(position), atol=1e-5)


def test_a_policy_is_given_what_is_told_instead_of_pixels(tmp_path) -> None:
    """Pins: pixels in replay, or other inputs for acting than for learning."""
    config = seeing(2, **{"pretrain.updates": 2})
    demos = collect_demos(TASK, TASK.expert(), range(3))
    policy = pretrain(config, TASK.interface, demos)
    assert policy.input_size == 1 + KEY_POSE_SIZE and policy.pixels == PixelColumns(1 + KEY_POSE_SIZE, (), 0)
    encoder = policy.key_pose_encoder
    assert encoder is not None and not any(p.requires_grad for p in encoder.parameters())
    rows = torch.tensor(policy.observed(demos[0]))
    told = encoder.told(rows[:, 1:])
    assert torch.equal(policy.inputs(demos[0])[:, 1:], told)
    assert torch.allclose(policy.normalise(rows[0])[1:], told[0], atol=1e-5)
    again = policy_from_manifest(policy.manifest())
    again.load_state_dict(policy.state_dict())
    save_policy(tmp_path / "p.inril", policy, {})
    rng = np.random.default_rng(0)
    action = policy.act(rows[0].numpy(), False, rng).action
    for other in (again, load_policy(tmp_path / "p.inril")[0]):
        assert np.array_equal(other.act(rows[0].numpy(), False, rng).action, action)
    learner = Learner(config, TASK.interface, policy, demos, tmp_path)
    assert not any(name.endswith("frames") for part in learner.buffers.state().values() for name in part)


def test_it_learns_to_tell_and_cloning_learns_from_what_it_tells() -> None:
    """Pins: an encoder that is never fitted, or whose fit never reaches the policy."""
    heard: list[float] = []
    demos = collect_demos(TASK, TASK.expert(), range(100, 160))
    found = []
    hear = lambda _, loss: heard.append(loss)  # noqa: E731
    policy = pretrain(seeing(400), TASK.interface, demos, None, hear, found.append)
    assert len(heard) == 400 and np.mean(heard[-20:]) < 0.2 * np.mean(heard[:20])
    assert found[0].images > 0 and found[0].error_m < 0.02 and "mm" in found[0].in_words()
    assert sum(evaluate(TASK, policy, range(40))) >= 20


def test_what_is_told_does_not_learn_any_more(tmp_path) -> None:
    """Pins: an encoder that RL moves under stored inputs, and a checkpoint that forgets it."""
    config = seeing()
    demos = collect_demos(TASK, TASK.expert(), range(12))
    policy = pretrain(config, TASK.interface, demos)
    as_given = copy.deepcopy(policy)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items() if "key_pose_encoder" in name}
    learner = Learner(config, TASK.interface, policy, demos, tmp_path / "a")
    for seed in range(100):
        learner.ingest(run_episode(TASK, policy_actor(policy, seed, True), seed, "train", True, "x", 0))
    for _ in range(30):
        learner.train_step()
    learner.checkpoint()
    assert before and all(torch.equal(policy.state_dict()[name], tensor) for name, tensor in before.items())
    other = Learner(config, TASK.interface, as_given, demos, tmp_path / "a")
    other.resume()
    assert all(torch.equal(other.policy.state_dict()[name], tensor) for name, tensor in policy.state_dict().items())


@pytest.mark.parametrize("learned", [{}, {"learned": {"kind": "gaussian", "hidden": [8]}}])
def test_a_residual_and_its_base_are_told_the_same(tmp_path, learned: dict) -> None:
    """Pins: the base's action read from among what is told, or a base whose own encoder nobody fitted."""
    values = {"kind": "residual", "hidden": [8], "encoder": SMALL, **learned}
    values["base"] = {"kind": "gaussian", "hidden": [8], "encoder": SMALL}
    small = {"schedule.warmup_steps": 10, "schedule.critic_warmup_updates": 5, "schedule.budget_steps": 60}
    config = seeing(policy=values, **small)
    demos = collect_demos(TASK, TASK.expert(), range(12))
    policy = pretrain(config, TASK.interface, demos)
    rows = torch.tensor(policy.observed(demos[0]))
    inputs = policy.inputs(demos[0])
    assert inputs.shape[1] == policy.input_size == 1 + KEY_POSE_SIZE + 2
    assert torch.equal(inputs[:, : policy.row_size], policy.base.normalise(rows))
    assert np.allclose(inputs[0, -2:], policy.base.act(rows[0].numpy(), False, np.random.default_rng(0)).action)
    assert not any(
        isinstance(m, ImageEncoder) and m.pixels.shapes and m.weights[0].requires_grad for m in policy.modules()
    )
    fine_tune(config, TASK, policy, demos, tmp_path, 0)


def test_a_residual_and_its_base_see_in_one_way() -> None:
    with pytest.raises(ConfigError, match=r"policy\.base\.encoder\.trained_by"):
        policy_config({"kind": "residual", "base": {"kind": "gaussian"}, "encoder": SMALL})


def test_recordings_without_tool_poses_are_refused(demo: Episode) -> None:
    still = replace(demo, tool_pose=np.tile(line(1), (demo.steps + 1, 1)))
    settings = policy_config({"kind": "gaussian", "encoder": SMALL}).seeing(TASK.interface.image_shapes)
    with pytest.raises(ConfigError, match="no moving tool poses"):
        fit_encoder(settings.build(769, 2), [still], EncoderFitConfig(updates=1), GENERATOR)


def test_a_tool_pose_that_was_never_filled_is_named(demo: Episode) -> None:
    poses = line(4)
    poses[2, 3:] = 0.0
    with pytest.raises(ConfigError, match=r"step 2: tool pose"):
        key_poses(moved(demo, poses))


def test_a_demonstration_that_was_cut_off_is_left_out(demo: Episode) -> None:
    """Pins: labels of where a recording broke off."""
    settings = policy_config({"kind": "gaussian", "encoder": SMALL}).seeing(TASK.interface.image_shapes)
    with pytest.raises(ConfigError, match="no moving tool poses"):
        fit_encoder(settings.build(769, 2), [replace(demo, complete=False)], EncoderFitConfig(updates=1), GENERATOR)


def test_without_images_nothing_is_fitted(demo: Episode) -> None:
    policy = policy_config({"kind": "gaussian", "encoder": SMALL}).build(5, 2)
    assert policy.input_size == 5
    assert fit_encoder(policy, [demo], EncoderFitConfig(updates=1), GENERATOR) is None


def test_images_are_told_apart_by_their_place() -> None:
    """Pins: pixels of one camera given to the other's layers."""
    shapes = (ImageShape("a", 6, 8), ImageShape("b", 4, 4))
    settings = policy_config({"kind": "gaussian", "encoder": {**SMALL, "channels": [4], "strides": [1]}}).seeing(shapes)
    policy = settings.build(2 + sum(shape.size for shape in shapes), 2)
    rows = torch.rand(3, policy.observation_size) * 255
    told = policy.normalise(rows)
    other = rows.clone()
    other[:, 2 + shapes[0].size :] = 0.0
    assert told.shape == (3, 2 + KEY_POSE_SIZE) and not torch.equal(policy.normalise(other)[:, 2:], told[:, 2:])
    assert torch.equal(policy.normalise(other)[:, :2], told[:, :2])
