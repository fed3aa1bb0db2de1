"""Pins: a vendor's driver from a sourced overlay, or an executable of another language, that cannot be in a graph."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from inril_bringup.check import check
from inril_bringup.environment import CALLER, child_environment, remembered_paths
from inril_bringup.graph import ResolvedGraph, load_graph
from inril_bringup.programs import programs_of
from inril_bringup.supervisor import Supervisor

from inril_core.errors import ConfigError

DRIVER = f"""#!{sys.executable} -S
import json, os, sys
sys.path += os.environ.get("PYTHONPATH", "").split(":")
import vendor_sdk
print(json.dumps([vendor_sdk.NAME, sys.argv[1:], os.environ["AMENT_PREFIX_PATH"]]), flush=True)
"""


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed workspace with a package of an executable and a Python module, sourced in this shell."""
    prefix = tmp_path / "ws" / "install"
    program = prefix / "lib" / "my_driver" / "robot_node"
    program.parent.mkdir(parents=True)
    program.write_text(DRIVER)
    program.chmod(0o755)
    site = prefix / "lib" / "python" / "site-packages"
    site.mkdir(parents=True)
    (site / "vendor_sdk.py").write_text("NAME = 'vendor'\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("PYTHONPATH", str(site))
    remembered = remembered_paths(os.environ)
    for name, value in child_environment(os.environ).items():  # as `inril` itself leaves the overlay
        monkeypatch.setenv(name, value)
    assert os.environ["PYTHONPATH"] == ""
    monkeypatch.setenv(CALLER, remembered)
    return prefix


def graph(folder: Path, **settings: object) -> ResolvedGraph:
    node = {
        "lifecycle": False,
        "required": True,
        "ends_graph": True,
        "parameters": {"graph": "${graph_id}"},
        **settings,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"description": "mine", "nodes": ["arm"], "define": {"nodes": {"arm": node}}}))
    return load_graph(path).resolve({"run_dir": str(folder / "run"), "namespace": "left"}).started_as("run.1", "")


def test_a_driver_of_a_sourced_overlay_is_supervised_in_the_environment_of_the_shell(
    tmp_path: Path, overlay: Path
) -> None:
    mine = graph(tmp_path, command=["ros2", "run", "my_driver", "robot_node", "--ip", "x"], environment="inherit")
    check(mine)
    assert asyncio.run(Supervisor(programs_of(mine), tmp_path / "run", out=io.StringIO()).run()) == 0
    name, words, prefixes = json.loads((tmp_path / "run" / "logs" / "arm.log").read_text())
    assert (name, prefixes) == ("vendor", str(overlay))
    assert words[:2] == ["--ip", "x"] and "__node:=arm" in words and "__ns:=/left" in words
    parameters = yaml.safe_load(Path(words[words.index("--params-file") + 1]).read_text())
    assert parameters["/**/arm"]["ros__parameters"] == {"graph": "run.1"}


def test_any_executable_may_be_a_node(tmp_path: Path) -> None:
    """As a C++ program with its path."""
    (program,) = programs_of(graph(tmp_path, command=["/bin/true"]))
    assert program.command[:2] == ("/bin/true", "--ros-args")
    assert program.environment is not None and CALLER not in program.environment


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"package": "my_driver", "executable": "robot_node"}, r"command: \[ros2, run, my_driver, robot_node\]"),
        (
            {"command": ["ros2", "run", "my_driver", "robot_nod"], "environment": "inherit"},
            "lib/my_driver/robot_nod in /",
        ),
        ({"command": ["ros2", "run", "my_driver", "robot_node"]}, "environment: inherit"),
        ({"command": ["no_such_program"], "environment": "inherit"}, "no executable no_such_program"),
    ],
)
def test_a_program_that_is_not_there_is_named_before_anything_starts(
    tmp_path: Path, overlay: Path, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        check(graph(tmp_path, **settings))
    assert not (tmp_path / "run").exists()
