"""Pins: robomimic files become demonstrations of the same task; broken or foreign ones are refused, with the reason."""

import dataclasses
import json

import numpy as np
import pytest

from inril_core.bench.experiment import Experiment
from inril_core.bench.job import line_digest
from inril_core.bench.start import demonstrations
from inril_core.errors import ConfigError
from inril_core.tasks.families.robosuite import interface, relative_pose
from inril_core.tasks.robomimic import read_robomimic
from inril_core.transforms import quat_normalise

h5py = pytest.importorskip("h5py", reason="needs the extra `robosuite`")

ARGUMENTS = {
    "env_name": "Lift",
    "env_version": "1.4.1",
    "type": 1,
    "env_kwargs": {
        "robots": ["Panda"],
        "control_freq": 20,
        "controller_configs": {"type": "OSC_POSE", "control_delta": True},
    },
}
NEW_CONTROLLER = {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "input_type": "delta"}}}


def rows(rng, count, name="Lift"):
    """Random but consistent observations ``[count, D]`` in this project's order."""
    tool = rng.uniform(-0.1, 0.1, (count, 3)) + [0.0, 0.0, 1.0]
    hand = np.array([quat_normalise(q) for q in rng.normal(size=(count, 4)).tolist()])
    fingers = rng.uniform(0.0, 0.04, (count, 2)) * [1, -1]
    item = rng.uniform(-0.2, 0.2, (count, 3)) + [0.3, 0.0, 0.83]
    quat = np.array([quat_normalise(q) for q in rng.normal(size=(count, 4)).tolist()])
    if name == "Lift":
        return np.concatenate([tool, hand, fingers, item, quat, tool - item], 1)
    relative = np.stack([relative_pose(*row) for row in zip(item, quat, tool, hand, strict=True)])
    return np.concatenate([tool, hand, fingers, item, quat, relative], 1)


def write(path, demos, arguments=ARGUMENTS, object_order=None, next_obs=True, mask=None):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(arguments)
        for name, (observations, actions, rewards) in demos.items():
            group = data.create_group(name)
            group["actions"], group["rewards"] = actions, rewards
            parts = {"robot0_eef_pos": slice(0, 3), "robot0_eef_quat": slice(3, 7), "robot0_gripper_qpos": slice(7, 9)}
            columns = {key: observations[:, where] for key, where in parts.items()}
            objects = observations[:, 9:]
            columns["object"] = objects if object_order is None else object_order(objects)
            for key, column in columns.items():
                group[f"obs/{key}"] = column[:-1]
                if next_obs:
                    group[f"next_obs/{key}"] = column[1:]
        if mask is not None:
            file["mask/train"] = np.array(mask, dtype="S")
    return path


def demo(seed, steps=6, rewarded=5, name="Lift"):
    rng = np.random.default_rng(seed)
    rewards = np.zeros(steps)
    if rewarded is not None:
        rewards[rewarded:] = 1.0
    return rows(rng, steps + 1, name), rng.uniform(-0.9, 0.9, (steps, 7)), rewards


def test_a_file_made_by_hand_comes_back(tmp_path):
    made = {"demo_10": demo(1), "demo_2": demo(2, 4, 3)}
    first, second = read_robomimic(write(tmp_path / "lift.hdf5", made), "Lift")
    assert [first.seed, second.seed] == [2, 10]  # by number, not by letter
    observations, actions, rewards = made["demo_10"]
    assert second.observations == pytest.approx(observations, abs=1e-6)
    assert second.actions == pytest.approx(actions, abs=1e-6) and second.rewards == pytest.approx(rewards)
    assert second.success is True and second.terminated and not second.truncated and second.complete
    assert second.purpose == "demo" and (second.source == 1).all()
    assert second.interface_digest == interface("Lift").interface_digest
    assert second.tool_pose == pytest.approx(observations[:, :7])
    again = read_robomimic(tmp_path / "lift.hdf5", "Lift")[1]
    assert again.sha256 == second.sha256 != first.sha256


def test_an_episode_ends_at_its_first_reward(tmp_path):
    (episode,) = read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0, 8, 3)}), "Lift")
    assert episode.steps == 4 and episode.terminated and episode.rewards.tolist() == [0, 0, 0, 1]


