"""Pins: data of other projects that are read as something else than they are."""

import json
import pickle

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

h5py = pytest.importorskip("h5py", reason="needs the extra `data`")
pytest.importorskip("pyarrow", reason="needs the extra `data`")

from inril_core.contract import load_contract  # noqa: E402
from inril_core.errors import ConfigError  # noqa: E402
from inril_core.exchange.exporting import export_run  # noqa: E402
from inril_core.exchange.importing import detect, import_episodes, write_map  # noqa: E402
from tests.exchange.episodes import CONTRACT, make, pictures, read_run, record_run  # noqa: E402

GRIPPED = load_contract("one_leg_low")


def quats(count: int, seed: int = 0) -> Rotation:
    return Rotation.random(count, random_state=seed)


def write_robomimic(path, demos, rate_hz=10, masks=None):
    """demos: by name a dictionary of datasets, ``obs/x``."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Own", "type": 1, "env_kwargs": {"control_freq": rate_hz}})
        for name, values in demos.items():
            for key, value in values.items():
                data[f"{name}/{key}"] = value
        for name, members in (masks or {}).items():
            file[f"mask/{name}"] = np.array(members, "S")
    return path


def demo(steps=6, seed=0, closing=True, **more):
    """Fields of insert_leg under their own names, the tool's rotation as a quaternion, lengths in mm."""
    rng = np.random.default_rng(seed)
    turned = quats(steps + 1, seed)
    state = {
        "tip_mm": rng.normal(size=(steps + 1, 3)) * 10.0,
        "leg_quat": quats(steps + 1, seed + 1).as_quat(),
        "turn": rng.normal(size=(steps + 1, 2)),
        "eef_pos": rng.normal(size=(steps + 1, 3)) * 0.01 + 0.4,
        "eef_quat": turned.as_quat(),
        "twist": rng.normal(size=(steps + 1, 6)),
        "width": rng.normal(size=(steps + 1, 1)),
    }
    state |= more
    values = {f"obs/{key}": rows[:steps] for key, rows in state.items()}
    if closing:
        values |= {f"next_obs/{key}": rows[1:] for key, rows in state.items()}
    values["actions"] = rng.uniform(-1, 1, (steps, 6))
    values["rewards"], values["dones"] = np.eye(steps)[-1], np.eye(steps)[-1]
    return values


def mapping(**changes):
    """For `demo`."""
    field = {"unit": "1", "frame": "hole"}
    values = {
        "contract": "insert_leg",
        "observation": {
            "tip_in_hole_m": {"from": "obs/tip_mm", "unit": "mm", "frame": "hole"},
            "leg_in_hole_rot6d": {"from": "obs/leg_quat", "rotation": "quat_xyzw", **field},
            "turn_sin_cos": {"from": "obs/turn", **field},
            "tool_position_m": {"from": "obs/eef_pos", "unit": "m", "frame": "base"},
            "tool_rot6d": {"from": "obs/eef_quat", "rotation": "quat_xyzw", "unit": "1", "frame": "base"},
            "tool_twist": {"from": ["obs/twist[0:3]", "obs/twist[3:6]"], "unit": "m/s, rad/s", "frame": "base"},
            "gripper_width_m": {"from": "obs/width", "unit": "m", "frame": "tool"},
        },
        "action": {"from": "actions", "kind": "normalised"},
    }
    return {**values, **changes}


@pytest.fixture
def bring(tmp_path):
    """Imports a file with a mapping; returns the episodes."""

    def do(source, values, **options):
        (tmp_path / "map.yaml").write_text(yaml.safe_dump(values))
        done = import_episodes(source, tmp_path / "run", tmp_path / "map.yaml", replace=True, **options)
        return read_run(tmp_path / "run"), done

    return do


