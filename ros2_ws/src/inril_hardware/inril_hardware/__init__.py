"""What stands between the graph and an arm: the simulated cell."""
