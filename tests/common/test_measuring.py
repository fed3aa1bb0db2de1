"""Pins: a benchmark that reports something else than it measured."""

import math
import os
import time
from dataclasses import asdict
from typing import Any

import pytest
from inril_bringup.graph_benchmark import SCENARIOS
from inril_bringup.graph_report import ScenarioResult, Ticks, report
from inril_common.measuring import cpu_s, mean_ratio


def test_the_interval_of_a_ratio() -> None:
    assert mean_ratio([2.0, 2.0, 2.0]) == "2.00 [2.00, 2.00], 3 pairs"
    assert mean_ratio([0.5]) == "0.50 (one pair, no interval)"
    # Two pairs: t(0.975, 1) = 12.706 and the deviation of +-d about the mean is d * sqrt(2).
    d = math.log(1.1)
    assert mean_ratio([1.1, 1 / 1.1]) == f"1.00 [{math.exp(-12.706 * d):.2f}, {math.exp(12.706 * d):.2f}], 2 pairs"


def test_cpu_time_is_that_of_the_process() -> None:
    before = time.process_time()
    measured = cpu_s(os.getpid())
    resolution_s = 2 / os.sysconf("SC_CLK_TCK")
    assert before - resolution_s <= measured <= time.process_time() + resolution_s
    with pytest.raises(OSError):
        cpu_s(2**22 + 1)  # larger than any process id


def result(arbiter_ms: float, steps_per_s: float, ticks: Ticks | None = None) -> dict[str, Any]:
    cpu_ms = {"arbiter_node": arbiter_ms, "recorder_node": 4.0, "sim_cell": 50.0, "learner_node": 70.0}
    return asdict(ScenarioResult(100, steps_per_s, cpu_ms, 1, 0, 5.0, ticks or Ticks()))


def rows_of(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells}


def test_the_tables_leave_simulator_and_learner_out_of_the_sum() -> None:
    found = {"compared/before": {"lockstep": [result(6.0, 20.0)]}, "compared/this": {"lockstep": [result(1.0, 40.0)]}}
    rows = rows_of(report(found, SCENARIOS))
    assert rows["arbiter_node"] == ["6.00", "1.00"]
    assert rows["all but cell, learner"] == ["10.00", "5.00"]
    assert rows["this / before: CPU"][0].startswith("0.50") and rows["this / before: steps/s"][0].startswith("2.00")


def test_scenarios_stand_in_their_order_with_periods_and_ages() -> None:
    ticks = Ticks(50, [100.0, 101.0, 102.0, 103.0], [0.5, 1.0, 2.5, 3.0], 4, {"robot_state": [1.5, 9.0]})
    text = report({"scenarios": {"10 Hz": [result(2.0, 10.0, ticks)], "lockstep": [result(3.0, 90.0)]}}, SCENARIOS)
    assert text.index("| lockstep |") < text.index("| 10 Hz |")
    assert "| 10 Hz | 5 | 100 | 10.0 | 6.00 | 100.0 | 101.0 | 102.0 | 103.0 | 2.50 | 4 | 1 | 0 | 0 |" in text
    assert "| 10 Hz | 1.5 / 9.0 |" in text
