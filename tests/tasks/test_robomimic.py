"""Pins: robomimic files become demonstrations of the same task; broken or foreign ones are refused, with the reason.

Over 400 lines: each field of a file that decides a meaning is broken once.
"""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.bench.experiment import Experiment
from inril_core.bench.job import line_digest
from inril_core.bench.start import demonstrations
from inril_core.errors import ConfigError
from inril_core.tasks.families.robosuite import interface, relative_pose
from inril_core.tasks.robomimic import read_robomimic
from inril_core.tasks.robomimic_environment import check_environment
from inril_core.transforms import quat_normalise
from tests.strategies import JSON

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


def write(path, demos, arguments=ARGUMENTS, object_order=None, next_obs=True, mask=None, dones=None, marked=None):
    """dones: what robomimic's extraction marks with 1: "success", "ends", "both", "none"; None: there are no dones.
    marked: steps of success by name; None: where the reward is."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(arguments)
        for name, (observations, actions, rewards) in demos.items():
            group = data.create_group(name)
            group["actions"], group["rewards"] = actions, rewards
            if dones is not None:
                flags = np.zeros(len(actions), int)
                if dones in ("success", "both"):
                    flags[marked[name] if marked else np.flatnonzero(rewards)] = 1
                flags[-1] |= dones in ("ends", "both")
                group["dones"] = flags
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


def test_a_demo_without_reward_failed_where_another_has_one(tmp_path):
    path = write(tmp_path / "f.hdf5", {"demo_0": demo(0, 5, None), "demo_1": demo(1, 5, 4), "demo_2": demo(2, 5, 4)})
    with h5py.File(path, "a") as file:
        del file["data/demo_2/rewards"]
    failed, good, unknown = read_robomimic(path, "Lift")
    assert failed.success is False and failed.truncated and good.success is True
    assert unknown.success is None and unknown.rewards is None
    assert [e.success for e in read_robomimic(path, "Lift", limit=1)] == [False], "the whole file is asked"


@pytest.mark.parametrize("dones", [None, "none", "ends"])
def test_where_nothing_tells_success_somebody_has_to(tmp_path, dones):
    path = write(tmp_path / "f.hdf5", {"demo_0": demo(0, 5, None), "demo_1": demo(1, 5, None)}, dones=dones)
    with pytest.raises(ConfigError, match=r"tells a success from a failure.*done_mode.*unlabelled_succeed"):
        read_robomimic(path, "Lift")
    for episode in read_robomimic(path, "Lift", unlabelled_succeed=True):
        assert episode.success is True and episode.steps == 5 and episode.rewards.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("dones", ["success", "both"])
@pytest.mark.parametrize("rewarded", [None, "dense"])
def test_dones_tell_success_where_rewards_do_not(tmp_path, dones, rewarded):
    """Reference: done_mode 0 and 2 of robomimic's extraction; its dense rewards are positive from the first step on."""
    made = {f"demo_{i}": demo(i, 8, 5) for i in range(3)}
    marked = {key: np.flatnonzero(rewards) for key, (_, _, rewards) in made.items()}
    for _, _, rewards in made.values():
        rewards[:] = 0.0 if rewarded is None else np.linspace(0.1, 0.5, 8)
    episodes = read_robomimic(write(tmp_path / "f.hdf5", made, dones=dones, marked=marked), "Lift")
    assert [(e.success, e.steps, e.rewards.sum()) for e in episodes] == [(True, 6, 1.0)] * 3


def test_dense_rewards_are_no_success_but_their_upper_end_is(tmp_path):
    made = {"demo_0": demo(0, 8, 5), "demo_1": demo(1, 8, None)}
    for _, _, rewards in made.values():
        rewards[:] = np.where(rewards > 0.0, 1.0, np.linspace(0.1, 0.5, 8))
    good, failed = read_robomimic(write(tmp_path / "f.hdf5", made, changed(reward_shaping=True)), "Lift")
    assert good.success is True and good.steps == 6 and good.rewards.tolist() == [0, 0, 0, 0, 0, 1]
    assert failed.success is False and failed.steps == 8 and failed.rewards.tolist() == [0] * 8
    for _, _, rewards in made.values():
        rewards *= 4.0
    again = read_robomimic(write(tmp_path / "g.hdf5", made, changed(reward_scale=4.0)), "Lift")
    assert [(e.success, e.steps) for e in again] == [(True, 6), (False, 8)]