def test_a_demo_without_reward_failed_and_one_without_labels_is_unknown(tmp_path):
    (failed,) = read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0, 5, None)}), "Lift")
    assert failed.success is False and failed.truncated
    with h5py.File(tmp_path / "f.hdf5", "a") as file:
        del file["data/demo_0/rewards"]
    (unknown,) = read_robomimic(tmp_path / "f.hdf5", "Lift")
    assert unknown.success is None and unknown.rewards is None


def test_without_next_obs_the_last_action_is_left_out_and_not_called_a_success(tmp_path):
    (episode,) = read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0, 6, 5)}, next_obs=False), "Lift")
    assert episode.steps == 5 and episode.success is None and not episode.terminated
    (early,) = read_robomimic(write(tmp_path / "g.hdf5", {"demo_0": demo(0, 6, 3)}, next_obs=False), "Lift")
    assert early.steps == 4 and early.success is True


def test_the_sign_that_robosuite_turned_round_is_turned_back(tmp_path):
    made = {"demo_0": demo(0)}
    new = {**ARGUMENTS, "env_kwargs": {**ARGUMENTS["env_kwargs"], "controller_configs": [NEW_CONTROLLER]}}
    path = write(tmp_path / "f.hdf5", made, new, lambda o: np.concatenate([o[:, :7], -o[:, 7:]], 1))
    assert read_robomimic(path, "Lift")[0].observations == pytest.approx(made["demo_0"][0], abs=1e-6)


def test_both_orders_of_can_are_understood_and_a_third_is_refused(tmp_path):
    arguments = {**ARGUMENTS, "env_name": "PickPlaceCan"}
    made = {"demo_0": demo(0, name="Can")}
    swapped = write(tmp_path / "a.hdf5", made, arguments, lambda o: np.concatenate([o[:, 7:], o[:, :7]], 1))
    straight = write(tmp_path / "b.hdf5", made, arguments)
    for path in (swapped, straight):
        assert read_robomimic(path, "Can")[0].observations == pytest.approx(made["demo_0"][0], abs=1e-5)
    other = write(tmp_path / "c.hdf5", made, arguments, lambda o: np.concatenate([o[:, :7], o[:, 7:] + 0.3], 1))
    with pytest.raises(ConfigError, match="no known robosuite version"):
        read_robomimic(other, "Can")


def test_limit_and_subset(tmp_path):
    path = write(tmp_path / "f.hdf5", {f"demo_{i}": demo(i) for i in range(4)}, mask=["demo_3", "demo_1"])
    assert [e.seed for e in read_robomimic(path, "Lift", limit=3)] == [0, 1, 2]
    assert [e.seed for e in read_robomimic(path, "Lift", subset="train")] == [1, 3]
    with pytest.raises(ConfigError, match=r"subset = 'test': must be one of \['train'\]"):
        read_robomimic(path, "Lift", subset="test")


def test_wide_actions_are_clipped_and_named(tmp_path):
    observations, actions, rewards = demo(0)
    actions[2, 0] = 1.5
    (episode,) = read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": (observations, actions, rewards)}), "Lift")
    assert episode.actions[2, 0] == 1.0 and episode.proposed[2, 0] == 1.5
    assert episode.limits == ((), (), ("action_range",), (), (), ())


