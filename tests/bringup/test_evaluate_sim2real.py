"""Pins: `inril evaluate identify` and `sim2real` as a user calls them: exit codes, one-line errors, `--json`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.contract.definitions.physics import PhysicsValues
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.sim_to_real import identify
from inril_core.evaluation.sim_to_real.identify import Fit
from tests.bringup.test_evaluate_command import run
from tests.data.synthetic import Synthetic
from tests.evaluation.session.made import TASK, weights
from tests.finetune.test_learner_node import record


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
    monkeypatch.setattr(identify, "Replay", lambda *_: None)
    monkeypatch.setattr(identify, "fit", lambda *_: found)
    for number in range(3):
        record(tmp_path / "run", Synthetic(steps=8, episode_id=f"e{number}", seed=number))
    words = ("identify", tmp_path / "run", "--out", tmp_path / "twin.yaml")
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["values"]["action_delay_s"] == 0.06
    twin = load_contract(tmp_path / "twin.yaml")
    assert np.allclose(twin.sim.physics.joint_friction_nm, (2.6, 3.4))  # type: ignore[union-attr]
    assert run(*words) == 0
    assert "3 recordings" in capsys.readouterr().out


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
