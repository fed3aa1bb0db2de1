"""The simulated cell: physics, pictures, a scripted expert and an in-process environment."""