def test_a_robomimic_file_comes_in_contract_terms(tmp_path, bring):
    values = demo()
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": values, "demo_10": demo(4, 1), "demo_2": demo(5, 2)})
    (first, second, third), done = bring(path, mapping())
    assert done.warnings == () and [e.steps for e in (first, second, third)] == [6, 5, 4]  # by number, not by letters
    tip = np.concatenate([values["obs/tip_mm"], values["next_obs/tip_mm"][-1:]]) * 0.001
    np.testing.assert_allclose(first.observations[:, :3], tip, rtol=1e-6)
    matrices = Rotation.from_quat(values["obs/eef_quat"]).as_matrix()
    np.testing.assert_allclose(first.observations[:6, 14:17], matrices[:, :, 0], atol=1e-6)
    np.testing.assert_allclose(first.observations[:6, 17:20], matrices[:, :, 1], atol=1e-6)
    np.testing.assert_array_equal(first.actions, values["actions"].astype(np.float32))
    np.testing.assert_allclose(first.tool_pose[:6, :3], values["obs/eef_pos"])
    assert first.success and first.terminated and first.interface_digest == CONTRACT.interface_digest
    assert first.source.tolist() == [1] * 6 and first.stamps_ns.tolist() == [n * 10**8 for n in range(7)]


def test_without_next_obs_the_last_action_is_left_out(tmp_path, bring):
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": demo(closing=False)})
    (episode,), _ = bring(path, mapping())
    assert episode.steps == 5 and episode.success


def test_masks_images_and_rates(tmp_path, bring):
    frames = pictures(7, 0)
    named = {"demo_0": demo(agentview=frames), "demo_1": demo(seed=1, agentview=frames)}
    path = write_robomimic(tmp_path / "f.hdf5", named, masks={"train": ["demo_1"]})
    (episode,), done = bring(path, mapping(subset="train", images={"front": "obs/agentview"}))
    assert done.episodes == 1 and "demo_1" in episode.episode_id
    np.testing.assert_array_equal(episode.images["front"], frames)
    with pytest.raises(ConfigError, match="subset = 'valid': must be one of"):
        bring(path, mapping(subset="valid"))
    with pytest.raises(ConfigError, match="has no image 'obs/wrist'; there are .*obs/agentview \\(image\\)"):
        bring(path, mapping(images={"front": "obs/wrist"}))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("observation.tip_in_hole_m.unit", "rad", "tip_in_hole_m: unit = 'rad', the contract's is 'm'"),
        ("observation.tip_in_hole_m.frame", "base", "frame 'base', the contract's is in 'hole'"),
        ("observation.tip_in_hole_m.from", "obs/tip", "no column 'obs/tip'; there are .*obs/tip_mm\\[3\\]"),
        ("observation.tip_in_hole_m.from", "obs/twist", "has 6 numbers, the contract's has 3"),
        ("observation.tip_in_hole_m.from", "obs/twist[2:9]", "has 6 numbers"),
        ("observation.tool_rot6d.rotation", "rot6d", "4 numbers; rot6d has 6"),
        ("observation.turn_sin_cos", None, "turn_sin_cos: is missing in the mapping"),
        ("action.from", "obs/tip_mm", "has 3 numbers, the contract's action has 6"),
        ("action.kind", "delta", "action.kind"),
        ("rate_hz", 20.0, "rate_hz = 20: demo_0 says 10 Hz"),
        ("contract", "insert_leg???", "line 4: contract: insert_leg"),
        ("unknown", 1, "unknown"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, bring, where, value, message):
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": demo()})
    values = mapping()
    *parents, last = where.split(".")
    at = values
    for parent in parents:
        at = at[parent]
    at[last] = value
    if value is None:
        del at[last]
    with pytest.raises(ConfigError, match=message):
        bring(path, values)
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_none_name_their_row_and_may_be_left_out(tmp_path, bring):
    bad = demo(seed=3)
    bad["obs/twist"][4, 1] = np.nan
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": demo(), "demo_1": bad})
    with pytest.raises(ConfigError, match="demo_1: observations is not finite in row 4.*--leave-out-bad"):
        bring(path, mapping())
    episodes, done = bring(path, mapping(), leave_out_bad=True)
    assert len(episodes) == 1 and "row 4" in done.left_out[0]


