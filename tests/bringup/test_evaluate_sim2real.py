"""Pins: `inril evaluate identify` and `sim2real` as a user calls them: exit codes, one-line errors, `--json`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inril_common.convert import array_to_pose
from inril_msgs.msg import Observation

from inril_core.contract import load_contract
from inril_core.contract.definitions.physics import CameraOffset, PhysicsValues
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.sim_to_real import identify
from inril_core.evaluation.sim_to_real.identify import Fit
from inril_core.evaluation.sim_to_real.study import displaced
from inril_core.tasks.families.cell import CellEnv
from tests.bringup.test_evaluate_command import run
from tests.data.synthetic import Synthetic
from tests.evaluation.session.made import TASK, weights
from tests.finetune.test_learner_node import record

FRONT = CameraOffset((0.008, 0.0, -0.004), (0.0, 0.0175, 0.005))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("identify", "{}/nothing", "--out", "{}/t.yaml"), "holds no recordings"),
        (("identify", "{}/nothing", "--out", "{}/t.json"), "must end with .yaml"),
        (("identify", "{}/nothing"), "--out"),
        (("identify", "{}/nothing", "--out", "{}/t.yaml", "--count", 0), "--count = 0"),
        (("identify", "{}/nothing", "--out", "{}/t.yaml", "--steps", -1), "--steps = -1"),
        (("identify", "{}/nothing", "--out", "{}/t.yaml", "--steps", "nan"), "--steps"),
        (("identify", "{}/nothing", "--out", "{}/t.yaml", "--contract", "nowhere"), "nowhere"),
        (("identify", "{}/nothing", "--out", "{}/t.yaml", "--parameter", "mass_kg"), "gain_scale, camera_pose"),
        (("identify", "{}/run", "--out", "{}/t.yaml"), "0 usable recordings; 3 or more"),
        (("sim2real", "{}/a", "{}/b"), "{}/a"),
        (("sim2real", "{}/a"), "SIM_DIR"),
    ],
)
def test_bad_input_is_named_and_exit_code_2(
    words: tuple[object, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "run", Synthetic(steps=8, episode_id="far-from-its-start", seed=3))
    assert run(*(str(word).format(tmp_path) for word in words)) == 2
    said = capsys.readouterr()
    assert said.out == "" and text.format(tmp_path) in said.err.splitlines()[-1]
    assert not (tmp_path / "t.yaml").exists()


@pytest.mark.parametrize("action", ["identify", "sim2real", "plan", "report", "gate", "stats", "power", "run"])
def test_help_ends_well(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(action, "--help") == 0
    assert f"evaluate {action}" in capsys.readouterr().out


def test_identify_writes_a_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replay and fit have tests of their own; here what the command does with them."""
    found = Fit(PhysicsValues(0.06, 3.0, 0.8), PhysicsValues(0.001, 0.2, 0.01), 0.004, 0.0003, 3, 24)
    monkeypatch.setattr(identify, "Replay", lambda *_: SimpleNamespace(states=lambda _: [np.zeros((0, 16))] * 3))
    monkeypatch.setattr(identify, "fit", lambda *_: found)
    for number in range(3):
        record(tmp_path / "run", Synthetic(steps=8, episode_id=f"e{number}", seed=number))
    words = ("identify", tmp_path / "run", "--out", tmp_path / "twin.yaml")
    assert run(*words, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["values"]["action_delay_s"] == 0.06 and said["cameras"] == {}
    twin = load_contract(tmp_path / "twin.yaml")
    assert np.allclose(twin.sim.physics.joint_friction_nm, (2.6, 3.4))  # type: ignore[union-attr]
    assert run(*words) == 0
    assert "3 recordings" in capsys.readouterr().out


class Seen(Synthetic):
    """An episode of the simulated cell with images of its camera `front`, as the graph records it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        reality = displaced(load_contract("insert_leg"), PhysicsValues(), {"front": FRONT})
        env, rng = CellEnv(reality), np.random.default_rng(self.seed)
        env.reset(self.seed, self.purpose)
        states, images = [env.state], [env.cell.render("front", 84, 84)]
        for action in self.arrays["actions"]:
            env.step(action)
            states.append(env.state)
            images.append(env.cell.render("front", 84, 84))
        env.close()
        noisy = np.array(images) + rng.normal(0.0, 3.0, (len(images), 84, 84, 3))
        self.arrays["images"] = noisy.clip(0, 255).astype(np.uint8)
        self.arrays["qpos"] = np.array([state.qpos for state in states])
        self.poses = [state.tool_pose for state in states]

    def observation(self, step: int) -> Observation:
        message = super().observation(step)
        message.tool_pose = array_to_pose(self.poses[step])
        return message


def test_identify_finds_a_camera_in_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        record(tmp_path / "run", Seen(steps=6, episode_id=f"e{seed}", seed=seed, purpose="eval", images=True))
    words = ("identify", tmp_path / "run", "--out", tmp_path / "twin.yaml", "--parameter", "camera_pose")
    assert run(*words, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["values"] is said["errors"] is said["rms_m"] is None
    front = said["cameras"]["front"]
    for what, least in (("offset_m", 0.003), ("rotation_rad", 0.006)):
        off, error = np.subtract(front["values"][what], getattr(FRONT, what)), np.array(front["errors"][what])
        assert (np.abs(off) < np.maximum(4 * error, least)).all() and (error > 0).all(), (what, off, error)
    assert front["rms"] < 0.5 * front["rms_before"] and front["images_n"] == 9
    ranges = load_contract(tmp_path / "twin.yaml").sim.physics.cameras["front"]  # type: ignore[union-attr]
    assert np.allclose(np.mean(ranges.offset_m, axis=1), front["values"]["offset_m"])
    assert run(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" +-")[0].rsplit(maxsplit=1)[0] for line in lines[:6]] == [
        f"camera front {what} {axis}" for what in ("offset", "rotation") for axis in "xyz"
    ]
    assert "9 images of camera front" in lines[6]


def test_a_covered_lens_is_said_and_is_no_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        made = Seen(steps=4, episode_id=f"e{seed}", seed=seed, purpose="eval", images=True)
        made.arrays["images"] = np.full_like(made.arrays["images"], 7)
        record(tmp_path / "run", made)
    words = ("identify", tmp_path / "run", "--out", tmp_path / "twin.yaml", "--parameter", "camera_pose")
    assert run(*words, "--json") == 0
    assert "are flat" in json.loads(capsys.readouterr().out)["cameras"]["front"]["refused"]
    assert run(*words) == 0
    assert capsys.readouterr().out.startswith("camera front: not found, the images are flat")
    assert "cameras" not in load_contract(tmp_path / "twin.yaml").text


def test_sim2real_compares_two_unsealed_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = weights(tmp_path / "raw.inril")
    folders = [tmp_path / name for name in ("real", "simulated")]
    for folder in folders:
        policies = ("--policy", "good=expert", "--policy", f"raw={raw}", "--control", "raw")
        assert run("plan", folder, "--task", TASK, *policies, "--difference", 0.3, "--starts", "full:12") == 0
        run_locally(SessionFolder(folder), lambda line: None)
    assert run("sim2real", *folders) == 2
    assert "is blind" in capsys.readouterr().err
    for folder in folders:
        assert run("unseal", folder) == 0
    capsys.readouterr()
    assert run("sim2real", *folders, "--json", "--out", tmp_path / "out") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ranked_alike"] and {p["same_n"] for p in said["policies"]} == {12}
    assert run("sim2real", *folders) == 0
    assert "policies are ranked alike" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"comparison.md", "comparison.json", "comparison.png"}