def test_without_next_obs_a_success_of_the_last_action_is_counted_a_step_earlier(tmp_path):
    (episode,) = read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0, 6, 5)}, next_obs=False), "Lift")
    assert episode.steps == 5 and episode.success is True and episode.rewards.tolist() == [0, 0, 0, 0, 1]
    (early,) = read_robomimic(write(tmp_path / "g.hdf5", {"demo_0": demo(0, 6, 3)}, next_obs=False), "Lift")
    assert early.steps == 4 and early.success is True


def test_a_demonstration_of_one_step_is_read_or_named(tmp_path):
    (episode,) = read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0, 1, 0)}), "Lift")
    assert episode.steps == 1 and episode.success is True
    with pytest.raises(ConfigError, match=r"demo_0 is one action.*next_obs.*subset"):
        read_robomimic(write(tmp_path / "g.hdf5", {"demo_0": demo(0, 1, 0)}, next_obs=False), "Lift")


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


def test_a_far_frame_is_refused_with_its_place(tmp_path):
    made = {f"demo_{i}": demo(i, 20, 19) for i in range(4)}
    made["demo_2"][0][5, 7] = 1e4
    with pytest.raises(ConfigError, match=r"demo_2, step 5, observations\[7\] = 10000 .*subset"):
        read_robomimic(write(tmp_path / "f.hdf5", made), "Lift")


def changed(**values):
    return {**ARGUMENTS, "env_kwargs": {**ARGUMENTS["env_kwargs"], **values}}


def controlled(**values):
    return changed(controller_configs={"type": "OSC_POSE", **values})


def composite(frame=None, **values):
    part = {"type": "OSC_POSE", **({} if frame is None else {"input_ref_frame": frame}), **values}
    return {**changed(controller_configs={"type": "BASIC", "body_parts": {"right": part}}), "env_version": "1.5.1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({**ARGUMENTS, "env_name": "PickPlaceCan"}, "env_name = 'PickPlaceCan'"),
        ({**ARGUMENTS, "type": 2}, "type = 2"),
        ({**ARGUMENTS, "env_version": "0.3.0"}, "env_version = '0.3.0'"),
        ({**ARGUMENTS, "env_version": "1.x"}, "env_version = '1.x'"),
        ({**ARGUMENTS, "env_kwargs": 3}, "env_kwargs"),
        ([], "env_kwargs"),
        (changed(robots=["Sawyer"]), "robots"),
        (changed(control_freq=10), "control_freq = 10"),
        (changed(gripper_types=["RethinkGripper"]), "gripper_types = 'RethinkGripper'"),
        (changed(table_offset=[0, 0, 0.9]), "table_offset.*not known"),
        (changed(reward_scale="1"), "reward_scale"),
        (changed(controller_configs=None), "controller_configs is absent"),
        (changed(controller_configs=[ARGUMENTS["env_kwargs"]["controller_configs"]] * 2), "2 robots"),
        (changed(controller_configs={"type": "JOINT_VELOCITY"}), "JOINT_VELOCITY.*OSC_POSE"),
        (changed(controller_configs={"type": "WHOLE_BODY_IK", "body_parts": {}}), "WHOLE_BODY_IK"),
        (controlled(control_delta=False), "control_delta = False"),
        (controlled(input_type="absolute"), "input_type = 'absolute'"),
        (controlled(output_max=0.1), "output_max = 0.1"),
        (controlled(output_max=[0.05, 0.05, 0.05, 0.5, 0.5, 0.4]), "output_max"),
        (controlled(output_min=[-0.05] * 6), "output_min"),
        (controlled(input_max=2), "input_max = 2"),
        (controlled(input_min=[-1, -1]), "input_min"),
        (controlled(input_ref_frame="eef"), "input_ref_frame = 'eef'"),
        (controlled(impedance_mode="variable_kp"), "impedance_mode"),
        (controlled(kp=300), "kp = 300"),
        (controlled(damping_ratio=2), "damping_ratio"),
        (controlled(interpolation="linear"), "interpolation"),
        (controlled(uncouple_pos_ori=1), "uncouple_pos_ori"),
        (controlled(gripper={"type": "JOINT_POSITION"}), "gripper"),
        (controlled(policy_freq=40), "policy_freq"),
        (controlled(speed_up=2), "speed_up.*not known"),
        (composite(output_max=0.1), "output_max"),
    ],
)
def test_what_decides_a_meaning_and_differs_is_refused_by_name(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0)}, arguments), "Lift")


