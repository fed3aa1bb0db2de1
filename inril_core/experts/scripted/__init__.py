"""Scripted experts of contracts' tasks, one file per task."""
