"""Pins: what a field means stands under the field, not in the docstring of its class and not in a comment behind it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("inril_core", "ros2_ws/src", "docs/examples") for path in (ROOT / folder).rglob("*.py")
)
EXAMPLE = re.compile(r"``[^`]*:[^`]*``")
"""Code that is quoted: its keys are no explanations."""
SECTIONS = {part: re.compile(rf"^{part}:\n(?:^(?:[ \t].*)?\n?)*", re.MULTILINE) for part in ("Args", "Raises")}
NO_MEANING = re.compile(r"#\s*(type:|noqa|pragma)")


def explained(docstring: str, names: list[str]) -> list[str]:
    """Those of ``names`` that a class docstring explains: ``name: ...``, ``name None: ...`` or a sentence that begins
    with the name as code and says what it is."""
    text = EXAMPLE.sub("", docstring)
    name = "|".join(map(re.escape, names))
    quoted = rf"`{{0,2}}(?:{name})`{{0,2}}"
    before_colon = re.findall(rf"(?<![\w.])({quoted}(?:(?:,| and) {quoted})*)(?: (?:None|True|False))?:(?!:)", text)
    sentences = re.findall(
        rf"(?:^|[.;:]\s+)(`{{1,2}}(?:{name})`{{1,2}}(?: and `{{1,2}}(?:{name})`{{1,2}})*) [a-z]", text
    )
    return [found for group in before_colon + sentences for found in re.findall(r"\w+", group) if found in names]


def misplaced(source: str) -> Iterator[str]:
    """A line for each field of a source file whose meaning stands somewhere else than under it."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        fields = {s.target.id: s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
        docstring = SECTIONS["Raises"].sub("", ast.get_docstring(node) or "")
        if any(isinstance(s, ast.FunctionDef) and s.name == "__init__" for s in node.body):
            docstring = SECTIONS["Args"].sub("", docstring)
        for name in explained(docstring, list(fields)) if fields else ():
            yield f"{node.lineno}: {node.name} explains {name} in its docstring"
        for name, field in fields.items():
            behind = lines[field.end_lineno - 1][field.end_col_offset :]
            if "#" in behind and not NO_MEANING.search(behind):
                yield f"{field.end_lineno}: {node.name} explains {name} behind it"


@pytest.mark.parametrize("folder", ["inril_core", "ros2_ws/src", "docs/examples"])
def test_a_fields_meaning_stands_under_the_field(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        if path.is_relative_to(ROOT / folder)
        for line in misplaced(path.read_text())
    ]
    assert not found, "move the meaning into a docstring under the field:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "A thing. size: in m.",
        "A thing.\n\n    size: in m.\n    ",
        "A thing. `size` is in m.",
        "A thing.\n\n    ``size`` and ``mass`` are in SI units.\n    ",
        "A thing. mass, size: in SI units.",
        "A thing. size None: not known.",
        "A thing.\n\n    Args:\n        size: in m.\n    ",
    ],
)
def test_a_meaning_in_the_docstring_of_the_class_is_found(text: str) -> None:
    source = f'class Thing:\n    """{text}"""\n\n    size: float\n    mass: float = 1.0\n'
    assert any("size" in line for line in misplaced(source))


def test_a_comment_behind_a_field_is_found() -> None:
    assert list(misplaced("class Thing:\n    size: float  # m\n")) == ["2: Thing explains size behind it"]


def test_a_meaning_under_the_field_an_example_and_arguments_of_a_constructor_are_not_found() -> None:
    source = '''
class Thing:
    """A thing of some size, given as ``things: {A: {size: 1.0}}``.

    Args:
        size: in m.
    """

    size: float
    """In m."""
    other: int  # type: ignore[assignment]

    def __init__(self, size: float) -> None:
        self.size = size
'''
    assert not list(misplaced(source))
