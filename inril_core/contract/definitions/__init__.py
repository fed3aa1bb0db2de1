"""What a task's contract is checked by and built from, one file per task."""

from inril_core.contract.definitions.base import Features, TaskDefinition, find_definition

__all__ = ["Features", "TaskDefinition", "find_definition"]
