"""Drives one axis after the other to and fro, ever quicker, as a person does in a teleop check."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from inril_core.contract import Contract
from inril_core.teleop.base import Device, DeviceConfig, HumanInput, TickView

AXIS_S = 8.0
FIRST_HZ, LAST_HZ = 0.4, 1.2
"""The frequency rises: of a sine of one frequency several delays fit. Two cycles a second are quick for a hand."""
REACH = (0.025,) * 3 + (0.30,) * 3
"""m and rad from the start, on one side of it: a tool that begins above a table stays above it."""
SPEED_MAX = 0.5
"""Share of the action's scale."""
AXES_N = 6


def axis_steps(contract: Contract) -> int:
    """Ticks in which one axis is driven: `AXIS_S`, or an episode where that is shorter."""
    return max(1, min(round(AXIS_S * contract.control_rate_hz), contract.episode_length_steps))


def episodes_needed(contract: Contract) -> int:
    """Episodes in which all axes are driven once."""
    return math.ceil(AXES_N / _axes_in_episode(contract))


def _axes_in_episode(contract: Contract) -> int:
    return min(AXES_N, contract.episode_length_steps // axis_steps(contract))


class Sweep(Device):
    """A speed that is a sine of rising frequency and begins upwards; an episode without room for all axes leaves the
    others to the next one."""

    name: ClassVar[str] = "sweep"
    synchronous: ClassVar[bool] = True

    def __init__(self, contract: Contract) -> None:
        action, rate_hz = contract.action, contract.control_rate_hz
        self._size, self._rate_hz, self._steps = action.size, rate_hz, axis_steps(contract)
        self._in_episode = _axes_in_episode(contract)
        scales = (action.translation_scale_m,) * 3 + (action.rotation_scale_rad,) * 3
        # v sin(w t) reaches 2 v / w
        to_reach = (0.5 * reach * 2.0 * math.pi * FIRST_HZ for reach in REACH)
        self._speed = [min(SPEED_MAX, v / (scale * rate_hz)) for v, scale in zip(to_reach, scales, strict=True)]
        self._seed: int | None = None
        self._first_axis = -self._in_episode

    def read(self, tick: TickView | None) -> HumanInput:
        """The action of a tick; between two axes it rests."""
        if tick is None:
            raise ValueError("the sweep answers ticks, and was asked without one")
        if tick.seed != self._seed:  # an episode that is done again keeps its seed, and its axes
            self._seed = tick.seed
            self._first_axis += self._in_episode
        action = np.zeros(self._size)
        place, step = divmod(tick.step, self._steps)
        if place < self._in_episode:
            axis = (self._first_axis + place) % AXES_N
            action[axis] = self._speed[axis] * math.sin(self._phase((step + 0.5) / self._rate_hz))
        if self._size > AXES_N:
            action[AXES_N:] = np.nan  # the gripper keeps its width
        return HumanInput(action, True, False)

    def _phase(self, t_s: float) -> float:
        length_s = self._steps / self._rate_hz
        return 2.0 * math.pi * (FIRST_HZ * t_s + (LAST_HZ - FIRST_HZ) * t_s * t_s / (2.0 * length_s))


class Config(DeviceConfig):
    """It has no settings of its own."""

    simulated_only: ClassVar[bool] = True

    def build(self, contract: Contract) -> Sweep:
        """See `DeviceConfig.build`."""
        return Sweep(contract)
