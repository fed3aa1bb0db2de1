"""Pins: a delay of the arm that the check does not see through teleop_node, arbiter, arm and recorder over DDS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from inril_core.teleop_check.found import AXES
from inril_core.teleop_check.stored import read_check
from tests.domains import own_domain, spawn
from tests.graph.harness import patient_contract, patient_graph

pytestmark = pytest.mark.timeout(900)
PERIOD_S = 0.1


@pytest.mark.parametrize("delay_steps", [0, 3])
def test_the_planted_delay_is_found_to_a_fifth_of_a_period(tmp_path: Path, delay_steps: int) -> None:
    """In lockstep, so that a busy machine decides nothing; 0.3 s are more than two periods, and the check says so."""
    command = [sys.executable, "-m", "inril_bringup.cli", "teleop-check"]
    command += [str(patient_graph("collect_demos", tmp_path, {})), f"contract:={patient_contract(tmp_path)}"]
    command += [f"run_dir:={tmp_path / 'run'}", f"calibration:={tmp_path / 'kept'}", "real_time_factor:=0.0"]
    command += [f"arm_settings:={{delay_steps: {delay_steps}}}"]
    with own_domain() as domain:
        done = spawn(command, domain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
        out, _ = done.communicate(timeout=800)
    assert done.returncode == (1 if delay_steps else 0), out[-6000:]
    (path,) = (tmp_path / "kept").glob("*.yaml")
    check = read_check(path)
    assert check.arm.simulated and check.arm.settings == {"delay_steps": delay_steps} and check.device == "sweep"
    assert list(check.found.axes) == list(AXES)
    for name, axis in check.found.axes.items():
        assert axis.delay_s == pytest.approx(delay_steps * PERIOD_S, abs=0.2 * PERIOD_S), name
        assert axis.gain == pytest.approx(1.0, abs=0.1), name
    assert check.found.cadence is None and check.found.held_n == check.found.targets_lost_n == 0
    assert check.found.driven_n == 480 and not check.found.faults
    assert [reason.split(" ")[0] for reason in check.reasons] == (["x"] if delay_steps else [])
    assert not delay_steps or "behind the Targets, at most 200 ms" in check.reasons[0]
