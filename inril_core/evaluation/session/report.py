"""`report.html` and `report.json` of an evaluation session."""

from __future__ import annotations

import json
from pathlib import Path

from inril_core.evaluation.report import page_environment
from inril_core.evaluation.session import pictures
from inril_core.evaluation.session.analysis import Analysis, analyse, as_json, contract_of
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.outcomes import read_outcomes
from inril_core.files import write_atomically

PAGE, DATA = "report.html", "report.json"


def write_report(folder: SessionFolder) -> tuple[Path, Path]:
    """Write page and data into the session's folder; the page is one file without references to others.

    Raises:
        OSError: the disk is full or broken.
    """
    outcomes = read_outcomes(folder)
    analysis = analyse(folder, outcomes)
    names = {s.code: s.name for s in analysis.summaries}
    failures = [o for o in outcomes if not o.success]
    contract = contract_of(folder)
    page = (
        page_environment()
        .get_template("session/session_page.html")
        .render(
            plan=folder.plan,
            digest=folder.plan.digest,
            analysis=analysis,
            headline=_headlines(analysis),
            deviations=folder.deviations,
            problems=folder.problems,
            done_n=len(folder.done),
            rates=pictures.rates(analysis.summaries) if analysis.summaries else None,
            differences=pictures.differences(analysis.comparisons, folder.plan.question.difference)
            if analysis.comparisons
            else None,
            workspace=pictures.workspace(outcomes, names),
            failures=pictures.failure_pictures(failures, names, contract),
            failed_n=len(failures),
        )
    )
    html, data = folder.root / PAGE, folder.root / DATA
    write_atomically(html, page.encode())
    write_atomically(data, (json.dumps(as_json(folder, analysis), indent=1) + "\n").encode())
    return html, data


def _headlines(analysis: Analysis) -> list[str]:
    """One sentence a comparison: what may be said."""
    lines = []
    for compared in analysis.comparisons:
        result = compared.comparison
        low, high = (round(100 * bound) for bound in result.interval)
        lines.append(
            f"{compared.policy} against {compared.control}: {result.verdict}. "
            f"{round(100 * result.difference):+d} points, {round(100 * compared.confidence, 1):g} % interval "
            f"{low:+d} to {high:+d}."
        )
    return lines