def test_another_rate_is_refused_until_it_is_asked_for(tmp_path, bring):
    values = demo(steps=8)
    values["actions"] *= 0.4
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": values}, rate_hz=20)
    with pytest.raises(ConfigError, match="at 20 Hz, the contract at 10 Hz; set resample: true"):
        bring(path, mapping())
    (episode,), _ = bring(path, mapping(resample=True))
    assert episode.steps == 4
    joined = values["actions"].reshape(4, 2, 6)
    np.testing.assert_allclose(episode.actions[:, :3], joined[:, :, :3].sum(1), atol=1e-6)
    scale = CONTRACT.action.rotation_scale_rad
    turned = Rotation.from_rotvec(joined[:, 1, 3:] * scale) * Rotation.from_rotvec(joined[:, 0, 3:] * scale)
    np.testing.assert_allclose(episode.actions[:, 3:], turned.as_rotvec() / scale, atol=1e-5)
    np.testing.assert_allclose(episode.observations[1, :3], values["obs/tip_mm"][2] * 0.001, rtol=1e-5)
    odd = write_robomimic(tmp_path / "odd.hdf5", {"demo_0": values}, rate_hz=15)
    with pytest.raises(ConfigError, match="only a whole multiple can be joined"):
        bring(odd, mapping(resample=True))


def test_absolute_poses_become_the_contracts_deltas(tmp_path, bring):
    values = demo()
    rng = np.random.default_rng(5)
    deltas, turns = rng.uniform(-1, 1, (6, 3)) * 0.01, rng.uniform(-1, 1, (6, 3)) * 0.1
    position, turned = values["obs/eef_pos"][0], Rotation.from_quat(values["obs/eef_quat"][0])
    targets, target_quats = [], []
    for delta, turn in zip(deltas, turns, strict=True):
        position, turned = position + delta, Rotation.from_rotvec(turn) * turned
        targets.append(position)
        target_quats.append(turned.as_quat()[[3, 0, 1, 2]])
    values["actions_abs"] = np.hstack([targets, target_quats])
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": values})
    action = {"from": "actions_abs[0:3]", "kind": "absolute_pose"}
    action |= {"rotation": "actions_abs[3:7]", "rotation_kind": "quat_wxyz"}
    (episode,), _ = bring(path, mapping(action=action))
    np.testing.assert_allclose(episode.actions[:, :3], deltas / 0.01, atol=1e-4)
    np.testing.assert_allclose(episode.actions[:, 3:], turns / 0.12, atol=1e-4)


def test_a_delta_in_the_tools_frame_is_turned_into_the_base(tmp_path, bring):
    values = demo()
    values["delta"] = values["actions"] * 0.005
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": {**values, "actions_abs": values["delta"]}})
    action = {"from": "actions_abs[0:3]", "kind": "delta_pose", "frame": "tool"}
    action |= {"rotation": "actions_abs[3:6]", "rotation_kind": "rotvec"}
    (episode,), _ = bring(path, mapping(action=action))
    tool = Rotation.from_quat(values["obs/eef_quat"])
    np.testing.assert_allclose(episode.actions[:, :3] * 0.01, tool.apply(values["delta"][:, :3]), atol=1e-6)
    np.testing.assert_allclose(episode.actions[:, 3:] * 0.12, tool.apply(values["delta"][:, 3:]), atol=1e-6)


def test_actions_beyond_their_range_are_clipped_and_told(tmp_path, bring):
    values = demo()
    values["actions"][2, 0] = 3.0
    path = write_robomimic(tmp_path / "f.hdf5", {"demo_0": values})
    (episode,), done = bring(path, mapping())
    assert episode.actions[2, 0] == 1.0 and episode.proposed[2, 0] == 3.0 and episode.limits[2] == ("action_range",)
    assert "1 of 6 actions are beyond" in done.warnings[0]


