"""How many RL updates make good what imitation costs RL: an adaptive m. Our choice, from the descent lemma.

It is not IN-RIL's Theorem 1, whose formula is not public and whose m(t) was never run. With rho = -cos(g_IL, g_RL) the
conflict of the gradients, L the smoothness of the RL loss, and steps of length a_IL |s_IL| and a_RL |s_RL|, an IL step
raises the RL loss by about a_IL rho |s_IL| |g_RL| + L/2 a_IL^2 |s_IL|^2 and an RL step lowers it by
a_RL <s_RL, g_RL> - L/2 a_RL^2 |s_RL|^2. RL makes net progress if m such falls outweigh the rise. For plain gradient
steps that is

    m >= [a_IL rho |g_IL| |g_RL| + L/2 a_IL^2 |g_IL|^2] / [a_RL (1 - L/2 a_RL) |g_RL|^2]:

more conflict, more RL; agreement, less. Here s are the preconditioned steps before any projection, which would hide the
conflict.
"""

import math

import torch
from torch import Tensor

_DECAY = 0.9  # per insertion: a single minibatch's angle says little


def required_ratio(rise: float, fall: float, low: int, high: int) -> int:
    """The smallest whole m in [``low``, ``high``] with m * fall >= rise; ``high`` if RL makes no progress at all."""
    if rise <= 0.0:
        return low
    if fall <= 0.0 or rise >= high * fall:
        return high
    return max(low, math.ceil(rise / fall))


class AdaptiveRatio:
    """m from the running means of the rise per insertion and the fall per RL update.

    Args:
        low, high: limits of m; it starts at ``low``.
    """

    def __init__(self, low: int, high: int, decay: float = _DECAY) -> None:
        self.low, self.high, self._decay = low, high, decay
        self._means = torch.zeros(3, dtype=torch.float64)  # rise, fall, and the weight of both

    @property
    def m(self) -> int:
        """RL updates until the next insertion."""
        rise, fall, weight = self._means.tolist()
        return required_ratio(rise, fall, self.low, self.high) if weight > 0.0 else self.low

    def measured(self, rise: float, fall: float) -> None:
        """Take in what an insertion would have cost RL, and what an RL update brings it."""
        self._means.mul_(self._decay).add_((1.0 - self._decay) * torch.tensor([rise, fall, 1.0], dtype=torch.float64))

    def state(self) -> Tensor:
        """What `load` needs."""
        return self._means.clone()

    def load(self, state: Tensor) -> None:
        """Continue from what `state` returned."""
        self._means.copy_(state)
