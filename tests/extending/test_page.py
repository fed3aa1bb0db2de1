"""Pins: the page shows the files that the tests run, and docs/architecture.md names files that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
HEAD = "| behaviour | file |"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_every_file_as_it_is() -> None:
    page = load(ROOT / "docs" / "examples" / "update_page.py")
    text = page.PAGE.read_text()
    assert page.filled(text) == text, "run: python docs/examples/update_page.py"
    files = {str(path.relative_to(page.EXAMPLE)) for suffix in ("py", "yaml", "toml") for path in _files(page, suffix)}
    assert files - {"peg_lab/__init__.py"} == set(page.shown(text))


def _files(page: ModuleType, suffix: str) -> list[Path]:
    return [path for path in page.EXAMPLE.rglob(f"*.{suffix}") if "build" not in path.parts]


def test_the_page_names_contracts_that_exist() -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    paths = set(re.findall(r"`(inril_core/[\w/]+\.py)`", text))
    assert len(paths) >= 6
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_twenty_behaviours_live_where_the_table_says() -> None:
    _, head, rest = (ROOT / "docs" / "architecture.md").read_text().partition(HEAD)
    assert head
    rows = [line for line in rest.split("\n\n")[0].splitlines() if line.startswith("| ")]
    paths = [re.findall(r"`([\w./]+)`", row.split("|")[2]) for row in rows]
    assert len(rows) >= 20 and all(len(found) == 1 for found in paths), rows
    assert [path for (path,) in paths if not (ROOT / path).is_file()] == []
