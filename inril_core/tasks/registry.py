"""From a name to a task."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from inril_core.contract import load_contract
from inril_core.contract.load import packaged_tasks
from inril_core.errors import ConfigError
from inril_core.tasks.base import Task

# family -> "module:function"; the function takes what follows the first colon of the name. Imported when asked for,
# because the heavy ones need an extra.
_FAMILIES: dict[str, str] = {
    "gym": "inril_core.tasks.gymnasium_task:make",
    "robosuite": "inril_core.tasks.robosuite_task:make",
}
_CELLS = ("insert_leg", "one_leg")
_USUAL = {"one_leg": "one_leg_low"}  # variant of a task named without one


def task_names() -> list[str]:
    """How tasks are named, for people."""
    return [*packaged_tasks(), "a contract's .yaml", "gym:ENVIRONMENT[:sparse]", "robosuite:TASK"]


def make_task(name: str) -> Task:
    """The task called ``name``: a packaged contract's (a variant may follow a colon, ``one_leg:high``), a contract
    file's, or FAMILY:NAME of another simulator.

    Raises:
        ConfigError: no such task, or the extra it needs is not installed.
    """
    family, _, rest = name.partition(":")
    if family in _FAMILIES:
        module, _, function = _FAMILIES[family].partition(":")
        build: Callable[[str], Task] = getattr(import_module(module), function)
        return build(rest)
    if family in _CELLS or name in packaged_tasks() or Path(name).suffix in (".yaml", ".yml"):
        from inril_core.sim.env import CellEnv  # it imports this package

        return CellEnv(load_contract(_USUAL.get(name, name)))
    raise ConfigError(f"task {name!r}: must be one of {', '.join(task_names())}")
