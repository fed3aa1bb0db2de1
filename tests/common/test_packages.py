"""Pins: a package that cannot be installed alone, because its package.xml does not name what its code imports."""

from __future__ import annotations

import ast
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGES = sorted(path.parent for path in (Path(__file__).parents[2] / "ros2_ws" / "src").glob("*/setup.py"))
ROSDEP_KEYS = {
    "PIL": "python3-pil",
    "av": "python3-av",
    "cv2": "python3-opencv",
    "mcap": "mcap-ros2-support",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "psutil": "python3-psutil",
    "rich": "python3-rich",
    "scipy": "python3-scipy",
    "torch": "python3-pytorch-pip",
    "yaml": "python3-yaml",
}
"""Of Python modules that are no ROS packages. `inril_core` and what has no key comes by pip (constraints.txt)."""
BY_PIP = {"inril_core", "pydantic", "jinja2"}


def imported(paths: Iterable[Path]) -> set[str]:
    """Top-level names of everything that is imported, also inside functions, outside the standard library."""
    names: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


def declared(package: Path) -> set[str]:
    """What the package.xml says that the package needs to run."""
    root = xml.parse(package / "package.xml").getroot()
    return {element.text or "" for tag in ("depend", "exec_depend") for element in root.findall(tag)}


def lacking(names: set[str], declared: set[str], own: str) -> set[str]:
    """Imported names that no declaration covers."""
    return {name for name in names - BY_PIP - {own} if ROSDEP_KEYS.get(name, name) not in declared}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_what_is_imported_is_declared(package: Path) -> None:
    names = imported((package / package.name).rglob("*.py"))
    missing = lacking(names, declared(package), package.name)
    assert not missing, f"{package.name}/package.xml: add <exec_depend> for {sorted(missing)}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_setup_and_package_xml_say_the_same(package: Path) -> None:
    root = xml.parse(package / "package.xml").getroot()
    called = next(n for n in ast.walk(ast.parse((package / "setup.py").read_text())) if isinstance(n, ast.Call))
    assert isinstance(called.func, ast.Name) and called.func.id == "setup"
    said = {k.arg: k.value.value for k in called.keywords if isinstance(k.value, ast.Constant)}
    assert root.findtext("name") == package.name
    assert said["version"] == root.findtext("version") and said["license"] == root.findtext("license")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_executable_is_a_module_of_the_package(package: Path) -> None:
    scripts = [
        line.strip().strip('",').split(" = ")[1]
        for line in (package / "setup.py").read_text().splitlines()
        if line.strip().startswith('"') and ":main" in line
    ]
    for script in scripts:
        module = script.split(":")[0]
        assert (package / (module.replace(".", "/") + ".py")).is_file(), script


def test_a_missing_declaration_is_found() -> None:
    assert lacking({"std_msgs", "numpy", "inril_core", "own"}, {"python3-numpy"}, "own") == {"std_msgs"}
