"""Pins: a person over SSH finds out what is plugged in and what a button is, and writes a mapping by moving things."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from inril_bringup.cli import main

from inril_core.teleop.common.mapping import AxisMap, Reading, read_mapping_file
from inril_core.teleop.common.wizard import Stopped, Wizard
from inril_core.teleop.joy import BUILTIN

DEVICE = "tests.teleop.file_device:Config"


class Person:
    """Does to a simulated pad what it is asked for: the answer is the state of the pad, or a typed line."""

    REST = {"stick": 0.02, "trigger_r": 1.0, "trigger_l": 1.0, "hat": 0.0}

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.line: str | None = None
        self.patience = 100
        self.reading = self._pad({})

    def _pad(self, changed: dict[str, Any]) -> Reading:
        axes = {name: changed.get(name, value) for name, value in self.REST.items()}
        return Reading(axes, {name: bool(changed.get(name)) for name in ("a", "b", "c")})

    def read(self) -> Reading:
        return self.reading

    def say(self, text: str) -> None:
        self.reading = self._pad({})
        self.patience = 100
        if text.endswith("?"):
            self.asked.append(text)
            answer = next((answer for words, answer in self.answers.items() if words in text), "")
            if isinstance(answer, str):
                self.line = answer
            else:
                self.reading = self._pad(answer)

    def typed(self) -> str | None:
        self.patience -= 1
        line, self.line = self.line, None
        return "" if self.patience < 0 else line


def test_a_person_who_moves_what_is_asked_for_gets_a_mapping() -> None:
    person = Person(
        {
            "forward (+x)": {"stick": -1.0},
            "back (-x)": {"stick": 1.0},
            "up (+z)": {"trigger_r": -1.0},
            "down (-z)": {"trigger_l": -1.0},
            "turn to the left": {"b": True},
            "turn to the right": {"c": True},
            "take control": {"a": True},
        }
    )
    mapping = Wizard(person.read, person).run("pad", "a pad")
    assert mapping.axes == {
        "x": AxisMap(axis="stick", invert=True, dead_zone=0.05),
        "z": AxisMap(axis="trigger_r", minus_axis="trigger_l", invert=True, rest=1.0, dead_zone=0.05),
        "rz": AxisMap(plus_button="b", minus_button="c"),
    }
    assert mapping.buttons == {"grab": "a"}
    full = Reading({**Person.REST, "trigger_r": -1.0}, {})
    assert mapping.deflection(full)[2] == 1.0 and mapping.deflection(person._pad({})) == (0.0,) * 6


def test_q_stops_and_nothing_is_guessed() -> None:
    with pytest.raises(Stopped, match="nothing was written"):
        Wizard(*(lambda p: (p.read, p))(Person({"forward": "q\n"}))).run("pad", "")


def test_one_button_is_not_given_two_meanings() -> None:
    person = Person({"take control": {"a": True}, "give control back": {"a": True}})
    assert Wizard(person.read, person).run("pad", "").buttons == {"grab": "a"}


def test_the_list_names_every_kind_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["devices", "list", "--json"])
    assert ended.value.code == 0
    table = json.loads(capsys.readouterr().out)
    assert {"gamepad", "joy", "leader", "pose", "scripted", "spacemouse"} <= set(table)
    assert table["joy"]["topics"] == ["joy (sensor_msgs/msg/Joy)"]
    with pytest.raises(SystemExit):
        main(["devices"])
    said = capsys.readouterr().out
    assert "leader/joint_states (sensor_msgs/msg/JointState)" in said
    assert re.search(r"scripted +nothing to plug in", said), "a simulated person is missing, it seems"


def test_the_rules_and_the_command_that_installs_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["devices", "udev"])
    said = capsys.readouterr()
    assert 'ATTRS{idVendor}=="256f"' in said.out and "sudo tee /etc/udev/rules.d/70-inril.rules" in said.err
    with pytest.raises(SystemExit):
        main(["devices", "udev", "--out", str(tmp_path / "mine.rules")])
    assert (tmp_path / "mine.rules").read_text() == said.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["live", "scripted"], "no hardware"),
        (["live", "gamepda"], "did you mean 'gamepad'"),
        (["map", DEVICE, "--out", "/proc/none/pad.yaml"], "a path that you may write to"),
        (["map", "leader", "--out", "{tmp}/x.yaml"], "leader"),
    ],
)
def test_mistakes_are_named(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inril_bringup.devices_command.OPENING_S", 0.0)
    with pytest.raises(SystemExit) as ended:
        main(["devices", *(word.replace("{tmp}", str(tmp_path)) for word in words)])
    assert ended.value.code == 1 and named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Session:
    """`inril devices` in a terminal of its own, as sshd gives one, and a device whose state is a file."""

    def __init__(self, tmp_path: Path, *words: str) -> None:
        self.state = tmp_path / "state.json"
        self.set()
        ours, theirs = pty.openpty()
        settings = f"{{path: {self.state}}}"
        command = [sys.executable, "-m", "inril_bringup.cli", "devices", words[0], DEVICE, "--settings", settings]
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
        self.process = subprocess.Popen(
            [*command, *words[1:]],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=root,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(theirs)
        self._terminal = ours
        self.screen = ""

    def set(self, **changed: float) -> None:
        state = {"axes": {"x": 0.0, "y": 0.0}, "buttons": {"0": False, "1": False}}
        for name, value in changed.items():
            part = "axes" if name in state["axes"] else "buttons"
            state[part][name.removeprefix("b")] = value if part == "axes" else bool(value)
        temporary = self.state.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self.state)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, text: str) -> None:
        """Read the screen until the text stands on it, and forget what came before."""
        deadline = time.monotonic() + 60.0
        while text not in self.screen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.screen!r}"
            if select.select([self._terminal], [], [], 1.0)[0]:
                try:
                    self.screen += os.read(self._terminal, 4096).decode(errors="replace")
                except OSError:  # the other side has closed it
                    assert text in self.screen, f"no {text!r} in {self.screen!r}"
        self.screen = self.screen.partition(text)[2]

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self._terminal)
        return code


def test_the_wizard_in_a_terminal(tmp_path: Path) -> None:
    out = tmp_path / "pad.yaml"
    session = Session(tmp_path, "map", "--out", str(out))
    session.until("forward (+x) ?")
    session.set(y=-0.9)
    session.until("axis y; let go of it")
    session.set()
    session.until("back (-x) ?")
    session.set(y=0.9)
    session.until("let go of it")
    session.set()
    for _ in range(5):
        session.until("?")
        session.type("\n")
        session.until("skipped")
    session.until("take control")
    session.set(b1=True)
    session.until("button 1; let go of it")
    session.set()
    for _ in range(7):
        session.until("?")
        session.type("\n")
        session.until("skipped")
    session.until("written:")
    assert session.end() == 0
    mapping = read_mapping_file(out)
    assert mapping.axes == {"x": AxisMap(axis="y", invert=True, dead_zone=0.05)} and mapping.buttons == {"grab": "1"}


def test_live_values_in_a_terminal(tmp_path: Path) -> None:
    session = Session(tmp_path, "live")
    session.until("is open")
    session.set(x=1.0, b1=True)
    session.until("+1.00")
    session.type("\x03")
    assert session.end() == 130


def test_the_builtin_mapping_of_a_joystick_is_a_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "joy.yaml"
    path.write_text(BUILTIN.text())
    assert read_mapping_file(path) == BUILTIN
