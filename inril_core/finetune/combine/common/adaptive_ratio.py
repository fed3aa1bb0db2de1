"""How many RL updates make good what imitation costs RL: an adaptive m. Our choice, from the descent lemma.

It is not IN-RIL's Theorem 1, whose formula is not public and whose m(t) was never run. With rho = -cos(g_IL, g_RL) the
conflict of the gradients, L the smoothness of the RL loss, and steps of a_IL s_IL and a_RL s_RL, an IL step raises the
RL loss by about -a_IL <s_IL, g_RL> + L/2 a_IL^2 |s_IL|^2 and an RL step lowers it by a_RL <s_RL, g_RL> - L/2 a_RL^2
|s_RL|^2. RL makes net progress if m such falls outweigh the rise. For plain gradient steps that is

    m >= [a_IL rho |g_IL| |g_RL| + L/2 a_IL^2 |g_IL|^2] / [a_RL (1 - L/2 a_RL) |g_RL|^2]:

more conflict, more RL; agreement, less. Here s_IL is the preconditioned step before any projection, which would hide
the conflict. Both products are of a step and the gradient of a minibatch that had no part in it: with its own, the
squared noise of a minibatch would count as progress. So the fall of an RL step is measured by the next one's gradient.
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
        smoothness: L.
    """

    def __init__(self, low: int, high: int, smoothness: float = 0.0, decay: float = _DECAY) -> None:
        self.low, self.high, self._smoothness, self._decay = low, high, smoothness, decay
        self._means = torch.zeros(3, dtype=torch.float64)  # rise, fall, and the weight of both
        self._falls = torch.zeros(2, dtype=torch.float64)  # of RL steps since the last insertion: sum and number
        self._step = torch.zeros(0)  # the last RL step

    @property
    def m(self) -> int:
        """RL updates until the next insertion."""
        rise, fall, weight = self._means.tolist()
        return required_ratio(rise, fall, self.low, self.high) if weight > 0.0 else self.low

    def saw(self, g_rl: Tensor) -> None:
        """The RL gradient ``[P]`` at the parameters that the last RL step led to, before the next one is taken."""
        if len(self._step):
            fall = self._along(self._step, g_rl) - self._curved(self._step)
            self._falls += torch.tensor([fall, 1.0], dtype=torch.float64)

    def took(self, step: Tensor) -> None:
        """An RL step ``[P]``, learning rate included, was subtracted from the parameters."""
        self._step = step

    def measured(self, il_step: Tensor, g_rl: Tensor, il_steps: int = 1) -> None:
        """Take in what an insertion would cost RL, once RL steps have told what they bring it.

        Args:
            il_step: ``[P]``, learning rate included. g_rl: ``[P]``, at the same parameters.
            il_steps: IL steps of the insertion.
        """
        falls, steps = self._falls.tolist()
        if steps == 0.0:
            return
        rise = il_steps * (self._curved(il_step) - self._along(il_step, g_rl))
        new = torch.tensor([rise, falls / steps, 1.0], dtype=torch.float64)
        self._means.mul_(self._decay).add_((1.0 - self._decay) * new)
        self._falls.zero_()

    def _along(self, step: Tensor, gradient: Tensor) -> float:
        return float(torch.dot(step.to(gradient.device), gradient))  # a loaded step is on the CPU

    def _curved(self, step: Tensor) -> float:
        return 0.5 * self._smoothness * self._along(step, step) if self._smoothness else 0.0

    def state(self) -> dict[str, Tensor]:
        """What `load` needs."""
        return {"means": self._means.clone(), "falls": self._falls.clone(), "step": self._step.clone()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._means.copy_(state["means"])
        self._falls.copy_(state["falls"])
        self._step = state["step"].clone()
