"""What a policy, its demonstrations and its learner must agree on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from inril_core.contract.schema import ImageShape


class Interface(Protocol):
    """What a policy, its demonstrations and its learner must agree on; `Contract` is one."""

    @property
    def task(self) -> str:
        """Name."""

    @property
    def observation_size(self) -> int:
        """Length D of the observation vector: the state, then the pixels of ``image_shapes``."""

    @property
    def image_shapes(self) -> tuple[ImageShape, ...]:
        """The images whose pixels (values 0 to 255, row by row) end the observation vector; often none."""

    @property
    def action_size(self) -> int:
        """Length A of the action, each in [-1, 1]."""

    @property
    def text(self) -> str:
        """JSON that travels with what was recorded and trained."""

    @property
    def interface_digest(self) -> str:
        """SHA-256 (hex) of what must match."""

    @property
    def deployment_digest(self) -> str:
        """SHA-256 (hex) of what may differ."""


@dataclass(frozen=True)
class SimpleInterface:
    """The interface of a task without a contract."""

    task: str
    observation_size: int
    action_size: int
    facts: Mapping[str, Any]
    """JSON values that decide what its numbers mean."""
    image_shapes: tuple[ImageShape, ...] = ()

    @property
    def text(self) -> str:
        """See `Interface`."""
        sizes = {"task": self.task, "observation_size": self.observation_size, "action_size": self.action_size}
        images = {"images": self.image_shapes} if self.image_shapes else {}
        return json.dumps({**sizes, **images, "facts": dict(self.facts)}, sort_keys=True)

    @property
    def interface_digest(self) -> str:
        """See `Interface`."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def deployment_digest(self) -> str:
        """See `Interface`; such a task has nothing that differs between deployments."""
        return hashlib.sha256(b"").hexdigest()
