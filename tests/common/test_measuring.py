"""Pins: a benchmark that reports something else than it measured."""

import math
import os
import time

import pytest
from inril_bringup.graph_benchmark import Sample, table
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


def test_the_table_leaves_simulator_and_learner_out_of_the_sum() -> None:
    slow = Sample(100, 20.0, {"arbiter_node": 6.0, "recorder_node": 4.0, "sim_cell": 50.0, "learner_node": 70.0})
    fast = Sample(100, 40.0, {"arbiter_node": 3.0, "recorder_node": 1.0, "sim_cell": 50.0, "learner_node": 70.0})
    lines = table("finetune", ["rclpy", "inril"], {"rclpy": [slow], "inril": [fast]}).splitlines()
    rows = {line[:24].strip(): line[24:].split() for line in lines}
    assert rows["arbiter_node"] == ["6.00", "3.00"]
    assert rows["all but cell, learner"] == ["10.00", "4.00"]
    assert rows["control steps/s"] == ["20.00", "40.00"]
    assert "0.40" in lines[-2] and "2.00" in lines[-1]