def changed(**values):
    return {**ARGUMENTS, "env_kwargs": {**ARGUMENTS["env_kwargs"], **values}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({**ARGUMENTS, "env_name": "PickPlaceCan"}, "env_name = 'PickPlaceCan'"),
        (changed(robots=["Sawyer"]), "robots"),
        (changed(control_freq=10), "control_freq"),
        (changed(controller_configs={"type": "JOINT_VELOCITY"}), "OSC_POSE"),
        (changed(controller_configs={"type": "OSC_POSE", "control_delta": False}), "absolute"),
    ],
)
def test_another_task_robot_rate_or_action_is_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0)}, arguments), "Lift")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    good = write(tmp_path / "good.hdf5", {"demo_0": demo(0)})
    (tmp_path / "cut.hdf5").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "text.hdf5").write_text("not HDF5")
    with h5py.File(tmp_path / "foreign.hdf5", "w") as file:
        file["other"] = np.zeros(3)
    with h5py.File(tmp_path / "none.hdf5", "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(ARGUMENTS)
    for name, message in (("cut", "readable"), ("text", "readable"), ("foreign", "env_args"), ("none", "no demons")):
        with pytest.raises(ConfigError, match=message):
            read_robomimic(tmp_path / f"{name}.hdf5", "Lift")
    with pytest.raises(ConfigError, match="readable"):
        read_robomimic(tmp_path / "missing.hdf5", "Lift")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("obs/object", np.zeros((6, 9)), "must be 19 numbers"),
        ("obs/robot0_eef_pos", np.full((6, 3), np.nan), "not finite"),
        ("actions", np.zeros((6, 6)), "actions"),
        ("actions", np.full((6, 7), np.inf), "readable"),
        ("actions", np.zeros((4, 7)), "for 4 steps"),
        ("rewards", np.zeros(4), "rewards"),
        ("obs/object", None, "no obs/object"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, where, value, message):
    path = write(tmp_path / "f.hdf5", {"demo_0": demo(0)})
    with h5py.File(path, "a") as file:
        group = file["data/demo_0"]
        del group[where]
        if where.startswith("obs/"):
            del group[f"next_{where}"]
        if value is not None:
            group[where] = value
    with pytest.raises(ConfigError, match=message):
        read_robomimic(path, "Lift")


@pytest.mark.parametrize("flags_at", [39, 27])  # robosuite up to 1.4, and 1.5
def test_transport_of_both_orders_is_understood(tmp_path, flags_at):
    rng = np.random.default_rng(0)
    arms = rng.uniform(-1.0, 1.0, (4, 18))
    poses = rng.uniform(-1.0, 1.0, (4, 27))
    payload, trash, lid = poses[:, 0:3], poses[:, 7:10], poses[:, 14:17]
    ways = np.concatenate(
        [payload - arms[:, 0:3], lid - arms[:, 0:3], payload - arms[:, 9:12], trash - arms[:, 9:12]], 1
    )
    flags = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    objects = np.concatenate([poses, ways, flags] if flags_at == 39 else [poses, flags, ways], 1)
    path = tmp_path / "t.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        kwargs = {**ARGUMENTS["env_kwargs"], "robots": ["Panda", "Panda"]}
        data.attrs["env_args"] = json.dumps({"env_name": "TwoArmTransport", "env_kwargs": kwargs})
        group = data.create_group("demo_0")
        group["actions"], group["rewards"] = np.zeros((3, 14)), np.array([0.0, 0.0, 1.0])
        columns = {"object": objects}
        for arm in (0, 1):
            for key, a, b in (("eef_pos", 0, 3), ("eef_quat", 3, 7), ("gripper_qpos", 7, 9)):
                columns[f"robot{arm}_{key}"] = arms[:, 9 * arm + a : 9 * arm + b]
        for key, column in columns.items():
            group[f"obs/{key}"], group[f"next_obs/{key}"] = column[:-1], column[1:]
    (episode,) = read_robomimic(path, "Transport")
    assert episode.success and episode.observations == pytest.approx(
        np.concatenate([arms, poses, ways, flags], 1), abs=1e-6
    )


def test_an_experiment_draws_its_demonstrations_from_a_file(tmp_path):
    """Pins: files that can be read and that no run ever reads; a changed file taken for the old one."""
    path = write(tmp_path / "lift.hdf5", {f"demo_{i}": demo(i) for i in range(6)})
    values = {"name": "made", "methods": {"rl_only": "rl_only"}, "seeds": 2, "demos": 3}
    given = {"tasks": {"robosuite:Lift": {"demo_file": str(path)}}}
    first, second = Experiment(**values, **given).jobs()
    drawn = [[episode.sha256 for episode in demonstrations(job, None)] for job in (first, second, first)]
    assert drawn[0] == drawn[2] != drawn[1] and len(set(drawn[0])) == 3
    scripted = Experiment(**values, tasks=["robosuite:Lift"]).jobs()[0]
    write(path, {f"demo_{i}": demo(i + 1) for i in range(6)})
    changed = Experiment(**values, **given).jobs()[0]
    assert len({first.digest, scripted.digest, changed.digest}) == 3
    assert line_digest({**first.facts()}) == first.digest
    with pytest.raises(ConfigError, match="holds 6 demonstrations, demos = 7"):
        demonstrations(dataclasses.replace(first, demos=7), None)
    with pytest.raises(ConfigError, match="cannot be read.*give an existing file"):
        Experiment(**values, tasks={"robosuite:Lift": {"demo_file": str(tmp_path / "none.hdf5")}}).jobs()
    with pytest.raises(ValueError, match="only tasks of robosuite"):
        Experiment(**values, tasks={"insert_leg": {"demo_file": str(path)}})
