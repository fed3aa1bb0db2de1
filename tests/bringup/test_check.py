"""Pins: a permanent refusal that is found out by nodes which die of it again and again."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import yaml
from inril_bringup.check import _check_demos, check
from inril_bringup.graph import load_graph

from inril_core.data.episode import check_episode_id
from inril_core.data.index import EpisodeIndex
from inril_core.errors import ConfigError
from inril_core.run import RunPaths, open_run
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.weights import Offer, load_or_create_key, write_pack
from inril_core.weights.store import WeightStore
from tests.data.recorded_run import record_demos
from tests.data.synthetic import CONTRACT

MANIFEST = {
    "run_id": "run",
    "n": 1,
    "parent": None,
    "interface_digest": "",
    "contract_text": "",
    "policy": {},
    "created_ns": 0,
}


def checked(graph: str, **arguments: object) -> None:
    check(load_graph(graph).resolve({name: str(value) for name, value in arguments.items()}))


def test_a_plan_that_the_folder_was_not_begun_with_is_refused(tmp_path: Path) -> None:
    """Pins eight deaths of the session; more of the same (`inril demos --count 5` after 3) is recorded."""
    ledger = Ledger(open_run(tmp_path).paths.session)
    ledger.append(
        EpisodeResult(0, "demo:3:episodes", 0, "e0", "demo", 1, 20, True, True, "cell", "", 3, 0, 70.0, 10.0, True)
    )
    for plan in ("demo:5:steps", "eval:3:episodes"):
        with pytest.raises(ConfigError, match="demo:3:episodes.*the plan it was begun with, or a new run_dir"):
            checked("collect_demos", run_dir=tmp_path, plan=plan)
    for plan in ("demo:5:episodes", "demo:3:episodes,demo:2:episodes"):
        checked("collect_demos", run_dir=tmp_path, plan=plan)


def test_demonstrations_are_a_run_folder_with_demonstrations(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    file.write_text("")
    for demos, told in ((file, "is a file"), (tmp_path, "no demonstrations in")):
        with pytest.raises(ConfigError, match=told):
            checked("finetune_learner", run_dir=tmp_path / "run", demos=demos, initial_weights=file)


def test_weights_are_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.inril"
    file.write_bytes(b"no policy")
    for weights, told in ((file, "holds no readable policy"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=told):
            checked("deploy", run_dir=tmp_path / "run", initial_weights=weights)


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a learner that is configured for a GPU and finds out after the demonstrations were read."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    preset = tmp_path / "gpu.yaml"
    preset.write_text("base: weighted_sum\nname: gpu\ncompute: {device: cuda}\n")
    with pytest.raises(ConfigError, match="finds no GPU.*device: cpu"):
        checked("finetune_learner", run_dir=tmp_path, demos=tmp_path, initial_weights=tmp_path, preset=preset)


def test_a_key_that_cannot_be_made_or_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins HOME read-only (a crash loop), and another key: the session blamed the recorder."""
    monkeypatch.setenv("INRIL_KEY", "/proc/none/weights.key")
    with pytest.raises(ConfigError, match="set INRIL_KEY"):
        checked("deploy", run_dir=tmp_path)
    monkeypatch.setenv("INRIL_KEY", str(tmp_path / "weights.key"))
    store = WeightStore(RunPaths(tmp_path).weights)
    path = tmp_path / "pack"
    size, digest = write_pack(path, {"w": np.zeros(1, np.float32)}, MANIFEST)
    kept = store.add(path, Offer.signed(load_or_create_key(tmp_path / "first.key"), "run", 1, size, digest))
    store.activate(kept.digest, pinned=False)
    with pytest.raises(ConfigError, match="the key that the run was begun with"):
        checked("deploy", run_dir=tmp_path)
    monkeypatch.setenv("INRIL_KEY", str(tmp_path / "first.key"))
    checked("deploy", run_dir=tmp_path)


@pytest.mark.parametrize("name", ["my demos", "läuft", "_old", "x" * 110, "名前", "...", "a\nb"])
def test_any_folder_name_gives_an_id_that_episodes_can_have(tmp_path: Path, name: str) -> None:
    """Pins a run in which every episode is refused seven times a second."""
    run = open_run(tmp_path / name)
    check_episode_id(f"{run.run_id}-0-train-00000-{'f' * 6}")
    assert len(run.run_id) <= 49 and open_run(tmp_path / name).run_id == run.run_id


