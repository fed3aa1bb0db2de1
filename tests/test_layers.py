"""Pins: the layers that docs/architecture.md draws. inril_core must stay usable without ROS, light where a robot runs
it, and free of circles. The table in that page is the one place where the map is written; it is read here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "inril_core"
CORE = sorted((ROOT / PACKAGE).rglob("*.py"))
PAGE = ROOT / "docs" / "architecture.md"
HEAD = "| package of inril_core | holds | may import |"
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python"} | {
    path.parent.name for path in (ROOT / "ros2_ws" / "src").glob("*/package.xml")
}


def imported_roots(path: Path) -> set[str]:
    """Top-level names that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def modules_of(root: Path) -> dict[str, ast.Module]:
    """Parsed files below ``root/inril_core`` by the module's name without the package; the package itself is ``""``."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text(), str(path))
    return found


def statements(node: ast.AST, types_too: bool) -> Iterator[ast.AST]:
    """All nodes below; without ``types_too`` nothing below ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if types_too or not is_typing:
            yield child
            yield from statements(child, types_too)


def imports_of(tree: ast.Module, modules: Mapping[str, ast.Module], types_too: bool) -> set[str]:
    """Modules of inril_core that a file imports, wherever in its code."""
    found = set()
    for node in statements(tree, types_too):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            # `from package import name`: the module of that name, else the package
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix(f"{PACKAGE}.") in modules else str(node.module) for name in names]
        else:
            continue
        found |= {name.removeprefix(PACKAGE).lstrip(".") for name in names if name.split(".")[0] == PACKAGE}
    return found


def read_map(text: str) -> dict[str, set[str]]:
    """The table: what each package (or module) may import besides itself, in the order of the rows."""
    _, head, table = text.partition(HEAD)
    assert head, f"{PAGE} has no table {HEAD}"
    allowed: dict[str, set[str]] = {}
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        names, _, may = line.strip("|").split("|")
        known = set(allowed)
        imports = set(re.findall(r"`([a-z_.]+)`", may))
        assert imports <= known, f"{names}: {sorted(imports - known)} stand in no row above"
        for name in re.findall(r"`([a-z_.]+)`", names):
            assert name not in allowed, f"{name} stands there twice"
            allowed[name] = imports
    return allowed


def layer_of(module: str, layers: Mapping[str, set[str]]) -> str | None:
    """The longest name in the table that the module is or lies in."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in layers:
            return ".".join(parts[:end])
    return None


def wrong_imports(root: Path, text: str) -> list[str]:
    """Each import that the table does not allow, and each module that stands nowhere in it."""
    modules, layers = modules_of(root), read_map(text)
    wrong = []
    for name, tree in modules.items():
        layer = layer_of(name, layers)
        if name and layer is None:
            wrong.append(f"{name} is in no row")
            continue
        for other in imports_of(tree, modules, types_too=True):
            target = layer_of(other, layers)
            if other and target != layer and (layer is None or target not in layers[layer]):
                wrong.append(f"{name} imports {other}: {layer} may not import {target}")
    return sorted(wrong)


def circle(root: Path) -> list[str]:
    """Modules that import each other in a circle when they run; empty: none do."""
    modules = modules_of(root)
    edges = {name: imports_of(tree, modules, types_too=False) - {name, ""} for name, tree in modules.items()}
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            found = search(other, [*way, name])
            if found:
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := search(name, []))), [])


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_no_ros(path: Path) -> None:
    names = imported_roots(path)
    assert not names & ROS
    assert not {name for name in names if name.endswith("_msgs")}


def test_packages_import_only_what_the_page_allows() -> None:
    assert wrong_imports(ROOT, PAGE.read_text()) == []


def test_no_module_imports_itself_by_others() -> None:
    assert circle(ROOT) == []


def test_an_import_that_is_turned_round_is_found(tmp_path: Path) -> None:
    """A small core: below imports above, lazily; then above imports below, as it may; then both."""
    for name, text in (("__init__", ""), ("low", "def f():\n    from inril_core.high import g\n"), ("high", "")):
        (tmp_path / PACKAGE).mkdir(exist_ok=True)
        (tmp_path / PACKAGE / f"{name}.py").write_text(text)
    page = f"{HEAD}\n|---|---|---|\n| `low` | x | |\n| `high` | x | `low` |\n"
    assert wrong_imports(tmp_path, page) == ["low imports high: low may not import high"]
    (tmp_path / PACKAGE / "high.py").write_text("if True:\n    import inril_core.low\n")
    assert circle(tmp_path) == ["high", "low", "high"]
    (tmp_path / PACKAGE / "low.py").write_text("")
    assert wrong_imports(tmp_path, page) == [] and circle(tmp_path) == []
    (tmp_path / PACKAGE / "other.py").write_text("")
    assert wrong_imports(tmp_path, page) == ["other is in no row"]
    with pytest.raises(AssertionError, match="no row above"):
        read_map(f"{HEAD}\n|---|---|---|\n| `low` | x | `high` |\n| `high` | x | |\n")


def test_robot_side_modules_do_not_load_torch() -> None:
    code = (
        "import sys, inril_core.contract, inril_core.control.observation, inril_core.safety.arbiter, "
        "inril_core.data.reader, inril_core.session.ledger, inril_core.teleop.scripted, inril_core.hardware.driver; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_no_pickle_anywhere() -> None:
    for path in [*CORE, *sorted((ROOT / "ros2_ws" / "src").rglob("*.py"))]:
        assert "pickle" not in imported_roots(path), path
        assert "torch.load(" not in path.read_text(), path


def test_the_files_that_the_page_names_for_behaviours_are_there() -> None:
    """Pins: a table of behaviours that points to a file which was moved or removed."""
    named = re.findall(r"^\| [^|]+ \| `([^`]+\.py)` \|$", PAGE.read_text(), re.MULTILINE)
    assert len(named) >= 20 and [name for name in named if not (ROOT / name).is_file()] == []
