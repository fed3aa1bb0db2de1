"""A node's process: from its start to its exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import Executor, ExternalShutdownException

from inril_common.executor import chosen_executor
from inril_common.node import InrilNode, InrilPlainNode, NodeFinished
from inril_common.realtime import keep_what_is_there, parse_cores, run_first, run_on
from inril_common.sampling import PROFILE, Sampler, sampler_if_asked
from inril_core.errors import ConfigError, InrilError

LONGEST_WAIT_S = 1.0
"""Without news a node looks up this often; a signal ends its wait at once."""

_TOLD_BY = (signal.SIGINT, signal.SIGTERM)
"""Signals that tell a node to stop."""

EXIT_CONFIG = os.EX_CONFIG
"""Exit code of a node that cannot work with the settings, files or permissions that it has."""


def run_node(node_class: type[InrilNode] | type[InrilPlainNode]) -> None:
    """Body of every node's `main`: spin until told to stop, tear down once, exit.

    SIGINT and SIGTERM are noted and obeyed between callbacks, so that nothing is cut short half-way.
    Exit code: `NodeFinished.code`; when told to stop `exit_code_when_stopped`, 0 for most nodes; 1 after an error,
    which is logged; EXIT_CONFIG where a person must change something first, so that a restart would be in vain.
    """
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    told_to_stop = threading.Event()
    for number in _TOLD_BY:
        signal.signal(number, lambda *_: told_to_stop.set())
    node: Any = None
    sampler: Sampler | None = None
    code = 0
    try:
        node = node_class()  # type: ignore[call-arg]
        node.owns_arguments = True
        if isinstance(node, InrilPlainNode):
            node.setup()
            node.refuse_unknown_parameters()
        executor = chosen_executor(node.gather_s)
        executor.add_node(node)
        _wake_on_signals(executor)
        keep_what_is_there()
        sampler = sampler_if_asked()
        _settle(node)
        while not told_to_stop.is_set() and not node.configuration_failed:
            try:
                executor.spin_once(timeout_sec=LONGEST_WAIT_S)
            except RCLError as error:  # a lifecycle transition that the node's state does not allow
                node.get_logger().error(f"refused: {error}")
        code = EXIT_CONFIG if node.configuration_failed else int(node.exit_code_when_stopped)
    except NodeFinished as finished:
        code = finished.code
    except ExternalShutdownException:
        code = 0 if node is None else int(node.exit_code_when_stopped)
    except InrilError as error:
        _report(node, str(error))
        code = EXIT_CONFIG if isinstance(error, ConfigError) else 1
    except Exception:
        _report(node, traceback.format_exc())
        code = 1
    if sampler is not None:
        sampler.write(Path(os.environ[PROFILE]), node.get_name())
    if node is not None:
        node.end()
        node.destroy_node()  # tells the others at once that its services are gone
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Non-daemon threads of DDS can outlive a shutdown; everything that must be closed is closed.
    os._exit(code)


def _settle(node: Any) -> None:
    """Give the process the processors and the priority that its parameters ask for."""
    if node.cores:
        run_on(parse_cores(node.cores))
    if node.realtime:
        refusal = run_first()
        if refusal:
            node.get_logger().warning(f"realtime: {refusal}")


def _wake_on_signals(executor: Executor) -> None:
    """Let a signal end the executor's wait: Python calls its handler only once the wait has returned."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(read_end, 1):
            if number[0] in _TOLD_BY:
                executor.wake()

    threading.Thread(target=watch, name="signals", daemon=True).start()


def _report(node: Any, text: str) -> None:
    if node is not None:
        node.get_logger().fatal(text)
    else:
        print(text, file=sys.stderr)
