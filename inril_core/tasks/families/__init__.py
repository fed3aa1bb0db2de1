"""Families of tasks, one file each: `make` builds the task from what follows the family's name."""