def test_a_run_takes_the_id_it_is_given_once(tmp_path: Path) -> None:
    """Pins a learner on another host whose every push is refused as `unknown_run`."""
    assert open_run(tmp_path / "robot", "lab-7").run_id == open_run(tmp_path / "learner", "lab-7").run_id == "lab-7"
    with pytest.raises(ConfigError, match="is run 'lab-7', not 'lab-8'"):
        open_run(tmp_path / "robot", "lab-8")


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins `give a writable folder` for a virtual machine's shared folder."""

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert open_run(tmp_path / "run").run_id.startswith("run-")


def test_the_remedy_fits_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        open_run(tmp_path / "file")
    with pytest.raises(ConfigError, match="shorter name"):
        open_run(tmp_path / ("x" * 300))


def test_a_port_of_the_console_that_is_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"console_port = {port}: another program.*console_port:="):
            checked("collect_demos", run_dir=tmp_path, console="true", console_port=port)
        checked("collect_demos", run_dir=tmp_path, console_port=port)  # not asked for
    checked("collect_demos", run_dir=tmp_path, console="true", console_port=port)
    with pytest.raises(ConfigError, match="urdf = .*missing.urdf"):
        checked("collect_demos", run_dir=tmp_path, console="true", console_port=port, urdf="missing.urdf")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"device": "joy", "device_settings": "{mapping: nowhere.yaml}"}, "nowhere.yaml.*inril devices map"),
        ({"device": "gamepad", "device_settings": "{speed_mps: [1, 1, 1]}"}, "1.0 is above 0.1"),
        ({"device": "gamepad", "device_settings": "{frame: camera}"}, "camera_quat_xyzw"),
        ({"takeover": "toggle", "hand_back": "let_go"}, "let_go"),
        ({"device": "browser", "takeover": "toggle"}, "toggle.*'browser'.*leave takeover out"),
        ({"device": "pose", "takeover": "toggle"}, "toggle.*'pose'.*leave takeover out"),
        ({"device": "leader", "takeover": "toggle"}, "toggle.*'leader'.*leave takeover out"),
        ({"device": "browser", "hand_back": "let_go"}, "let_go.*'browser'.*leave hand_back out"),
    ],
)
def test_a_person_s_device_that_does_not_fit_is_named_before_anything_starts(
    tmp_path: Path, arguments: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        checked("collect_demos", run_dir=tmp_path, plan="demo:1:episodes", **arguments)


def test_a_device_without_a_person_is_for_simulated_cells_by_any_name(tmp_path: Path) -> None:
    """Pins: the scripted expert on a real arm, named by module and class."""
    arm = {"package": "inril_bringup", "executable": "probe", "lifecycle": False, "required": True}
    nodes = ["robot", "teleop_node", "lifecycle_manager"]
    path = tmp_path / "mine.yaml"

    def refused(told: str, parameters: dict[str, str], **arguments: str) -> None:
        graph = {"description": "mine", "nodes": nodes, "define": {"nodes": {"robot": arm}}}
        path.write_text(yaml.dump({**graph, "parameters": {"teleop_node": parameters}}))
        with pytest.raises(ConfigError, match=told):
            check(load_graph(path).resolve({"run_dir": str(tmp_path / "run"), **arguments}))

    alone = "acts without a person.*inril devices"
    refused(alone, {})  # it is the default of a graph with a simulated cell
    refused(alone, {}, device="inril_core.teleop.scripted:Config")
    refused(alone, {"device": "scripted"})
    refused("device", {}, device="''")


def test_demonstrations_that_are_damaged_or_dropped_are_not_all_of_them(tmp_path: Path) -> None:
    first, second, _ = record_demos(tmp_path, 3)
    folder = RunPaths(tmp_path).episodes
    (folder / f"{first}.mcap").write_bytes(b"torn")
    EpisodeIndex(folder).drop(second, "ada", 1)
    _check_demos(tmp_path, CONTRACT)
    for path in folder.glob("*.mcap"):
        path.write_bytes(b"torn")
    with pytest.raises(ConfigError, match="no demonstrations in.*torn|no demonstrations in.*mcap"):
        _check_demos(tmp_path, CONTRACT)
