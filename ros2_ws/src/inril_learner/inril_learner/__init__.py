"""The off-board learner: pulls episodes, trains, pushes weights."""
