"""`inril devices`: what a person can drive with, what comes from it, and which control means what."""

from __future__ import annotations

import argparse
import json
import math
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from inril_core.errors import ConfigError
from inril_core.teleop import Device, DeviceLost, Inbox, device_config
from inril_core.teleop.common.mapped import MappedDevice
from inril_core.teleop.common.wizard import Stopped, Wizard

SUMMARY = "input devices: what is plugged in, live values, a wizard that writes a mapping, udev rules"
EXAMPLES = ("", "live gamepad", "live joy --settings '{topic: left/joy}'", "map gamepad --out pad.yaml", "udev")
POLL_S = 0.05
OPENING_S = 10.0
SILENCE_S = 120.0
"""So long the wizard waits for a person who does nothing."""
RULES = "70-inril.rules"
"""The number is below that of systemd's 73-seat-late.rules, which acts on the tag uaccess."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril devices`."""
    parser.set_defaults(json=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    found = actions.add_parser("list", help="what is plugged in, or why it cannot be known (the default)")
    found.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    live = actions.add_parser("live", help="show what comes from a device and what it asks of the arm; Ctrl-C ends")
    write = actions.add_parser("map", help="ask which control means what and write a mapping file")
    for each in (live, write):
        each.add_argument("device", metavar="DEVICE", help="its name, or MODULE:CLASS")
        each.add_argument("--settings", default="", help="device_settings, a YAML mapping")
        each.add_argument("--contract", default="insert_leg", help="whose action it asks for (default: %(default)s)")
    live.add_argument("--seconds", type=float, default=math.inf, help="end after so long (default: Ctrl-C)")
    live.add_argument("--json", action="store_true", help="one JSON object for each change")
    write.add_argument("--out", type=Path, required=True, help="file to write")
    write.add_argument("--force", action="store_true", help="replace a file that is there")
    rules = actions.add_parser("udev", help="print the udev rules and how to install them")
    rules.add_argument("--out", type=Path, default=None, help="write the rules to this file instead")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "live": _live,
        "map": _map,
        "udev": _udev,
    }
    try:
        return actions[arguments.action or "list"](arguments)
    except (DeviceLost, Stopped) as error:
        raise ConfigError(str(error)) from error


def _list(arguments: argparse.Namespace) -> int:
    from inril_core.contract import load_contract
    from inril_core.teleop.base import KIND

    contract = load_contract("insert_leg")
    table: dict[str, dict[str, Any]] = {}
    for name in KIND.known():
        row: dict[str, Any] = {"found": [], "topics": [], "missing": "", "simulated_only": False}
        try:
            config: Any = KIND.find(name)
            row["simulated_only"] = config.simulated_only
            row["found"] = config.plugged_in()
            row["topics"] = [f"{topic.name} ({topic.message})" for topic in config().build(contract).topics]
        except (DeviceLost, ConfigError) as error:
            row["missing"] = str(error)
        except Exception as error:  # code of somebody else: whatever it raises, the others are listed
            row["missing"] = f"{type(error).__name__}: {error}"
        table[name] = row
    if arguments.json:
        print(json.dumps(table))
        return 0
    for name, row in table.items():
        found, topics = ", ".join(row["found"]), ", ".join(row["topics"])
        nothing = "nothing to plug in: for simulated cells only" if row["simulated_only"] else "none plugged in"
        print(f"{name:12} {found or (f'listens to {topics}' if topics else row['missing'] or nothing)}")
    print("\n`inril devices live NAME` shows what comes; `inril devices map NAME --out FILE` writes a mapping")
    return 0


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple[Device, Callable[[], None]]]:
    """The device, open, and what has to be called before each reading.

    Raises:
        DeviceLost: it cannot be opened.
    """
    from inril_core.contract import load_contract

    contract = load_contract(arguments.contract)
    device = device_config(arguments.device, arguments.settings).build(contract)
    if device.synchronous:
        raise ConfigError(f"{arguments.device} is no hardware; give another DEVICE (`inril devices`)")
    with _listening(arguments, device, contract) as poll:
        end_s = time.monotonic() + OPENING_S
        try:
            while True:
                poll()
                try:
                    device.open()
                    break
                except DeviceLost:
                    if not device.topics or time.monotonic() > end_s:  # a topic takes a while to be found
                        raise
                    device.close()
            yield device, poll
        finally:
            device.close()


