"""Pins: files of a session that were damaged, forged or never written whole, and words that try to leave their place.

Nothing that was done is lost, the message says what to do, and no code's policy is shown.
"""

from __future__ import annotations

import io
import json
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.session import folder as folder_module
from inril_core.evaluation.session import make
from inril_core.evaluation.session.analysis import UNPROVEN, analyse
from inril_core.evaluation.session.folder import LABELS, LOCKED_PLANS, SessionFolder, amend
from inril_core.evaluation.session.gate import decide
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.outcomes import TRACES, read_outcomes
from inril_core.evaluation.session.plan import Plan
from inril_core.evaluation.session.report import write_report
from inril_core.files import append_line
from inril_core.session.ledger import Ledger
from tests.evaluation.session.made import WatchedPointTask, session, wish
from tests.evaluation.session.test_plan import change

LIMITED = """
import resource, sys
from pathlib import Path
from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.report import write_report
from tests.evaluation.session.made import WatchedPointTask

folder = SessionFolder(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    if sys.argv[2] == "run":
        run_locally(folder, lambda line: None, WatchedPointTask())
    elif sys.argv[2] == "label":
        for _ in range(100):
            folder.label(0, False, "dropped", "ann", 1.0)
    else:
        write_report(folder)
except (ConfigError, OSError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
"""As on a disk that is full: no file may grow beyond so many bytes."""


@pytest.fixture
def done(tmp_path: Path) -> SessionFolder:
    folder = session(tmp_path, starts={"full": 4})
    run_locally(folder, lambda line: None, WatchedPointTask())
    return folder


def on_a_full_disk(folder: SessionFolder, what: str, limit: int) -> str:
    command = [sys.executable, "-c", LIMITED, str(folder.root), what, str(limit)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1, ended
    return ended.stderr


def test_a_disk_that_fills_loses_no_trial_and_no_word(tmp_path: Path) -> None:
    folder = session(tmp_path, starts={"full": 4})
    said = on_a_full_disk(folder, "run", 1500)
    assert "ConfigError" in said and "free some space and run it again" in said
    kept = {number: result.episode_id for number, result in folder.done.items()}
    assert 0 < len(kept) < 8 and folder.problems == []
    run_locally(folder, lambda line: None, WatchedPointTask())
    assert {n: r.episode_id for n, r in folder.done.items() if n in kept} == kept
    assert [r.index for r in folder.results] == list(range(8)) and folder.problems == []

    said = on_a_full_disk(folder, "label", 1500)
    assert "ConfigError" in said and "free some space" in said
    assert folder.problems == [] and read_outcomes(folder)[0].tag == "dropped"

    write_report(folder)
    before = (folder.root / "report.html").read_bytes(), (folder.root / "report.json").read_bytes()
    assert "OSError" in on_a_full_disk(folder, "report", 1500)
    assert ((folder.root / "report.html").read_bytes(), (folder.root / "report.json").read_bytes()) == before


def test_a_plan_whose_digest_was_computed_anew_is_refused_until_it_is_amended(done: SessionFolder) -> None:
    """Whoever changed plan.json and its digest changed the plan after the trials, and no report said so."""
    path, locked = done.paths.evaluation_plan, done.plan.digest
    change(done.root, lambda plan: plan.update(confidence=0.9))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "digest": Plan.model_validate(content["plan"]).digest}))
    with pytest.raises(ConfigError, match="its digest with it; put back the digest.*evaluate amend"):
        SessionFolder(done.root)
    path.write_text(json.dumps({**content, "digest": next((done.root / LOCKED_PLANS).iterdir()).stem}))
    assert amend(done.root, "a slip", "me", 1.0) == ["confidence"]
    assert [d.what for d in SessionFolder(done.root).deviations] == ["confidence changed"]
    assert SessionFolder(done.root).plan.digest != locked


def test_a_change_that_is_killed_half_way_is_on_record(done: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan was locked first: killed then, it was another one and no deviation said so."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    change(done.root, lambda plan: plan.update(confidence=0.9))
    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "lock_plan", killed)
        with pytest.raises(Killed):
            amend(done.root, "a slip", "me", 1.0)
    assert [d.what for d in done.deviations] == ["confidence changed"]
    amend(done.root, "a slip", "me", 2.0)
    assert SessionFolder(done.root).plan.confidence == 0.9


def test_a_label_by_somebody_who_knows_the_names_is_a_deviation(done: SessionFolder) -> None:
    done.label(0, False, "dropped", "ann", 1.0)
    assert done.deviations == []
    done.unseal("me", "", 2.0, True)
    done.label(1, True, "", "ann", 3.0)
    done.label(1, None, "", "ann", 4.0)
    assert [d.what for d in done.deviations] == [
        "trial 1 labelled success when the names were known",
        "trial 1 labelled unknown when the names were known",
    ]
    assert "when the names were known" in write_report(done)[0].read_text()
    assert "deviations from the plan, which the report names: 2" in decide(done.root, "raw")[1]


def npz(**arrays: object) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


ROW = np.zeros((1, 3))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        npz(tool_position_m=ROW, qpos=ROW, progress=[])[:-40],
        npz(tool_position_m=ROW, qpos=ROW, progress=[]).replace(b"\x4b\x01", b"\xff\xff", 1),
        npz(tool_position_m=ROW, qpos=ROW),
        npz(tool_position_m=ROW[:0], qpos=ROW, progress=[]),
        npz(tool_position_m=ROW[0], qpos=ROW, progress=[]),
        npz(tool_position_m=np.full((2, 3), np.nan), qpos=ROW, progress=[]),
        npz(tool_position_m=ROW, qpos=ROW, progress=[np.nan]),
        npz(tool_position_m=ROW, qpos=ROW[0], progress=[]),
        npz(tool_position_m=np.array([["a", "b", "c"]]), qpos=ROW, progress=[]),
    ],
)
def test_a_damaged_trace_costs_its_picture_and_not_the_report(done: SessionFolder, content: bytes) -> None:
    path = done.root / TRACES / f"{done.done[0].episode_id}.npz"
    path.write_bytes(content)
    outcome = read_outcomes(done)[0]
    assert isinstance(outcome.trace, str) and "is not readable" in outcome.trace
    assert outcome.success == done.done[0].success
    write_report(done)


def test_a_result_of_another_start_does_not_count(done: SessionFolder) -> None:
    first = done.done[0]
    ledger = Ledger(done.paths.session)
    ledger.append(replace(first, episode_id="forged", seed=first.seed + 1, success=not first.success))
    ledger.append(replace(first, episode_id="beyond", index=99))
    assert done.done[0] == first and 99 not in done.done
    page = write_report(done)[0].read_text()
    assert f"a result of trial 0 from start {first.seed + 1}; the plan has start {first.seed}" in page
    assert "a result of trial 99; the plan has 8" in page


def test_a_label_of_an_unknown_episode_is_named(done: SessionFolder) -> None:
    word = {"trial": 0, "episode_id": "elsewhere", "success": False, "tag": "", "by": "ann", "unix_s": 1.0}
    append_line(done.root / LABELS, word)
    assert all(outcome.label is None for outcome in read_outcomes(done))
    assert "a label of episode elsewhere, which is no attempt of this session" in write_report(done)[0].read_text()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000])
def test_numbers_that_are_none_cost_their_line_alone(done: SessionFolder, number: str) -> None:
    line = done.paths.session.read_bytes().splitlines(keepends=True)[0]
    with done.paths.session.open("ab") as file:
        file.write(re.sub(rb'"duration_s":[^,]+', f'"duration_s":{number}'.encode(), line))
    with (done.root / LABELS).open("ab") as file:
        file.write(f'{{"trial":0,"episode_id":"x","success":true,"tag":"","by":"a","unix_s":{number}}}\n'.encode())
    assert len(done.done) == 8 and len(done.problems) == 2
    html, data = write_report(done)
    assert "line 9" in html.read_text()
    json.loads(data.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in the report"))


def test_what_people_write_stays_text(done: SessionFolder) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 7 * 7 }}\u202e"
    done.note_deviation(attack, attack, attack, 1.0)
    done.label(0, False, "dropped", attack, 1.0)
    first = done.done[1]
    Ledger(done.paths.session).append(replace(first, source=attack, reason=attack, success=False))
    with (done.root / LABELS).open("ab") as file:
        file.write(json.dumps({"tag": attack}).encode() + b"\n")
    for unseal in (False, True):
        if unseal:
            done.unseal(attack, "", 1.0, True)
        html, data = write_report(done)
        page = html.read_text()
        assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page and "7 * 7" in page
        json.loads(data.read_text())


def test_weights_that_are_not_proven_are_said_without_their_code(done: SessionFolder) -> None:
    number, result = next((n, r) for n, r in done.done.items() if r.version_n >= 0)
    Ledger(done.paths.session).append(replace(result, version_n=7))
    proofs = {s.weights_proof for s in analyse(done, read_outcomes(done)).summaries}
    assert len(proofs) == 1 and UNPROVEN in proofs.pop()
    done.unseal("me", "", 1.0, True)
    shown = {s.code: s.weights_proof for s in analyse(done, read_outcomes(done)).summaries}
    assert f"{UNPROVEN}: trials [{number}]" in shown[done.plan.trials[number].code]
    assert sum(UNPROVEN in proof for proof in shown.values()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"starts": {"full": 9_999_999}},
        {"starts": {"full": 10_000}, "repetitions": 1000},
        {"starts": {"full": 5000, "narrow": 5000}, "repetitions": 6},
    ],
)
def test_a_plan_larger_than_anybody_runs_is_refused_before_it_is_drawn(
    tmp_path: Path, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand repetitions of ten thousand starts filled the memory."""
    monkeypatch.setattr(make, "order", lambda *_: pytest.fail("drawn"))
    with pytest.raises(ConfigError, match="trials on .* starts: at most 100000 trials and 10000 .* give fewer"):
        make.make_session(tmp_path / "s", wish(tmp_path, **changes))


def test_a_session_that_could_not_be_made_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = wish(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(ConfigError, match="free some space, or give another folder"):
            make.make_session(tmp_path / "s", asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(ConfigError, match="there is no plan; make one with"):
        SessionFolder(tmp_path / "s")
    make.make_session(tmp_path / "s", asked)
    assert SessionFolder(tmp_path / "s").begun == []
