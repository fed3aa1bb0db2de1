"""The scripted human: an expert that answers every tick, takes over when it is told to, and hands back."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, field_validator

from inril_core.contract import Contract
from inril_core.experts import Expert, ExpertConfig, make_expert
from inril_core.experts.looking_around import LookingAround
from inril_core.experts.scripted.base import ContractExpert
from inril_core.experts.scripted.onlooker import Onlooker
from inril_core.teleop.base import Device, DeviceConfig, HumanInput, TickView

Step = Annotated[int, Field(ge=0)]


class ScriptedHuman(Device):
    """Demonstrates whole episodes; in train and eval it takes over in some steps only."""

    name: ClassVar[str] = "scripted"
    synchronous: ClassVar[bool] = True

    def __init__(
        self,
        expert: Expert | Onlooker,
        takeover_steps: tuple[int, int] | None = None,
        looking: LookingAround | None = None,
    ) -> None:
        self._expert, self._looking = expert, looking
        self.looks_at_scene = isinstance(expert, Onlooker)
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
            if self._looking is not None:
                self._looking.reset(tick.seed)
        action = self._act(tick)
        if self._looking is not None and tick.purpose == "demo":
            action = self._looking.changed(action, tick.tool_pose)
        grab = tick.purpose == "demo" or self._takes_over(tick.step)
        released = self._had_control and not grab
        self._had_control = grab
        return HumanInput(action if grab else np.zeros_like(action), grab, released)

    def _act(self, tick: TickView) -> np.ndarray:
        if not isinstance(self._expert, Onlooker):
            return self._expert.act(tick.state)
        if tick.scene is None:
            raise ValueError("the scripted human looks at the cell, and was not shown it")
        return self._expert.act(tick.tool_pose, tick.scene.tool_twist, tick.scene.gripper_width_m, tick.scene.parts)

    def _takes_over(self, step: int) -> bool:
        return self._takeover_steps is not None and self._takeover_steps[0] <= step < self._takeover_steps[1]


class Config(DeviceConfig):
    """Settings of the scripted human."""

    simulated_only: ClassVar[bool] = True

    expert: ExpertConfig = ExpertConfig()
    """Who acts, and how well."""
    takeover_steps: tuple[Step, Step] | None = None
    """Outside demonstrations: first step with control and first step without it again; None: never."""

    look_around_steps: Step = 0
    """So many steps at the start of each demonstration move about near the parts (`LookingAround`): more images for an
    encoder that is trained by key poses. Mark them as failure, so that they are not imitated."""

    @field_validator("takeover_steps")
    @classmethod
    def _in_order(cls, steps: tuple[int, int] | None) -> tuple[int, int] | None:
        if steps is not None and steps[0] >= steps[1]:
            raise ValueError(f"takeover_steps = {list(steps)}: the first must be below the second, e.g. [20, 40]")
        return steps

    def build(self, contract: Contract) -> ScriptedHuman:
        """See `DeviceConfig.build`."""
        looking = LookingAround(contract, self.look_around_steps) if self.look_around_steps else None
        if contract.image_shapes and self.expert.policy is None:
            onlooker, dials = Onlooker(contract), (self.expert.noise, self.expert.bias, self.expert.hesitation)
            return ScriptedHuman(onlooker if not any(dials) else onlooker.worse(*dials), self.takeover_steps, looking)
        return ScriptedHuman(make_expert(self.expert, ContractExpert(contract)), self.takeover_steps, looking)
