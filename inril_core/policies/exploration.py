"""Where exploration noise comes from."""

import numpy as np

_SALT = 0x1E4F  # so that the noise is not the numbers the cell's reset draws from the same seed


def exploration_rng(seed: int, step: int) -> np.random.Generator:
    """The noise source for one step of an episode.

    It depends on the episode's seed and the step alone, so a policy that is restarted in mid-episode, or that
    answers a step twice, draws the same noise.
    """
    return np.random.default_rng((_SALT, seed, step))
