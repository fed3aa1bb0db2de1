"""Lines of many processes on one terminal and in one log file each."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_LINE_END = re.compile(rb"\r\n|\n|\r")
MAX_LINE_BYTES = 1 << 16


class Console:
    """Prints lines with the name of who said them, coloured on a terminal unless NO_COLOR is set."""

    def __init__(self, out: IO[str], names: list[str]) -> None:
        self._out: IO[str] | None = out
        self._width = max((len(name) for name in names), default=0)
        coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._prefix = {name: self._paint(name, index if coloured else None) for index, name in enumerate(names)}

    def _paint(self, name: str, index: int | None) -> str:
        text = f"{name:<{self._width}} |"
        return text if index is None else f"\033[{_COLOURS[index % len(_COLOURS)]}m{text}\033[0m"

    def say(self, name: str, line: str) -> None:
        """Print one line of `name`. A reader that went away (`| head`) ends the printing, not the run."""
        if self._out is None:
            return
        try:
            self._out.write(f"{self._prefix.get(name) or self._paint(name, None)} {line}\n")
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._out = None


class LineLog:
    """Splits what a process prints into lines, for its log file and for the console."""

    def __init__(self, name: str, path: Path, console: Console) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._name, self._console = name, console
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take bytes as they come; whole lines go out, an over-long one in pieces."""
        self._file.write(data)
        *lines, self._rest = _LINE_END.split(self._rest + data)
        if len(self._rest) > MAX_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._show(line)

    def _show(self, line: bytes) -> None:
        if line:
            self._console.say(self._name, line.decode(errors="replace"))

    def close(self) -> None:
        """Print what is left and close the file."""
        self._show(self._rest)
        self._rest = b""
        self._file.close()
