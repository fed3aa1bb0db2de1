"""Pins: a process whose exit code says that the work was done when it was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from tests.domains import own_domain, spawn

NODE = """
import sys
from inril_common.node import InrilPlainNode
from inril_common.node import NodeFinished
from inril_common.process import run_node

class Worker(InrilPlainNode):
    exit_code_when_stopped = 2
    def __init__(self):
        super().__init__("worker")
    def setup(self):
        print("ready", flush=True)
        if sys.argv[1] == "finish":
            self.steady_timer(0.01, self.finish)
    def finish(self):
        raise NodeFinished(int(sys.argv[2]))

run_node(Worker)
"""
WRONG = """
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_core.errors import ConfigError

class Wrong(InrilNode):
    def __init__(self):
        super().__init__("wrong")
        self.trigger_configure()
    def setup(self):
        raise ConfigError("arm = 'x': there is none")

run_node(Wrong)
"""


def test_a_node_that_cannot_be_configured_says_that_a_restart_is_in_vain() -> None:
    with own_domain() as domain:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        done = subprocess.run([sys.executable, "-c", WRONG], env=environment, capture_output=True, timeout=60.0)
        assert done.returncode == os.EX_CONFIG, done.stderr


@pytest.mark.parametrize(("words", "code"), [(["finish", "0"], 0), (["finish", "3"], 3), (["wait"], 2)])
def test_the_exit_code_of_a_process(words: list[str], code: int) -> None:
    with own_domain() as domain:
        command = [sys.executable, "-c", NODE, *words]
        with spawn(command, domain, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            if words == ["wait"]:
                process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60.0) == code


def test_a_misspelt_parameter_is_refused_by_name() -> None:
    """Pins: the arbiter that ran without the monitor's permit since `expects_monitr` was taken in silence."""
    with own_domain() as domain:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        node = NODE.replace("sys.argv[1]", "'wait'")
        command = [sys.executable, "-c", node, "--ros-args", "-p", "realtim:=true"]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60.0, text=True)
        assert done.returncode == os.EX_CONFIG
        assert "worker has no parameter 'realtim'; did you mean realtime?" in done.stderr
