"""Pins: a page of results whose ratios are not of the same round, or that hides what was not measured."""

import math

from inril_bringup.weights_benchmark import policy_of
from inril_bringup.weights_report import Measured, page, verdict


def measured() -> dict[int, Measured]:
    ways = {"socket": [10.0, 20.0], "socket_sha256": [30.0, 60.0], "dds": [40.0, 80.0], "link": [12.0, 24.0], "tcp": []}
    return {size: Measured(size << 20, ways, [1.0], [2.0], [3.0]) for size in (4, 16)}


def test_ratios_are_of_the_same_round_and_what_is_missing_is_said():
    lines = page(measured(), ["--rounds", "2"], 2).splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert "18.0 (12.0 to 24.0), x1.20" in rows["inril, one file system"]
    assert "not measured" in rows["inril, other file system or host"]
    assert "x" not in rows["raw socket"]
    assert "`python -m inril_bringup.weights_benchmark --rounds 2`" in lines[2]


def test_the_bound_is_judged_from_16_mb_on():
    assert verdict(measured()) == "16 MB, inril, one file system: x1.20, within 1.3"


def test_a_policy_of_so_many_mb_has_about_so_many():
    for size_mb in (1, 16):
        numbers = sum(tensor.numel() for tensor in policy_of(size_mb, 27).state_dict().values())
        assert math.isclose(4 * numbers, size_mb << 20, rel_tol=0.05)
