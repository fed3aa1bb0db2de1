"""Pins: a report that names policies before unsealing, claims what its interval does not, or hides a departure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.evaluation.session.analysis import analyse
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.gate import decide
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.outcomes import progress_of, read_outcomes
from inril_core.evaluation.session.regression import failed_starts
from inril_core.evaluation.session.report import write_report
from tests.evaluation.session.made import WatchedPointTask, session


@pytest.fixture
def done(tmp_path: Path) -> SessionFolder:
    folder = session(tmp_path)
    run_locally(folder, lambda line: None, WatchedPointTask())
    return folder


def test_a_blind_report_shows_codes_only(done: SessionFolder) -> None:
    html, data = write_report(done)
    for text in (html.read_text(), data.read_text()):
        assert "scripted" not in text and "policy A" in text
    content = json.loads(data.read_text())
    assert content["blind"] and content["comparisons"] == [] and content["policies"][0]["control"] is None
    assert len({p["weights_proof"] for p in content["policies"]}) == 1, "an expert has no weights, which tells its code"
    with pytest.raises(ConfigError, match="is blind"):
        decide(done.root, "raw")


def test_an_unsealed_report_compares_and_passes_the_gate(done: SessionFolder) -> None:
    done.unseal("me", "", 0.0, True)
    html, data = write_report(done)
    page = html.read_text()
    assert "scripted against raw: better" in page and "Clopper-Pearson" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "one file"
    code, text = decide(data, "raw")
    assert code == 0 and "better" in text
    assert decide(done.root, "raw", "scripted")[0] == 0


@pytest.mark.parametrize(
    ("verdict", "code"), [("better", 0), ("worse", 1), ("no relevant gain", 1), ("cannot tell", 2)]
)
def test_the_gate_says_what_the_report_says(done: SessionFolder, verdict: str, code: int) -> None:
    done.unseal("me", "", 0.0, True)
    _, data = write_report(done)
    content = json.loads(data.read_text())
    content["comparisons"][0]["verdict"] = verdict
    data.write_text(json.dumps(content))
    assert decide(data, "raw")[0] == code
    content["finished"] = False
    data.write_text(json.dumps(content))
    assert decide(data, "raw")[0] == 2, "a fixed number of trials is not judged before its end"


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.pop("comparisons"),
        lambda c: c.update(kind="else"),
        lambda c: c["comparisons"][0].update(verdict="splendid"),
        lambda c: c["comparisons"][0].update(difference_interval=[0.1]),
        lambda c: c["comparisons"][0].update(p_value=float("nan")),
        lambda c: c.update(policies=[{"name": 3}]),
        lambda c: c.update(finished="yes"),
        lambda c: c["comparisons"][0].update(difference="0.5"),
        lambda c: c["comparisons"][0].update(difference_interval=["0.1", "0.2"]),
        lambda c: c["comparisons"][0].update(p_value=10**400),
        lambda c: c["comparisons"][0].update(p_value=-0.5),
        lambda c: c["comparisons"][0].update(policy="\ud800"),
        lambda c: c.update(schema_version=2),
        lambda c: c["policies"][0].update(weights_proof="NOT PROVEN: trials [3]"),
    ],
)
def test_the_gate_trusts_no_damaged_report(done: SessionFolder, damage) -> None:
    done.unseal("me", "", 0.0, True)
    _, data = write_report(done)
    content = json.loads(data.read_text())
    damage(content)
    data.write_text(json.dumps(content))
    with pytest.raises(ConfigError):
        decide(data, "raw")
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(ConfigError, match="no report"):
        decide(data, "raw")


def test_both_words_on_a_trial_are_kept(done: SessionFolder) -> None:
    first = read_outcomes(done)[0]
    done.label(first.number, not first.success, "" if not first.success else "dropped", "ann", 1.0)
    again = read_outcomes(done)[0]
    assert again.success is not first.success and again.automatic is first.automatic
    summary = next(s for s in analyse(done, read_outcomes(done)).summaries if s.code == first.trial.code)
    assert (summary.labels_agree, summary.labels_differ) == (0, 1)
    with pytest.raises(ConfigError, match="one of missed, dropped"):
        done.label(0, False, "fell", "ann", 1.0)
    with pytest.raises(ConfigError, match="has no result"):
        done.label(99, True, "", "ann", 1.0)


def test_names_before_the_end_are_a_deviation(tmp_path: Path) -> None:
    folder = session(tmp_path)

    class Enough(Exception):
        pass

    def stop_at_8(line: str) -> None:
        if line.startswith("trial 8 "):
            raise Enough

    with pytest.raises(Enough):
        run_locally(folder, stop_at_8)
    with pytest.raises(ConfigError, match="8 of 24 trials are done"):
        folder.unseal("me", "", 0.0, False)
    folder.unseal("me", "the arm broke", 0.0, False)
    html, data = write_report(folder)
    assert "the arm broke" in html.read_text() and "unsealed after 8 of 24" in html.read_text()
    assert decide(data, "raw")[0] == 2


def test_rates_are_those_of_the_ledger(done: SessionFolder) -> None:
    done.unseal("me", "", 0.0, True)
    found = analyse(done, read_outcomes(done))
    by_code = {s.code: s for s in found.summaries}
    for code in done.plan.codes:
        own = [r for n, r in done.done.items() if done.plan.trials[n].code == code]
        assert by_code[code].successes == sum(r.success for r in own) and by_code[code].trials == 12
        assert sum(n for tags in by_code[code].failures.values() for n in tags.values()) == 12 - by_code[code].successes
    assert found.summaries[0].control and found.summaries[0].name == "raw"


def test_starts_that_failed_are_run_again(done: SessionFolder, tmp_path: Path) -> None:
    failed = failed_starts([done.root])
    seeds = {o.trial.seed for o in read_outcomes(done) if not o.success}
    assert failed == {"full": sorted(seeds)} and seeds
    (tmp_path / "again").mkdir()
    again = session(tmp_path / "again", seeds=failed)
    assert {t.seed for t in again.plan.trials} == seeds


def test_progress_and_time_are_the_task_s_and_not_the_machine_s(tmp_path: Path) -> None:
    """Pins: a lockstep simulation whose pace was reported as the policy's, and a near miss that counted as nothing."""
    contract = load_contract("insert_leg")
    rows = np.zeros((3, contract.observation_size), np.float32)
    place = contract.slices()["tip_in_hole_m"]
    rows[:, place] = [[0.0, 0.0, 0.1], [0.0, 0.0, 0.05], [0.0, 0.0, -0.01]]
    assert [progress_of(contract, rows[:n]) for n in (1, 2, 3)] == pytest.approx([0.0, 0.25, 0.75], abs=1e-6)
    rows[2, place] = [0.05, 0.0, -0.01]
    assert progress_of(contract, rows) == pytest.approx(0.25, abs=0.01), "beside the hole is not in it"
    folder = session(tmp_path)
    run_locally(folder, lambda line: None, WatchedPointTask())
    summaries = analyse(folder, read_outcomes(folder)).summaries
    for summary in summaries:
        own = [o for o in read_outcomes(folder) if o.trial.code == summary.code]
        steps = np.median([o.result.steps for o in own if o.success]) if summary.successes else None
        if steps is not None:
            assert summary.time_to_success_s is not None and summary.time_to_success_s[0] == pytest.approx(steps / 10)
    assert all(s.progress is None or 0.0 <= s.progress <= 1.0 for s in summaries)
