"""Reading contracts from YAML files and from the text that travels with artefacts."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inril_core.contract.schema import UNION_TAGS, Contract
from inril_core.errors import ConfigError
from inril_core.yaml_text import read_yaml

MAX_TEXT_BYTES = 1 << 20


def packaged_tasks() -> list[str]:
    """Names of the contracts that come with inril."""
    folder = resources.files("inril_core.contract") / "tasks"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_contract(name_or_path: str | Path) -> Contract:
    """Read a contract by the name of a packaged task (``one_leg:high`` is ``one_leg_high``) or by the path of a YAML
    file.

    Raises:
        ConfigError: the file is missing, unreadable or not a valid contract; names file, field and fix.
    """
    text_path = Path(name_or_path)
    if text_path.suffix not in (".yaml", ".yml"):
        name = str(name_or_path).replace(":", "_")
        if name not in packaged_tasks():
            raise ConfigError(
                f"contract = {str(name_or_path)!r}: neither a packaged task {packaged_tasks()} nor a .yaml file"
            )
        text_path = Path(str(resources.files("inril_core.contract") / "tasks" / f"{name}.yaml"))
    try:
        text = text_path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{text_path}: cannot be read ({error}); give the path of a contract file") from error
    return contract_from_text(text, source=str(text_path))


def contract_from_text(text: str, source: str = "contract text") -> Contract:
    """Parse and validate a contract.

    Raises:
        ConfigError: not YAML, or a field is missing, unknown or outside its range.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ConfigError(f"{source}: {len(text)} bytes, at most {MAX_TEXT_BYTES} are read")
    try:
        content: Any = read_yaml(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML ({error}); correct the syntax") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: a contract is a mapping of fields, this is a {type(content).__name__}")
    try:
        return Contract.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n{describe(error)}") from error


def describe(error: ValidationError) -> str:
    """One line per offending field: where, what is wrong, and the value given."""
    lines = []
    for issue in error.errors():
        field = ".".join(str(part) for part in issue["loc"] if part not in UNION_TAGS)
        fix = "remove it or fix its name" if issue["type"] == "extra_forbidden" else issue["msg"]
        given = "" if issue["type"] == "missing" else f" (given: {str(issue['input'])[:80]!r})"
        lines.append(f"  {field}: {fix}{given}")
    return "\n".join(lines)