def test_a_template_is_filled_where_names_fit_and_asks_for_the_rest(tmp_path, bring):
    run = record_run(tmp_path / "own", [make(0)])
    export_run(run, tmp_path / "own.hdf5", "hdf5")
    with h5py.File(tmp_path / "own.hdf5", "a") as file:
        del file["data/demo_0/inril"]  # as another project would have written it
    write_map(tmp_path / "own.hdf5", tmp_path / "map.yaml", "insert_leg")
    text = (tmp_path / "map.yaml").read_text()
    assert "from: obs/tip_in_hole_m" in text and "#   obs/tool_twist[6]" in text
    with pytest.raises(ConfigError, match=r"line \d+: kind: .*replace \?\?\?"):
        import_episodes(tmp_path / "own.hdf5", tmp_path / "in", tmp_path / "map.yaml")
    (tmp_path / "map.yaml").write_text(
        text.replace("kind: ???", "kind: normalised").replace("kind: '???'", "kind: normalised")
    )
    import_episodes(tmp_path / "own.hdf5", tmp_path / "in", tmp_path / "map.yaml")
    np.testing.assert_array_equal(read_run(tmp_path / "in")[0].observations, read_run(run)[0].observations)
    with pytest.raises(ConfigError, match="is there already"):
        write_map(tmp_path / "own.hdf5", tmp_path / "map.yaml", "insert_leg")
    with pytest.raises(ConfigError, match="give a mapping with --map"):
        import_episodes(tmp_path / "own.hdf5", tmp_path / "other")


@pytest.mark.parametrize("frames", ["png", "video"])
def test_a_lerobot_data_set_of_another_project(tmp_path, bring, frames):
    import shutil

    run = record_run(tmp_path / "own", [make(seed, steps=5 + seed, images=True) for seed in range(2)])
    export_run(run, tmp_path / "theirs", "lerobot", frames=frames)
    shutil.rmtree(tmp_path / "theirs" / "inril")
    names = {f.name: slice_ for f, slice_ in zip(CONTRACT.observation, CONTRACT.slices().values(), strict=True)}
    observation = {
        f.name: {
            "from": f"observation.state[{names[f.name].start}:{names[f.name].stop}]",
            "unit": f.unit,
            "frame": f.frame,
        }
        for f in CONTRACT.observation
    }
    pose = {
        "position": "observation.tool_pose[0:3]",
        "rotation": "observation.tool_pose[3:7]",
        "rotation_kind": "quat_xyzw",
    }
    values = mapping(observation=observation, action={"from": "action", "kind": "normalised"}, tool_pose=pose)
    values["images"] = {"front": "observation.images.front"}
    with pytest.raises(ConfigError, match="is no quat_xyzw: its length is"):
        bring(tmp_path / "theirs", {**values, "tool_pose": {**pose, "rotation": "observation.state[20:24]"}})
    episodes, _ = bring(tmp_path / "theirs", values)
    for found, wanted in zip(episodes, read_run(run), strict=True):
        assert found.steps == wanted.steps - 1 and found.success
        np.testing.assert_array_equal(found.observations, wanted.observations[:-1])
        np.testing.assert_array_equal(found.actions, wanted.actions[:-1])
        np.testing.assert_allclose(found.tool_pose, wanted.tool_pose[:-1], atol=1e-12)
        apart = np.abs(found.images["front"].astype(int) - wanted.images["front"][:-1]).mean()
        assert apart == 0.0 if frames == "png" else apart < 4.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebase_version": "v2.1"}, "v2.1.*convert it with lerobot's"),
        ({"data_path": "../{chunk_index}/x"}, "leads out of the folder"),
        ({"video_path": "/etc/{video_key}"}, "leads out of the folder"),
        ({"video_path": "{video_key.__class__}"}, "leads out of the folder, or is no template"),
        ({"fps": 0}, "a sound fps"),
        ({"features": None}, "a sound fps and features"),
    ],
)
def test_a_data_set_that_lies_is_refused(tmp_path, change, message):
    run = record_run(tmp_path / "own", [make(0)])
    export_run(run, tmp_path / "out", "lerobot")
    path = tmp_path / "out" / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        import_episodes(tmp_path / "out", tmp_path / "in")
    assert not (tmp_path / "in").exists()


