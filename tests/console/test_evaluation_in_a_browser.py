"""Pins: an evaluation whose operator cannot say at the page why a trial failed, or learns there which policy it was.

Real nodes without a recorder, driven by Chromium; `INRIL_PICTURES=docs/assets` keeps the picture of docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.evaluation.session.report import write_report
from inril_core.session.ledger import EpisodeResult
from inril_core.session.trials import SAFETY_STOP
from tests.console.cell import OneProcess
from tests.console.test_in_a_browser import Desk, contract_with_pictures, still_policy

pytestmark = pytest.mark.timeout(2400)
SECRET = "unmistakable"
"""In the name of each policy."""


@pytest.fixture
def desk(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("INRIL_KEY", str(tmp_path / "weights.key"))
    contract = contract_with_pictures(tmp_path)
    subjects = {}
    for number, name in enumerate((f"{SECRET}-clone", f"{SECRET}-tuned")):
        still_policy(contract, tmp_path / f"{number}.inril", seed=number)
        subjects[name] = str(tmp_path / f"{number}.inril")
    tags = ("missed", "dropped", "wrong pose")
    wish = Wish(str(contract), subjects, f"{SECRET}-clone", {"full": 4}, 0.3, failure_tags=tags)
    make_session(tmp_path / "run", wish)
    settings = {"evaluation": True, "keep_packs": 32, "initial_weights": ""}
    with OneProcess(tmp_path, contract=str(contract), **settings) as graph:
        graph.until(lambda: graph.status("session") and graph.status("robot"), "session and arm")
        yield Desk(graph, browser)


def test_an_operator_fails_a_trial_says_why_and_changes_the_word(desk: Desk) -> None:
    graph = desk.graph
    told: list[str] = []
    with desk.page("Ada") as ada:
        ada.on("websocket", lambda socket: socket.on("framereceived", lambda text: told.append(str(text)[:100_000])))
        ada.reload()
        desk.shows(ada, "#lamp-connection", "Connected")
        asked: set[tuple[str, int]] = set()

        def by_ada() -> EpisodeResult | None:
            found = next((r for r in graph.results() if r.valid and r.source == "Ada"), None)
            now = graph.status("session").episode_id, desk.errors(ada)
            if found is None and now not in asked and desk.works(ada, "[data-word=failure]"):
                asked.add(now)  # again for another attempt, or where the page said that it failed
                ada.keyboard.press("2")
            return found

        with desk.keeps(desk.armed, ada):
            desk.until(by_ada, "a trial that Ada failed")
            failed = by_ada()
            assert failed is not None and not failed.success
            desk.shows(ada, "#trial-text", f"Trial {failed.index}: ✗ failure, says Ada.")
            says(desk, ada, failed, "dropped")
            desk.picture(ada, "console_evaluation")
            says(desk, ada, failed, "missed")

        def stopped() -> EpisodeResult | None:
            found = next((r for r in graph.results() if r.valid and r.reason.startswith(SAFETY_STOP)), None)
            if found is None and desk.armed(ada) and graph.status("session").state == "running":
                ada.keyboard.press("Space")
            return found

        desk.until(stopped, "a trial that a stop ended")
        desk.shows(ada, "#trial-text", "✗ failure: safety stop, says the arm's safety.")
        assert any('"kind":"episodes"' in text for text in told)
        assert not [text for text in told if SECRET in text] and SECRET not in ada.content()

    page, _ = write_report(SessionFolder(graph.paths.root))
    shown = page.read_text()
    assert '<td class="text">missed</td>' in shown and '<td class="text">safety stop</td>' in shown
    assert '<td class="text">dropped</td>' not in shown, "the newest word counts"


def says(desk: Desk, page: Any, trial: EpisodeResult, tag: str) -> None:
    """By keys, into the evaluation's folder; again where a fault came between."""

    def said() -> bool:
        label = SessionFolder(desk.graph.paths.root).labels.get(trial.episode_id)
        if label is not None and label.tag == tag:
            assert (label.trial, label.success, label.by) == (trial.index, False, "Ada")
            return True
        if page.is_enabled("#said") and page.input_value("#said") == "":
            page.keyboard.press("8")
            page.select_option("#said", label=f"failure: {tag}")
            page.keyboard.press("Enter")
        return False

    desk.until(said, f"the tag {tag} on disk")
    desk.shows(page, "#trial-text", f"Trial {trial.index}: ✗ failure: {tag}, says Ada.")
    desk.until(lambda: desk.said(page, f"{trial.episode_id} is labelled failure, {tag}"), "a notice")
