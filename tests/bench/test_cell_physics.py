"""Pins: the comparison of the cell's physics compares it with itself, or counts what it does not say."""

from __future__ import annotations

import numpy as np
import pytest

from inril_core.bench.cell_physics import Run, compared, reference_env, run_both, tracking
from inril_core.contract import load_contract
from inril_core.experts.scripted.base import scripted_expert
from inril_core.tasks.families.cell import CellEnv

CONTRACT = load_contract("insert_leg")


def test_the_reference_is_finer_and_as_stiff() -> None:
    now, reference = CellEnv(CONTRACT).cell.model, reference_env(CONTRACT).cell.model
    assert reference.opt.timestep < now.opt.timestep and reference.opt.tolerance < now.opt.tolerance
    assert reference.mesh("peg").vertnum > now.mesh("peg").vertnum
    pads = [model.geom("finger1_pad").solref for model in (now, reference)]
    stiffness = [1.0 / (time_s * ratio) ** 2 for time_s, ratio in pads]
    assert stiffness[0] == pytest.approx(stiffness[1])
    for model in (now, reference):  # the same limits, by whichever means
        limits = np.where(model.jnt_actfrclimited[:9, None], model.jnt_actfrcrange[:9], model.actuator_forcerange)
        assert limits[:, 1].tolist() == [30.0] * 4 + [12.0] * 3 + [50.0] * 2


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


def test_tracking_is_nearer_to_fine_steps_than_the_reference_is() -> None:
    found = tracking(CONTRACT, 3)
    assert found["now_off_mm"][-1] < found["reference_off_mm"][-1]