@pytest.mark.parametrize(
    "arguments",
    [
        {"env_name": "Lift", "env_kwargs": {"robots": "Panda", "controller_configs": {"type": "OSC_POSE"}}},
        changed(reward_shaping=True, use_camera_obs=False, camera_heights=84, has_renderer=False, horizon=500),
        controlled(
            **{"input_max": 1, "input_min": -1, "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5], "kp": 150},
            **{"output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5], "damping": 1, "impedance_mode": "fixed"},
            **{"kp_limits": [0, 300], "damping_limits": [0, 10], "position_limits": None, "orientation_limits": None},
            **{"uncouple_pos_ori": True, "control_delta": True, "interpolation": None, "ramp_ratio": 0.2},
        ),
        composite("world"),
        composite(),
    ],
)
def test_absent_fields_have_their_writers_default(tmp_path, arguments):
    assert read_robomimic(write(tmp_path / "f.hdf5", {"demo_0": demo(0)}, arguments), "Lift")[0].success


@pytest.mark.parametrize(("arguments", "fits"), [(ARGUMENTS, True), (composite("world"), True), (composite(), False)])
def test_axes_of_an_opposite_arms_base_are_not_the_worlds(arguments, fits):
    two = {**arguments["env_kwargs"], "robots": ["Panda", "Panda"]}
    text = json.dumps({**arguments, "env_name": "TwoArmTransport", "env_kwargs": two})
    if fits:
        check_environment(text, "Transport", "f.hdf5")
    else:
        with pytest.raises(ConfigError, match="input_ref_frame = 'base'"):
            check_environment(text, "Transport", "f.hdf5")


FIELDS = ["robots", "control_freq", "controller_configs", "reward_scale", "reward_shaping", "gripper_types", "horizon"]
CONTROLLER_FIELDS = ["type", "input_max", "output_min", "kp", "input_ref_frame", "gripper", "position_limits", "other"]


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(FIELDS + CONTROLLER_FIELDS + ["env_version", "env_name", "body_parts"]), value=JSON)
def test_no_description_raises_anything_but_a_refusal(field, value):
    kwargs = {"robots": ["Panda"], "controller_configs": {"type": "OSC_POSE"}}
    arguments = {"env_name": "Lift", "env_kwargs": kwargs}
    if field in FIELDS:
        kwargs[field] = value
    elif field == "body_parts":
        kwargs["controller_configs"] = {"type": "BASIC", "body_parts": value}
    elif field in CONTROLLER_FIELDS:
        kwargs["controller_configs"][field] = value
    else:
        arguments[field] = value
    with contextlib.suppress(ConfigError):
        check_environment(json.dumps(arguments), "Lift", "f.hdf5")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    good = write(tmp_path / "good.hdf5", {"demo_0": demo(0)})
    (tmp_path / "cut.hdf5").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "text.hdf5").write_text("not HDF5")
    with h5py.File(tmp_path / "foreign.hdf5", "w") as file:
        file["other"] = np.zeros(3)
    with h5py.File(tmp_path / "none.hdf5", "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(ARGUMENTS)
    for name, message in (("cut", "readable"), ("text", "readable"), ("foreign", "no data/"), ("none", "no demons")):
        with pytest.raises(ConfigError, match=message):
            read_robomimic(tmp_path / f"{name}.hdf5", "Lift")
    with pytest.raises(ConfigError, match="readable"):
        read_robomimic(tmp_path / "missing.hdf5", "Lift")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("obs/object", np.zeros((6, 9)), "object.*must be 10 numbers"),
        ("obs/robot0_eef_pos", np.full((6, 3), np.nan), "not finite"),
        ("actions", np.zeros((6, 6)), "actions"),
        ("actions", np.full((6, 7), np.inf), "action that is not finite"),
        ("obs/robot0_eef_quat", np.zeros((7, 4)), "not of length 1"),
        ("actions", np.zeros((4, 7)), r"must be \[4\]"),
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
    for quat in (arms[:, 3:7], arms[:, 12:16]):
        quat /= np.linalg.norm(quat, axis=1, keepdims=True)
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
    succeed = {"robosuite:Lift": {"demo_file": str(path), "unlabelled_demos_succeed": True}}
    believed = Experiment(**values, tasks=succeed).jobs()[0]
    assert len({first.digest, scripted.digest, changed.digest, believed.digest}) == 4
    assert line_digest({**believed.facts()}) == believed.digest
    assert line_digest({**first.facts()}) == first.digest
    with pytest.raises(ConfigError, match="holds 6 demonstrations, demos = 7"):
        demonstrations(dataclasses.replace(first, demos=7), None)
    with pytest.raises(ConfigError, match="cannot be read.*give an existing file"):
        Experiment(**values, tasks={"robosuite:Lift": {"demo_file": str(tmp_path / "none.hdf5")}}).jobs()
    with pytest.raises(ValueError, match="only tasks of robosuite"):
        Experiment(**values, tasks={"insert_leg": {"demo_file": str(path)}})
