"""One learner over several processes."""
