"""The file of results: one JSON line per run, added as soon as the run is over, owned by one bench at a time."""

import fcntl
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from inril_core.bench.job import Job, Line, line_digest
from inril_core.errors import ConfigError
from inril_core.files import read_lines

RESULTS = frozenset(
    ("start", "start_successes", "final_successes", "curve", "train", "cosines", "updates", "env_steps")
    + ("first_update_step", "capped", "fine_tune_s", "learner_s", "updates_per_s", "code", "machine")
)
"""What every line of a run that did not fail has beside its settings."""
_ROUNDED_S = 0.1  # of the times in a line


class LinesFile:
    """The lines of an experiment, opened to add to. Use as a context manager.

    A last line that an interruption tore is cut off when the file is opened.

    Raises:
        ConfigError: it cannot be written, another bench holds it, or a line before the last is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error}; fix that, or give another --out") from error
        try:
            # on the file itself: the kernel lets go of it when this process ends, however it ends
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(f"{path}: another bench is writing to it; wait for it, or give another --out") from error
        self._cut_torn_line()
        self.lines: list[dict[str, Any]] = read_lines(path, dict)

    def __enter__(self) -> "LinesFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def append(self, line: Line) -> None:
        """Add a line and flush it to disk.

        Raises:
            ConfigError: the disk is full or gone; of the line nothing is left behind.
        """
        left, end = compact(line).encode() + b"\n", self._file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise ConfigError(
                f"{self.path}: a finished run could not be written: {error}; fix that, and the same command goes on "
                "with this run"
            ) from error
        self.lines.append(line)

    def _cut_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        end = content.rfind(b"\n") + 1
        if end == len(content):
            return
        try:
            json.loads(content[end:])
            self._file.write(b"\n")  # whole, an editor took its line end
        except ValueError:
            self._file.truncate(end)


def compact(line: Line) -> str:
    """One JSON line: no blanks, floats to six significant digits, NaN and infinity as null."""
    return json.dumps(_rounded(line), separators=(",", ":"), allow_nan=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_all(paths: Sequence[Path]) -> list[Line]:
    """The lines of some files, in order; a file that does not exist (yet) has none."""
    return [line for path in paths if path.exists() for line in read_lines(path, dict)]


class Known:
    """Finished lines by what they were made with. A later line of the same settings replaces an earlier one, except
    that a failure never replaces a result. One that lacks settings or results (edited by hand) is as if not there."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines: dict[tuple[str, str | None], Line] = {}
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Take in one more."""
        digest = line_digest(line)
        if digest is None or not {"task_digest", "error"} <= line.keys():
            return
        if line["error"] is None and not line.keys() >= RESULTS:
            return
        for key in ((digest, line["task_digest"]), (digest, None)):
            if line.get("error") is None or self._lines.get(key, line).get("error") is not None:
                self._lines[key] = line

    def of(self, job: Job) -> Line | None:
        """The line of a job, under the job's name for the method. One that was stopped does not count where there is
        more time now."""
        line = self._lines.get((job.digest, job.task_digest))
        cap_s = math.inf if job.cap_s is None else job.cap_s
        if line is None or (line.get("capped") and line["fine_tune_s"] + _ROUNDED_S < cap_s):
            return None
        return {**line, "method": job.method}
