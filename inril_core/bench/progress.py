"""How far a bench is: a bar on a terminal, otherwise one line per finished run."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from inril_core.bench.job import Job, Line


class Progress:
    """Counts in environment steps, which runs report on their way. Use as a context manager.

    Args:
        jobs: to be done. done: number of runs that were there already.
    """

    def __init__(self, jobs: Sequence[Job], done: int) -> None:
        self._console = Console()
        self._left, self._total = len(jobs), len(jobs) + done
        self._steps: dict[tuple[str, str, int], int] = {}
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=3600.0,
        )
        self._item = self._bar.add_task(self._title(), total=sum(_budget(job.config) for job in jobs))

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def at(self, job: Job, steps: int) -> None:
        """A run is at so many environment steps."""
        self._set((job.task, job.method, job.seed), min(steps, _budget(job.config)))

    def finished(self, line: Line) -> None:
        """A run is over."""
        self._left -= 1
        self._set((line["task"], line["method"], line["seed"]), _budget(line["config"]))
        self._bar.update(self._item, description=self._title())
        text = f"[{self._total - self._left}/{self._total}] {summary(line)}"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _set(self, key: tuple[str, str, int], steps: int) -> None:
        self._steps[key] = max(steps, self._steps.get(key, 0))
        self._bar.update(self._item, completed=sum(self._steps.values()))

    def _title(self) -> str:
        return f"run {self._total - self._left} of {self._total}"


def summary(line: Line) -> str:
    """One finished run in one line."""
    name = f"{line['task']} {line['method']} seed {line['seed']}"
    if line["error"] is not None:
        return f"{name}: FAILED: {line['error']}"
    first, last = (f"{line[f'{k}_successes']}/{line[f'{k}_episodes']}" for k in ("start", "final"))
    return f"{name}: {first} -> {last}, {line['wall_s']:.0f} s"


def _budget(config: object) -> int:
    steps: int = config["schedule"]["budget_steps"]  # type: ignore[index]
    return steps
