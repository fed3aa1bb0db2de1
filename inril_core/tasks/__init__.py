"""Tasks that run in this process, by name: the simulated cell, and simulators others have made."""

from inril_core.tasks.base import Demonstrator, Interface, Outcome, Task
from inril_core.tasks.registry import make_task, task_names

__all__ = ["Demonstrator", "Interface", "Outcome", "Task", "make_task", "task_names"]