@contextmanager
def _listening(arguments: argparse.Namespace, device: Device, contract: Any) -> Iterator[Callable[[], None]]:
    """Wait for the next reading; of a device on topics their messages are taken meanwhile."""
    if not device.topics:
        device.inbox = Inbox()
        yield lambda: time.sleep(POLL_S)
        return
    import os

    import rclpy
    from inril_common.node import InrilPlainNode
    from inril_session.device_topics import DeviceTopics
    from rclpy.executors import SingleThreadedExecutor

    from inril_bringup.environment import dds_environment

    os.environ.update(dds_environment(os.environ))
    namespace = arguments.namespace
    rclpy.init(args=["--ros-args", "-r", f"__ns:=/{namespace}"] if namespace else None)
    node = InrilPlainNode("inril_devices")
    try:
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        topics = DeviceTopics(node, device, contract)

        def poll() -> None:
            end_s = time.monotonic() + POLL_S
            while (left_s := end_s - time.monotonic()) > 0.0:
                executor.spin_once(timeout_sec=left_s)
            topics.update(node.mono_ns())

        yield poll
    finally:
        node.end()
        node.destroy_node()
        rclpy.shutdown()


def _live(arguments: argparse.Namespace) -> int:
    end_s = time.monotonic() + arguments.seconds
    shown = ""
    with _opened(arguments) as (device, poll):
        if not arguments.json:
            print(f"{arguments.device} is open; move it. Ctrl-C ends.", flush=True)
        while time.monotonic() < end_s:
            poll()
            line = _line(device, arguments.json)
            if line != shown:
                print(shown := line, flush=True)
    return 0


def _line(device: Device, as_json: bool) -> str:
    said = device.read(None)
    values: dict[str, Any] = {}
    if isinstance(device, MappedDevice):
        reading = device.reading()
        meaning = {name: word for word, name in device.mapping.buttons.items()}
        values["axes"] = {name: round(value, 2) for name, value in reading.axes.items()}
        values["pressed"] = {name: meaning.get(name, "") for name, down in reading.buttons.items() if down}
    values |= {
        "action": [None if math.isnan(number) else round(float(number), 2) for number in said.action],
        "grab": said.grab,
        "hand_back": said.released,
        "event": said.event,
    }
    if as_json:
        return json.dumps(values)
    parts = [f"{name} {value:+.2f}" for name, value in values.get("axes", {}).items() if value]
    parts += [f"[{name}{f' = {word}' if word else ''}]" for name, word in values.get("pressed", {}).items()]
    action = " ".join("keep " if number is None else f"{number:+.2f}" for number in values["action"])
    words = [word for word, on in (("GRAB", said.grab), ("HAND BACK", said.released), (said.event.upper(), True)) if on]
    return f"arm: {action}  {' '.join(words):12} {' '.join(parts)}".rstrip()


class _Terminal:
    """Standard input and output, line by line."""

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._done_s = time.monotonic()

    def say(self, text: str) -> None:
        """See `Terminal.say`."""
        self._done_s = time.monotonic()
        print(text, flush=True)

    def typed(self) -> str | None:
        """See `Terminal.typed`."""
        self._poll()
        if select.select([sys.stdin], [], [], 0.0)[0]:
            line = sys.stdin.readline()
            if not line:
                raise Stopped("the terminal is gone; nothing was written")
            self._done_s = time.monotonic()
            return line
        if time.monotonic() - self._done_s > SILENCE_S:
            raise Stopped(f"nobody did anything for {SILENCE_S:.0f} s; nothing was written")
        return None


def _map(arguments: argparse.Namespace) -> int:
    from inril_core.files import ResultFile

    out = arguments.out.expanduser().absolute()
    if out.exists() and not arguments.force:
        raise ConfigError(f"{out} is there; give another --out, or --force to replace it")
    with ResultFile(out) as file, _opened(arguments) as (device, poll):
        if not isinstance(device, MappedDevice):
            raise ConfigError(
                f"{arguments.device} has no sticks to ask for; write its buttons by hand (docs/teleoperation.md)"
            )
        found = [text for text in type(device.config).plugged_in() if text]
        product = found[0].partition(": ")[2] if found else ""
        mapping = Wizard(device.reading, _Terminal(poll)).run(device.name, product)
        file.write(mapping.text().encode())
    print(f"written: {out}\ntry it:  inril devices live {arguments.device} --settings '{{mapping: {out}}}'")
    print(f"use it:  inril up ... device:={arguments.device} device_settings:='{{mapping: {out}}}'")
    return 0


def _udev(arguments: argparse.Namespace) -> int:
    rules = (resources.files("inril_core.teleop") / RULES).read_text()
    out = arguments.out
    if out is None:
        print(rules, end="")
    else:
        from inril_core.files import write_atomically

        try:
            write_atomically(out.expanduser().absolute(), rules.encode())
        except OSError as error:
            raise ConfigError(f"{out}: {error.strerror or error}; give an --out that can be written") from error
    source = f"cat {out}" if out is not None else "inril devices udev"
    install = f"{source} | sudo tee /etc/udev/rules.d/{RULES} && sudo udevadm control --reload && sudo udevadm trigger"
    print(f"install: {install}", file=sys.stderr)
    print(
        "then plug the device in again; to use it over SSH also: sudo usermod -aG input $USER, and log in anew",
        file=sys.stderr,
    )
    return 0
