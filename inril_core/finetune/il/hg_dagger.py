"""HG-DAgger (Kelly et al., "HG-DAgger: Interactive Imitation Learning with Human Experts", arXiv 1810.02890): cloning
of what a human does in the takeovers, added to the demonstrations."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY, Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Signal
from inril_core.finetune.il import bc


class Config(bc.Config):
    """Settings of HG-DAgger, beside those of behaviour cloning.

    Attributes:
        clone: ``expert_steps``: those of the human alone, as the method says; ``all_steps``: the policy's own actions
            too, as the code published with RLIF (arXiv 2311.12996) does - a flaw that makes it a weaker rival.
    """

    method: Literal["hg_dagger"]  # type: ignore[assignment]
    clone: Literal["expert_steps", "all_steps"] = "expert_steps"

    def lives_on(self) -> frozenset[Signal]:
        """See `MethodConfig.lives_on`."""
        return frozenset({"takeovers"})

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        refuse_other_growth(whole)

    def aggregate(self, episode: Episode) -> tuple[Episode, npt.NDArray[np.bool_]]:
        """See `IlConfig.aggregate`; the steps count whether the episode was a success or not."""
        human: npt.NDArray[np.bool_] = episode.source == SOURCE_HUMAN
        return episode, human if self.clone == "expert_steps" else human | (episode.source == SOURCE_POLICY)


def refuse_other_growth(whole: Any) -> None:
    """An IL method that aggregates decides alone what becomes a demonstration.

    Raises:
        ConfigError: ``schedule.demo_growth`` says something too.
    """
    if whole.schedule.demo_growth:
        raise ConfigError(
            f"schedule.demo_growth = {list(whole.schedule.demo_growth)} with il.method = {whole.il.method!r}, which "
            "itself decides what becomes a demonstration; set schedule.demo_growth to []"
        )