def furniture_demo(path, steps=6, closing=True, success=True, **more):
    rng = np.random.default_rng(0)
    observations = [
        {
            "robot_state": {
                "ee_pos": rng.normal(size=3).astype(np.float32) * 0.01,
                "ee_quat": quats(1, step).as_quat()[0].astype(np.float32),
                "ee_pos_vel": rng.normal(size=3),
                "ee_ori_vel": rng.normal(size=3),
                "gripper_width": np.array([0.03]),
            },
            "near": rng.normal(size=20),
            "color_image1": pictures(1, step)[0].transpose(2, 0, 1),
        }
        for step in range(steps + closing)
    ]
    actions = [
        np.concatenate([rng.uniform(-0.01, 0.01, 3), quats(1, 9).as_quat()[0] * 0 + [0, 0, 0, 1], [1.0]])
    ] * steps
    value = {"observations": observations, "actions": actions, "rewards": [0.0] * steps, "success": success, **more}
    path.write_bytes(pickle.dumps(value))
    return path


def furniture_map():
    """For `furniture_demo`, into one_leg."""
    sizes = {f.name: f.size for f in GRIPPED.observation}
    known = {
        "tool_position_m": {"from": "robot_state/ee_pos"},
        "tool_rot6d": {"from": "robot_state/ee_quat", "rotation": "quat_xyzw"},
        "tool_twist": {"from": ["robot_state/ee_pos_vel", "robot_state/ee_ori_vel"]},
        "gripper_width_m": {"from": "robot_state/gripper_width"},
    }
    observation = {
        f.name: {"unit": f.unit, "frame": f.frame, **known.get(f.name, {"from": f"near[0:{sizes[f.name]}]"})}
        for f in GRIPPED.observation
    }
    action = {"from": "actions[0:3]", "kind": "delta_pose", "rotation": "actions[3:7]", "rotation_kind": "quat_xyzw"}
    action |= {"gripper": "actions[7]", "gripper_open": -1.0, "gripper_closed": 1.0}
    return {
        "contract": "one_leg_low",
        "observation": observation,
        "action": action,
        "images": {"front": "color_image1"},
    }


def test_furniture_bench_comes_in(tmp_path, bring):
    folder = tmp_path / "theirs"
    folder.mkdir()
    furniture_demo(folder / "2023-01-01.pkl")
    furniture_demo(folder / "2023-01-02.pkl", closing=False, success=False)
    assert detect(folder) == "furniture"
    (first, second), _ = bring(folder, furniture_map())
    assert (first.steps, second.steps, first.success, second.success) == (6, 5, True, False)
    assert first.actions[:, 6].tolist() == [1.0] * 6 and np.abs(first.actions[:, :3]).max() <= 0.5
    np.testing.assert_array_equal(first.images["front"][2], pictures(1, 2)[0])


def test_a_hostile_demonstration_runs_nothing(tmp_path, bring):
    class Attack:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path}/flag",)

    furniture_demo(tmp_path / "bad.pkl", skills=Attack())
    with pytest.raises(ConfigError, match="names 'posix.system'.*nothing was run"):
        bring(tmp_path / "bad.pkl", furniture_map())
    assert not (tmp_path / "flag").exists()
    for text in (b"", b"\x80\x04]."):
        (tmp_path / "bad.pkl").write_bytes(text)
        with pytest.raises(ConfigError, match="bad.pkl"):
            bring(tmp_path / "bad.pkl", furniture_map())


def test_a_format_that_is_not_known_is_named(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(ConfigError, match="of no format that is known; say which with --format"):
        detect(tmp_path / "x.zarr")
    with pytest.raises(ConfigError, match="there is no such file"):
        detect(tmp_path / "none")
