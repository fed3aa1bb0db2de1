"""Arms and cameras, found by name: the simulated ones, and those of an outside package."""
