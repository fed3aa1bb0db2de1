"""What a task's contract is checked by and built from, one file per task."""

from inril_core.contract.definitions.base import CellSettings, Features, PartNoise, TaskDefinition, find_definition

__all__ = ["CellSettings", "Features", "PartNoise", "TaskDefinition", "find_definition"]
