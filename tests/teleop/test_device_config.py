"""Pins: a device is found by name inside and outside, and its settings are checked before anything runs."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from inril_core import plugins
from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.teleop import device_config
from inril_core.teleop.base import KIND
from inril_core.teleop.scripted import Config, ScriptedHuman
from tests.teleop import queue_device


def test_inside_by_its_file(contract: Contract) -> None:
    assert device_config("scripted") == Config()
    assert isinstance(Config().build(contract), ScriptedHuman)
    assert "scripted" in KIND.known()


def test_outside_by_module_and_class(contract: Contract) -> None:
    config = device_config("tests.teleop.queue_device:Config", {"poll_hz": 20.0})
    assert config.poll_hz == 20.0
    assert isinstance(config.build(contract), queue_device.QueueDevice)


def test_outside_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("queue", "tests.teleop.queue_device:Config", "inril.teleop")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "inril.teleop" else [])
    assert isinstance(device_config("queue", "{poll_hz: 30}"), queue_device.Config)
    assert {"gamepad", "queue", "scripted"} <= set(KIND.known())


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("scirpted", "", "did you mean 'scripted'"),
        ("nowhere.at_all:Config", "", "cannot be imported"),
        ("tests.teleop.queue_device:QueueDevice", "", "subclass"),
        ("scripted", "{expert: {nose: 1}}", "expert.nose"),
        ("scripted", "{expert: {noise: .nan}}", "expert.noise"),
        ("scripted", "{poll_hz: 0}", "poll_hz"),
        ("scripted", "[1]", "mapping"),
        ("scripted", "{a: ", "not YAML"),
        ("scripted", "{poll_hz: 5, poll_hz: 6}", "twice"),
        ("scripted", {"deadband": 1}, "deadband"),
    ],
)
def test_mistakes_are_named(name: str, settings: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        device_config(name, settings)  # type: ignore[arg-type]
