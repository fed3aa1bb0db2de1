"""Tasks that run in this process, by name: the simulated cell, and simulators others have made."""

from inril_core.tasks.base import Task, TaskStep
from inril_core.tasks.registry import make_task, task_names

__all__ = ["Task", "TaskStep", "make_task", "task_names"]
