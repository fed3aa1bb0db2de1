"""What a report shows: rates, differences, where in the workspace it fails, and the failures themselves."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from inril_core.contract import Contract
from inril_core.errors import InrilError
from inril_core.evaluation.plots import FIRST, INK, SECOND, SOFT, STYLE, THIRD, as_svg, new_axes
from inril_core.evaluation.session.analysis import PolicyComparison, PolicySummary
from inril_core.evaluation.session.outcomes import Trace, TrialOutcome
from inril_core.evaluation.video import HEIGHT_PX, WIDTH_PX, banded, encode

if TYPE_CHECKING:
    from inril_core.sim.render import EpisodeRenderer

MAX_FILMS = 6
MAX_SHEET = 24
FRAME_STRIDE = 2


def rates(summaries: Sequence[PolicySummary]) -> Markup:
    """Success of each policy: the exact interval as a bar, Wilson's inside it."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(8.4, 0.7 + 0.55 * len(summaries), "success rate", "")
        for row, summary in enumerate(summaries):
            axes.plot(summary.clopper_pearson, [row, row], color=FIRST, alpha=0.3, lw=11, solid_capstyle="butt")
            axes.plot(summary.wilson, [row, row], color=FIRST, lw=2.5, solid_capstyle="butt")
            axes.plot([summary.rate], [row], "o", color=INK, ms=6, zorder=5)
        axes.set_yticks(range(len(summaries)), [s.name for s in summaries])
        axes.set_ylim(len(summaries) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.tick_params(axis="y", labelcolor=INK)
        return as_svg(figure, "success rates")


def differences(comparisons: Sequence[PolicyComparison], relevant: float) -> Markup:
    """Each policy minus the control; a dashed line at the difference that matters."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(8.4, 0.7 + 0.55 * len(comparisons), "success rate minus the control's", "")
        axes.axvline(0.0, color=SOFT, lw=1.2)
        axes.axvline(relevant, color=THIRD, lw=1.2, ls=(0, (4, 3)))
        for row, compared in enumerate(comparisons):
            axes.plot(compared.comparison.interval, [row, row], color=FIRST, alpha=0.5, lw=9, solid_capstyle="butt")
            axes.plot([compared.comparison.difference], [row], "o", color=INK, ms=6)
        axes.set_yticks(range(len(comparisons)), [c.policy for c in comparisons])
        axes.set_ylim(len(comparisons) - 0.5, -0.5)
        axes.tick_params(axis="y", labelcolor=INK)
        return as_svg(figure, "differences from the control")


def workspace(outcomes: Sequence[TrialOutcome], names: dict[str, str]) -> Markup | None:
    """Where each trial began, seen from above, and how it ended; None where no way was recorded."""
    codes = [c for c in names if any(o.trial.code == c and isinstance(o.trace, Trace) for o in outcomes)]
    if not codes:
        return None
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(codes))
        rows = -(-len(codes) // columns)
        figure = Figure(figsize=(8.6, 3.1 * rows + 0.3), layout="constrained")
        figure.patch.set_alpha(0.0)
        grid = np.array(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)).ravel()
        for axes, code in zip(grid, codes, strict=False):
            axes.patch.set_alpha(0.0)
            axes.set_title(names[code], fontsize=10, color=INK)
            axes.set_aspect("equal")
            axes.tick_params(length=3)
            own = [o for o in outcomes if o.trial.code == code and isinstance(o.trace, Trace)]
            for success, marker, colour, size in ((True, "o", FIRST, 4.0), (False, "X", SECOND, 6.5)):
                starts = [
                    o.trace.tool_position_m[0, :2] for o in own if o.success == success and isinstance(o.trace, Trace)
                ]
                if starts:
                    x, y = np.array(starts).T
                    axes.plot(100 * x, 100 * y, marker, color=colour, ms=size, mew=0, alpha=0.85)
        for axes in grid[len(codes) :]:
            axes.set_visible(False)
        figure.supxlabel("x of the tool at the start, cm", fontsize=10, color=SOFT)
        figure.supylabel("y, cm", fontsize=10, color=SOFT)
        return as_svg(figure, "starts of the trials, from above; circles succeeded, crosses failed")


@dataclass(frozen=True)
class Shown:
    """A failure as a picture or a film."""

    uri: str
    caption: str


@dataclass(frozen=True)
class FailurePictures:
    """Last moment of each failure, and films of the first ones."""

    sheet: tuple[Shown, ...]
    films: tuple[Shown, ...]
    left_out: int
    missing: str
    """Why there are none; empty where there are, or nothing failed."""


def failure_pictures(
    failures: Sequence[TrialOutcome], names: dict[str, str], contract: Contract | None
) -> FailurePictures:
    """Rendered again from the simulator's state; of a real arm the recorded images are in the recordings."""
    if not failures:
        return FailurePictures((), (), 0, "")
    if contract is None:
        return FailurePictures((), (), len(failures), "The task has no cell that could be drawn.")
    drawable = [o for o in failures if isinstance(o.trace, Trace) and o.trace.qpos is not None]
    if not drawable:
        first = failures[0].trace
        why = first if isinstance(first, str) else "the simulator's state was not recorded"
        return FailurePictures((), (), len(failures), f"No pictures: {why}.")
    from inril_core.sim.render import EpisodeRenderer  # loads MuJoCo

    sheet, films = [], []
    renderer = None
    try:
        renderer = EpisodeRenderer(contract, shadows=False)
        for outcome in drawable[:MAX_SHEET]:
            assert isinstance(outcome.trace, Trace) and outcome.trace.qpos is not None
            picture = Image.fromarray(renderer.image(_finite(outcome.trace.qpos)[-1], "close", 320, 240))
            sheet.append(Shown(_jpeg(picture), _caption(outcome, names)))
        for outcome in drawable[:MAX_FILMS]:
            films.append(Shown(_film(renderer, outcome, names, contract.control_rate_hz), _caption(outcome, names)))
    except InrilError as error:
        return FailurePictures(tuple(sheet), tuple(films), len(failures) - len(sheet), f"No more pictures: {error}.")
    finally:
        if renderer is not None:
            renderer.close()
    return FailurePictures(tuple(sheet), tuple(films), len(failures) - len(sheet), "")


def _finite(qpos: np.ndarray) -> np.ndarray:
    """Rows that are known."""
    known = qpos[np.isfinite(qpos).all(1)]
    if not len(known):
        raise InrilError("the simulator's state was not recorded")
    return known


def _caption(outcome: TrialOutcome, names: dict[str, str]) -> str:
    return f"{names[outcome.trial.code]}, start {outcome.trial.seed} ({outcome.trial.level}): {outcome.tag}"


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _film(renderer: EpisodeRenderer, outcome: TrialOutcome, names: dict[str, str], rate_hz: float) -> str:
    from PIL import ImageFont

    assert isinstance(outcome.trace, Trace) and outcome.trace.qpos is not None
    font = ImageFont.load_default(size=16)
    rows = _finite(outcome.trace.qpos)[::FRAME_STRIDE]
    name = f"{names[outcome.trial.code]}, start {outcome.trial.seed}"

    def frames():  # type: ignore[no-untyped-def]
        for step, qpos in enumerate(rows):
            picture = Image.fromarray(renderer.image(qpos, "close", WIDTH_PX, HEIGHT_PX))
            last = step == len(rows) - 1
            text = f"failed: {outcome.tag}" if last else f"step {step * FRAME_STRIDE}"
            frame = banded(picture, name, text, "#c8452f" if last else "#1d232b", font)
            for _ in range(round(rate_hz) if last else 1):
                yield frame

    return "data:video/mp4;base64," + base64.b64encode(encode(frames(), rate_hz)).decode()
