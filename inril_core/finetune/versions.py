"""Numbering of published weights: a number is on disk before anybody hears it, so it is never used twice."""

import json
from pathlib import Path

from inril_core.errors import ConfigError
from inril_core.files import write_atomically


class VersionCounter:
    """The highest version n that was ever given out in this run, kept in ``path``.

    Raises:
        ConfigError: the file is there but not readable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.newest = 0
        if path.exists():
            try:
                self.newest = int(json.loads(path.read_text())["n"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path}: holds no version number ({error}); restore it or use a new run") from error

    def take(self) -> int:
        """The next number, kept before it is returned."""
        self.newest += 1
        write_atomically(self._path, json.dumps({"n": self.newest}).encode())
        return self.newest
