"""Tells success and progress from what the robot observes, as people labelled it."""
