"""A scripted expert that looks at the cell itself, for tasks whose policies see pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inril_core.contract import Contract
from inril_core.experts.scripted.base import ScriptedExpert, scripted_expert


class Onlooker:
    """Acts on all fields that the task's features give, where the contract's observation has only some of them.

    A person at the cell looks at the parts, not at what the policy is given.

    Raises:
        ConfigError: as `scripted_expert`, at the first action.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._expert: ScriptedExpert | None = None
        self._dials: tuple[float, float, float] | None = None
        self._seed = 0

    def worse(self, noise: float, bias: float, hesitation: float) -> Onlooker:
        """See `ScriptedExpert.worse`."""
        made = Onlooker(self._contract)
        made._dials = noise, bias, hesitation
        return made

    def reset(self, seed: int) -> None:
        """Begin an episode, as `ScriptedExpert.reset`."""
        self._seed = seed
        if self._expert is not None:
            self._expert.reset(seed)

    def act(
        self, tool_pose: np.ndarray, tool_twist: np.ndarray, gripper_width_m: float, parts: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Action float32[A] in [-1, 1].

        Args:
            tool_pose: float64[7], base frame, m and xyzw; tool_twist: float64[6], m/s and rad/s.
            parts: poses float64[7] by name.

        Raises:
            ValueError: the features are not finite.
            KeyError: a part that the task looks at is missing.
        """
        values = self._contract.task_definition.features(tool_pose, tool_twist, gripper_width_m, parts)
        if self._expert is None:
            self._expert = self._looking({name: int(np.size(value)) for name, value in values.items()})
            self._expert.reset(self._seed)
        return self._expert.act(np.concatenate([np.ravel(value) for value in values.values()]).astype(np.float32))

    def _looking(self, sizes: Mapping[str, int]) -> ScriptedExpert:
        fields = [{"name": name, "shape": (size,), "unit": "", "frame": ""} for name, size in sizes.items()]
        seen = Contract.model_validate({**self._contract.model_dump(), "observation": fields, "images": ()})
        expert = scripted_expert(seen)
        return expert if self._dials is None else expert.worse(*self._dials)
