"""Pins: the comparison of the cell's physics compares it with itself, or counts what it does not say."""

from __future__ import annotations

import numpy as np

from inril_core.bench.cell_physics import Run, compared, reference_env, run_both, tracking
from inril_core.contract import load_contract
from inril_core.experts.scripted.base import scripted_expert
from inril_core.tasks.families.cell import CellEnv

CONTRACT = load_contract("insert_leg")


def test_the_reference_solves_finer_and_is_else_the_same() -> None:
    now, reference = CellEnv(CONTRACT).cell.model, reference_env(CONTRACT).cell.model
    assert reference.opt.tolerance < now.opt.tolerance and reference.opt.disableflags == 0
    assert reference.mesh("peg").vertnum > now.mesh("peg").vertnum
    assert reference.opt.timestep == now.opt.timestep
    assert np.array_equal(reference.geom_solref, now.geom_solref)


def test_both_run_the_same_starts_and_depths_are_those_of_a_soft_contact() -> None:
    runs = {"reference": Run(reference_env(CONTRACT)), "now": Run(CellEnv(CONTRACT))}
    expert = scripted_expert(CONTRACT)
    ratios = run_both(runs, range(40_000, 40_002), lambda _: lambda observation, step: expert.act(observation))
    assert len(ratios) == 1 and ratios[0] > 0.0
    assert compared(runs["now"], runs["reference"])["now"][:2] == [2, 2]
    for run in runs.values():
        assert 250.0 < np.median(run.depths_um["pads"]) < 360.0
        assert run.depths_um["peg"] and len(run.force_n) > 0


def test_differing_starts_are_counted_by_side() -> None:
    now, reference = Run(CellEnv(CONTRACT)), Run(CellEnv(CONTRACT))
    now.successes, reference.successes = [True, True, False, True], [True, False, True, False]
    found = compared(now, reference)
    assert found["differing_starts"] == [2, 1] and found["difference"][0] == 0.25


def test_the_arm_in_the_air_goes_where_the_reference_takes_it() -> None:
    found = tracking(CONTRACT, 3)
    assert np.allclose(found["now_off_mm"], found["reference_off_mm"], atol=0.2)
