"""From a name to a task."""

from __future__ import annotations

from pathlib import Path

from inril_core.contract.load import packaged_tasks
from inril_core.errors import ConfigError
from inril_core.tasks.base import KIND, Task

_PARTS = ("interface", "episode_length_steps", "success_ends", "reset", "step", "expert", "close")
"""Of a `Task`."""

_USUAL = {"one_leg": "one_leg_low"}  # variant of a packaged task that is named without one


def task_names() -> list[str]:
    """How tasks are named, for people."""
    others = [f"{family}:NAME" for family in KIND.known() if family != "cell"]
    return [*packaged_tasks(), "a contract's .yaml", *others, "MODULE:FUNCTION[:NAME] of your own"]


def make_task(name: str) -> Task:
    """The task called ``name``, read in this order:

    1. a packaged contract (a variant may follow a colon, ``one_leg:high``) or the path of a contract's YAML file: the
       simulated cell, also called ``cell:NAME``;
    2. ``FAMILY:NAME`` where FAMILY is a file of `inril_core.tasks.families` or an entry point ``inril.tasks``;
    3. ``MODULE:FUNCTION`` or ``MODULE:FUNCTION:NAME``: a family that is not installed under a name. A module called
       as a family or a packaged contract is reached by an entry point.

    Raises:
        ConfigError: no such task, or what it needs is not installed.
    """
    plain = _USUAL.get(name, name.replace(":", "_"))
    if plain in packaged_tasks() or Path(name).suffix in (".yaml", ".yml"):
        return _made("cell", name if Path(name).suffix else plain, name)
    family, colon, rest = name.partition(":")
    if family in KIND.known():
        return _made(family, rest, name)
    if not colon or any(known == family or known.startswith(f"{family}_") for known in packaged_tasks()):
        raise ConfigError(f"task {name!r}: must be one of {', '.join(task_names())}")
    function, _, rest = rest.partition(":")
    return _made(f"{family}:{function}", rest, name)


def _made(family: str, rest: str, name: str) -> Task:
    build = KIND.find(family, f"task {name!r}, family")
    if not callable(build):
        raise ConfigError(f"task {name!r}: {family} is not a function make(rest: str) -> Task")
    task = build(rest)
    lacking = [part for part in _PARTS if not hasattr(task, part)]
    if lacking:
        raise ConfigError(f"task {name!r}: what {family} makes has no {', '.join(lacking)}; see inril_core.tasks.Task")
    made: Task = task
    return made
