"""`report.html`: what a run achieved, in one file that opens anywhere."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from inril_core.contract import Contract, contract_from_text
from inril_core.data.episode import Episode
from inril_core.errors import InrilError
from inril_core.evaluation import plots
from inril_core.evaluation.cadence import Cadence, measure, spread
from inril_core.evaluation.curve import WINDOW_EPISODES, Bin, binned_curve
from inril_core.evaluation.headline import (
    GOAL,
    REPORT_NAME,
    any_episode,
    before_and_after,
    learning,
    paired_outcomes,
    push_delays_ms,
    summarise,
    summary,
)
from inril_core.evaluation.intervals import SuccessRate
from inril_core.evaluation.records import RunRecord, find_episode, read_run
from inril_core.evaluation.video import films
from inril_core.files import write_atomically
from inril_core.session.ledger import EpisodeResult

__all__ = ["summary", "write_report"]

BIN_EPISODES, MAX_BINS = 15, 24
MAX_FAILURES_LISTED = 300
_PACKAGES = (
    *("inril", "torch", "numpy", "scipy", "mujoco", "ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp"),
    *("mcap", "safetensors", "av"),
)
_LOSSES = (
    ({"rl_loss": "RL loss"}, "Actor: RL loss"),
    ({"critic_loss": "critic loss"}, "Critic: TD loss"),
    ({"il_loss": "IL loss"}, "Imitation loss on the demonstrations"),
    ({"gradient_cosine": "IL gradient", "step_cosine": "step taken"}, "Cosine with the RL gradient"),
    ({"norm_removed": "share removed"}, "Share of the IL step that the projection removed"),
    ({"q_mean": "Q of the batch", "q_policy": "Q of the policy"}, "Mean Q"),
    ({"entropy": "entropy"}, "Entropy of the policy (nat)"),
    ({"interventions_per_episode": "takeovers"}, "Takeovers per training episode (last 20)"),
    ({"human_share": "share"}, "Share of training steps moved by a person (last 20)"),
    ({"disagreement": "policy minus person"}, "Disagreement of policy and person while a person drives (last 20)"),
)
_THROUGH_ZERO = ("gradient_cosine",)


@dataclass(frozen=True)
class Films:
    """Two films of one start, or why there are none. Texts are for the reader."""

    uris: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    seed: int | None = None
    why: str = ""
    missing: str = ""


def write_report(run_dir: str | Path, wall_s: float | None = None) -> Path:
    """Write `run_dir/report.html`, whole or not at all, and return its path.

    One file without any reference to another: styles, plots (SVG) and films (MP4) are inside. What a run
    lacks, since it was cut short or has no simulator, is named in the page.
    wall_s: of the whole run, if the caller measured it.

    Raises:
        OSError: the folder cannot be written.
    """
    root = Path(run_dir)
    record = read_run(root)
    page = page_environment().get_template("report_template.html").render(_context(record, wall_s))
    path = root / REPORT_NAME
    write_atomically(path, page.encode("utf-8", errors="replace"))
    return path


def page_environment() -> Environment:
    """Where the pages' templates are found, with the filters they use."""
    environment = Environment(
        loader=PackageLoader("inril_core.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points, duration=_duration)
    return environment


def _context(record: RunRecord, wall_s: float | None) -> dict[str, Any]:
    before, after = before_and_after(record)
    episode = any_episode(record)
    contract = _contract(episode)
    bins, evaluations, real_time_from = _curve(record)
    cadence, cadence_missing = _cadence(record)
    return {
        "run_id": record.run_id,
        "notes": record.notes + _unfinished(record),
        "before": None if before is None else before.rate,
        "after": None if after is None else after.rate,
        "paired": paired_outcomes(before, after) if before and after else None,
        "learning": learning(record),
        "goal": GOAL,
        "window": WINDOW_EPISODES,
        "summary": summarise(record, wall_s),
        "films": _films(record),
        "curve": plots.learning_curve(bins, evaluations, real_time_from) if bins or evaluations else None,
        "metric_plots": _metric_plots(record),
        "offers": record.offers,
        "judged": record.judged,
        "refusals": Counter(o.reason or "no reason given" for o in record.offers if not o.accepted).most_common(),
        "push_ms": spread(push_delays_ms(record)),
        "cadence": cadence,
        "cadence_missing": cadence_missing,
        "periods_ms": None if cadence is None else spread(cadence.periods_ms),
        "period_plot": _period_plot(cadence),
        "segments": record.segments,
        "failures": _failures(record),
        "max_failures": MAX_FAILURES_LISTED,
        "contract": contract,
        "facts": _facts(record, episode),
    }


def _contract(episode: Episode | None) -> Contract | None:
    try:
        return None if episode is None else contract_from_text(episode.contract_text)
    except InrilError:
        return None


def _unfinished(record: RunRecord) -> list[str]:
    """Plain words for segments that have not reached what they were planned for."""
    notes = []
    for segment in record.segments:
        parts = segment.name.split(":")
        if len(parts) == 3 and parts[2] in ("episodes", "steps") and parts[1].isdecimal() and len(parts[1]) < 10:
            done = len(segment.valid) if parts[2] == "episodes" else segment.steps
            if done < int(parts[1]):
                notes.append(f"Segment {segment.name} was cut short: {done} of {parts[1]} {parts[2]}.")
    if record.segments and not record.of("eval"):
        notes.append("No evaluation episode was finished, so there is no success rate to report.")
    return notes


def _curve(record: RunRecord) -> tuple[list[Bin], list[tuple[float, SuccessRate]], float | None]:
    """Training in bins, evaluations where they stood, and where real time began; over training steps."""
    ends: list[int] = []
    successes: list[bool] = []
    evaluations: list[tuple[float, SuccessRate]] = []
    real_time_from = None
    done = 0
    for segment in record.segments:
        if segment.purpose == "eval" and segment.rate is not None:
            evaluations.append((float(done), segment.rate))
        if segment.purpose != "train":
            continue
        if segment.real_time and segment.valid:
            real_time_from = float(done)
        for result in segment.valid:
            done += result.steps
            ends.append(done)
            successes.append(result.success)
    bins = min(max(len(ends) // BIN_EPISODES, 1), MAX_BINS)
    return binned_curve(ends, successes, bins), evaluations, real_time_from


def _films(record: RunRecord) -> Films:
    before, after = before_and_after(record)
    if before is None or after is None:
        return Films(missing="Films need an evaluation before and one after fine-tuning.")
    pair, why = _film_pair(before.valid, after.valid)
    if pair is None:
        return Films(missing="No start was evaluated both before and after fine-tuning.")
    episodes = [find_episode(record.root, result.episode_id, images=True) for result in pair]
    lacking = [episode for episode in episodes if isinstance(episode, str)]
    if lacking:
        return Films(missing=lacking[0])
    found = [episode for episode in episodes if isinstance(episode, Episode)]
    try:
        uris = films(found, ("before fine-tuning", "after fine-tuning"))
    except InrilError as error:
        return Films(missing=f"No film: {error}")
    titles = tuple(_film_title(when, result) for when, result in zip(("Before", "After"), pair, strict=True))
    return Films(tuple(uris), titles, pair[0].seed, why)


def _film_pair(
    before: list[EpisodeResult], after: list[EpisodeResult]
) -> tuple[tuple[EpisodeResult, EpisodeResult] | None, str]:
    """The first start that failed before and succeeded after; without one, the first that both ran."""
    earlier = {result.seed: result for result in before}
    pairs = [(earlier[result.seed], result) for result in after if result.seed in earlier]
    for first, second in pairs:
        if second.success and not first.success:
            return (first, second), "the first start that failed before and succeeded after"
    return (
        (pairs[0], "the first start of both evaluations; none failed before and succeeded after")
        if pairs
        else (None, "")
    )


def _film_title(when: str, result: EpisodeResult) -> str:
    return f"{when}: {'succeeded' if result.success else 'failed'} after {result.steps} steps"


def _metric_plots(record: RunRecord) -> list[Markup]:
    shown = []
    for names, title in _LOSSES:
        present = {name: label for name, label in names.items() if any(name in row for row in record.metrics)}
        if present:
            shown.append(plots.series(record.metrics, present, title, zero_line=any(n in _THROUGH_ZERO for n in names)))
    return shown


def _cadence(record: RunRecord) -> tuple[Cadence | None, str]:
    """Measured over all segments at real time, or why it is not."""
    results = [result for segment in record.segments if segment.real_time for result in segment.valid]
    if not results:
        return (
            None,
            "No segment ran in real time (lockstep has no cadence: it goes as fast as the tick closes).",
        )
    found = [find_episode(record.root, result.episode_id) for result in results]
    episodes = [episode for episode in found if isinstance(episode, Episode)]
    lacking = [episode for episode in found if isinstance(episode, str)]
    if not episodes:
        return None, f"The recordings of the real-time segment cannot be read: {lacking[0]}"
    try:
        cadence = measure(episodes, contract_from_text(episodes[0].contract_text))
    except (InrilError, ValueError) as error:
        return None, f"The recordings of the real-time segment do not fit together: {error}"
    return cadence, f"{len(lacking)} recordings are missing: {lacking[0]}" if lacking else ""


def _period_plot(cadence: Cadence | None) -> Markup | None:
    if cadence is None or spread(cadence.periods_ms) is None:
        return None
    return plots.histogram(cadence.periods_ms, cadence.expected_ms, "control period (ms)")


def _failures(record: RunRecord) -> list[tuple[str, list[tuple[str, int]], list[EpisodeResult]]]:
    """Per segment: its title, reasons with counts, and the episodes that failed or did not count."""
    listed = []
    for number, segment in enumerate(record.segments, start=1):
        failed = [r for r in segment.results if not r.success or not r.valid]
        if failed:
            reasons = Counter(_reason(r) for r in failed).most_common()
            listed.append((f"{number}. {segment.name}", reasons, failed))
    return listed


def _reason(result: EpisodeResult) -> str:
    text = f"{result.source}: {result.reason}".strip(": ") or "no reason given"
    return text if result.valid else f"does not count, {text}"


def _facts(record: RunRecord, episode: Episode | None) -> list[tuple[str, str]]:
    facts = [
        ("run folder", str(record.root.absolute())),
        ("machine", f"{platform.machine()}, {os.cpu_count()} CPUs, {_memory()}, {platform.platform()}"),
        ("Python", platform.python_version()),
        ("packages", ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))),
    ]
    if episode is not None:
        facts += [
            ("interface digest", episode.interface_digest),
            ("deployment digest", episode.deployment_digest),
        ]
    spans = [(s.name, [r.seed for r in s.results]) for s in record.segments]
    facts.append(("seeds", "; ".join(f"{name} {min(seeds)} to {max(seeds)}" for name, seeds in spans) or "none"))
    settings = _settings(record.root / "demo.json")
    return [*facts, ("settings of inril demo", settings)] if settings else facts


def _settings(path: Path) -> str:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return ""
    return ", ".join(f"{k} = {v}" for k, v in content.items())[:1000] if isinstance(content, dict) else ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "memory unknown"


def _percent(rate: float) -> str:
    return f"{100.0 * rate:.0f} %"


def _points(difference: float) -> str:
    return f"{100.0 * difference:.0f} points"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
