"""Scenes of the simulated cell, one file per task."""
