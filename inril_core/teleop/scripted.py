"""The scripted human: an expert that answers every tick, takes over when it is told to, and hands back."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, field_validator

from inril_core.contract import Contract
from inril_core.experts import Expert, ExpertConfig, make_expert
from inril_core.experts.scripted.base import ContractExpert
from inril_core.teleop.base import Device, DeviceConfig, HumanInput, TickView

Step = Annotated[int, Field(ge=0)]


class ScriptedHuman(Device):
    """Demonstrates whole episodes; in train and eval it takes over in some steps only."""

    name: ClassVar[str] = "scripted"
    synchronous: ClassVar[bool] = True

    def __init__(self, expert: Expert, takeover_steps: tuple[int, int] | None = None) -> None:
        self._expert = expert
        self._takeover_steps = takeover_steps
        self._episode_id = ""
        self._had_control = False

    def read(self, tick: TickView | None) -> HumanInput:
        """The expert's action; its noise restarts with each episode's seed."""
        if tick is None:
            raise ValueError("the scripted human answers ticks, and was asked without one")
        if tick.episode_id != self._episode_id:
            self._episode_id = tick.episode_id
            self._expert.reset(tick.seed)
        action = self._expert.act(tick.state)
        grab = tick.purpose == "demo" or self._takes_over(tick.step)
        released = self._had_control and not grab
        self._had_control = grab
        return HumanInput(action if grab else np.zeros_like(action), grab, released)

    def _takes_over(self, step: int) -> bool:
        return self._takeover_steps is not None and self._takeover_steps[0] <= step < self._takeover_steps[1]


class Config(DeviceConfig):
    """Settings of the scripted human."""

    simulated_only: ClassVar[bool] = True

    expert: ExpertConfig = ExpertConfig()
    """Who acts, and how well."""
    takeover_steps: tuple[Step, Step] | None = None
    """Outside demonstrations: first step with control and first step without it again; None: never."""

    @field_validator("takeover_steps")
    @classmethod
    def _in_order(cls, steps: tuple[int, int] | None) -> tuple[int, int] | None:
        if steps is not None and steps[0] >= steps[1]:
            raise ValueError(f"takeover_steps = {list(steps)}: the first must be below the second, e.g. [20, 40]")
        return steps

    def build(self, contract: Contract) -> ScriptedHuman:
        """See `DeviceConfig.build`."""
        return ScriptedHuman(make_expert(self.expert, ContractExpert(contract)), self.takeover_steps)
