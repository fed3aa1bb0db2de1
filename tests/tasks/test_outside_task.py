"""Pins: a task outside the package brings features, success rule, scene and expert, by a name in its contract; and the
names of tasks are read in one order, without a doubt."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from inril_core import plugins
from inril_core.contract import load_contract
from inril_core.contract.load import packaged_tasks
from inril_core.errors import ConfigError
from inril_core.experts import ExpertConfig, make_expert
from inril_core.sim.render import EpisodeRenderer
from inril_core.tasks import make_task
from tests.tasks import outside_peg

HERE = "tests.tasks.outside_peg"


def peg_contract(folder: Path, **changes: object) -> Path:
    """A contract of the task outside, from insert_leg's."""
    content = yaml.safe_load(
        (Path(str(load_contract.__globals__["__file__"])).parent / "tasks/insert_leg.yaml").read_text()
    )
    content |= {
        "task": "peg",
        "definition": f"{HERE}:PEG",
        "observation": [{"name": "peg_m", "shape": [3], "unit": "m", "frame": "hole"}],
        "images": [],
        "success": {"near_m": 0.01},
        **changes,
    }
    path = folder / "peg.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_task_of_ones_own_runs_by_its_contract_alone(tmp_path: Path) -> None:
    path = peg_contract(tmp_path)
    task = make_task(str(path))
    assert task.interface.task == "peg" and task.interface.observation_size == 3
    expert = make_expert(ExpertConfig(noise=0.05), task)
    observation, step = task.reset(1), None
    expert.reset(1)
    while step is None or not step.ended:
        observation, step = task.step(expert.act(observation))
    assert step.success and step.terminated and step.reason == "near" and step.reward == 1.0
    again = load_contract(path)
    assert again.task_definition is outside_peg.PEG and type(again.success) is outside_peg.Success
    EpisodeRenderer(again).close()


def test_its_settings_are_checked_like_the_packages_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"success\.near_m"):
        load_contract(peg_contract(tmp_path, success={"near_m": "far"}))
    with pytest.raises(ConfigError, match=r"success\.depth_m"):
        load_contract(peg_contract(tmp_path, success={"near_m": 0.01, "depth_m": 0.1}))
    with pytest.raises(ConfigError, match="definition.*cannot be imported"):
        load_contract(peg_contract(tmp_path, definition="no_such_lab.peg:PEG"))
    with pytest.raises(ConfigError, match="definition.*TaskDefinition"):
        load_contract(peg_contract(tmp_path, definition=f"{HERE}:PegScene"))
    with pytest.raises(ConfigError, match="definition"):
        load_contract(peg_contract(tmp_path, definition=None))


def test_a_definition_installed_under_the_tasks_name_needs_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("peg", f"{HERE}:PEG", "inril.definitions")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "inril.definitions" else [])
    assert load_contract(peg_contract(tmp_path, definition=None)).task_definition is outside_peg.PEG


def test_names_are_read_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_task(f"{HERE}:make").interface.task == "count:"
    assert make_task(f"{HERE}:make:hard:er").interface.task == "count:hard:er"
    assert make_task("cell:insert_leg").interface == make_task("insert_leg").interface == load_contract("insert_leg")
    points = [EntryPoint(name, f"{HERE}:make", "inril.tasks") for name in ("count", "insert_leg", "gym")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "inril.tasks" else [])
    assert make_task("count:a").interface.task == "count:a"
    assert make_task("insert_leg").interface.task == "insert_leg", "what is packaged comes first"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("insert_lge", "insert_leg"),
        ("insert_leg:hard", "must be one of"),
        ("nowhere:make", "cannot be imported"),
        (f"{HERE}:nothing", "cannot be imported"),
        (f"{HERE}:PEG", "not a function"),
        (f"{HERE}:broken:x", "has no interface"),
        ("cell:nowhere", "insert_leg"),
        ("", "must be one of"),
    ],
)
def test_mistakes_are_named(name: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_task(name)


def test_no_packaged_task_hides_a_family() -> None:
    assert not {"gym", "robosuite", "cell"} & set(packaged_tasks())
