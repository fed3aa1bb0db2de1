"""A device with two axes and two buttons whose state another process writes to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from inril_core.contract import Contract
from inril_core.teleop.common.mapped import MappedConfig, MappedDevice
from inril_core.teleop.common.mapping import AxisMap, ControlMap, Reading


class FileDevice(MappedDevice):
    """Reads the file at each reading."""

    name: ClassVar[str] = "file"

    def open(self) -> None:
        self.opened()

    def reading(self) -> Reading:
        assert isinstance(self.config, Config)
        state = json.loads(self.config.path.read_text())
        return Reading(state["axes"], state["buttons"])


class Config(MappedConfig):
    path: Path = Path("state.json")

    def build(self, contract: Contract) -> FileDevice:
        return FileDevice(self, contract, ControlMap(axes={"x": AxisMap(axis="x")}, buttons={"grab": "1"}))
