"""Pins: simulation said to agree with reality where it does not, or policies and starts that are mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.make import make_session
from inril_core.evaluation.sim_to_real.compare import compare, write_comparison
from tests.evaluation.session.made import WatchedPointTask, wish


def ran(root: Path, tmp_path: Path, **changes: object) -> SessionFolder:
    make_session(root, wish(tmp_path, **changes))
    folder = SessionFolder(root)
    run_locally(folder, lambda line: None, WatchedPointTask())
    return folder


def code_of(folder: SessionFolder, name: str) -> str:
    return next(code for code, subject in folder.sealed.subjects.items() if subject.name == name)


def test_the_same_cell_agrees_with_itself_and_a_label_makes_it_differ(tmp_path: Path) -> None:
    real, simulated = ran(tmp_path / "real", tmp_path), ran(tmp_path / "sim", tmp_path)
    with pytest.raises(ConfigError, match="is blind"):
        compare(real, simulated)
    real.unseal("me", "", 0.0, True)
    simulated.unseal("me", "", 0.0, True)
    compared = compare(real, simulated)
    assert compared.ranked_alike and compared.agreement.mean_maximum_rank_violation == 0.0
    assert compared.by_level == {"full": (24, 24)}
    scripted, raw = compared.policies
    assert scripted.name == "scripted" and raw.name.startswith("raw (") and scripted.real == 1.0 > raw.real
    assert (scripted.same_n, scripted.only_real_n, scripted.only_simulated_n) == (12, 0, 0)

    code = code_of(simulated, "scripted")
    for number, trial in enumerate(simulated.plan.trials):
        if trial.code == code:
            simulated.label(number, False, "", "me", 0.0)
    code = code_of(simulated, "raw")
    for number, trial in enumerate(simulated.plan.trials):
        if trial.code == code:
            simulated.label(number, True, "", "me", 0.0)
    compared = compare(real, simulated)
    assert not compared.ranked_alike and compared.agreement.mean_maximum_rank_violation > 0.5
    assert compared.policies[0].only_real_n == 12 and compared.by_level["full"][0] < 6
    text = write_comparison(tmp_path / "out", compared)
    assert "NOT ranked alike" in text and (tmp_path / "out" / "comparison.png").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["ranked_alike"] is False


def test_further_simulated_trials_narrow_the_real_rate(tmp_path: Path) -> None:
    more = ran(tmp_path / "more", tmp_path, starts={"full": 40}, first_seed=5000)
    real, simulated = ran(tmp_path / "real", tmp_path), ran(tmp_path / "sim", tmp_path)
    for folder in (more, real, simulated):
        folder.unseal("me", "", 0.0, True)
    for policy in compare(real, simulated, more).policies:
        if policy.powered is None:
            assert policy.real in (0.0, 1.0), "an interval without width would claim too much"
        else:
            assert policy.powered.interval.low <= policy.real <= policy.powered.interval.high


def test_sessions_of_other_policies_are_refused(tmp_path: Path) -> None:
    real = ran(tmp_path / "real", tmp_path)
    other = ran(tmp_path / "sim", tmp_path, subjects={"scripted": "expert"}, control="scripted")
    for folder in (real, other):
        folder.unseal("me", "", 0.0, True)
    with pytest.raises(ConfigError, match="share 1 policies"):
        compare(real, other)


def test_a_correlation_that_is_none_is_null_and_not_nan(tmp_path: Path) -> None:
    """comparison.json held NaN, which is no JSON."""
    twins = {"scripted": "expert", "twin": "expert"}
    folders = [ran(tmp_path / name, tmp_path, subjects=twins, control="twin") for name in ("real", "sim")]
    for folder in folders:
        folder.unseal("me", "", 0.0, True)
    text = write_comparison(tmp_path / "out", compare(*folders))
    assert "Pearson none" in text
    written = (tmp_path / "out" / "comparison.json").read_text()
    found = json.loads(written, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["agreement"]["pearson"] is None


def test_a_session_is_not_compared_with_itself(tmp_path: Path) -> None:
    real = ran(tmp_path / "real", tmp_path)
    real.unseal("me", "", 0.0, True)
    (tmp_path / "link").symlink_to(real.root)
    with pytest.raises(ConfigError, match="is there twice"):
        compare(real, SessionFolder(tmp_path / "link"))


def test_sessions_of_different_tasks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies called alike and starts with the same numbers were compared across tasks."""
    twins = {"scripted": "expert", "twin": "expert"}
    real, simulated = (ran(tmp_path / name, tmp_path, subjects=twins, control="twin") for name in ("real", "sim"))
    for folder in (real, simulated):
        folder.unseal("me", "", 0.0, True)
    simulated.plan = simulated.plan.model_copy(update={"interface_digest": "0" * 64})
    with pytest.raises(ConfigError, match="of different tasks; give those of one plan"):
        compare(real, simulated)
