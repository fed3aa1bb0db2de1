"""One run: everything that decides its numbers, as plain values that can go to another process or machine."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inril_core.contract import Contract, Interface
from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values

Line = dict[str, Any]
"""What came of one run; one JSON line."""

# what a run is called, shows or saves, none of which moves its numbers
_SILENT = ("name", "push_every_updates", "checkpoint_every_updates")


@dataclass(frozen=True)
class Job:
    """A run to be done.

    For the rest see `inril_core.bench.experiment.Experiment`.
    """

    task: str
    method: str
    seed: int
    config: Mapping[str, Any]
    """A whole `FineTuneConfig` as JSON values. demo_file, demo_sha256: recorded demonstrations, and their content;
    None: the expert's."""
    demos: int
    start_episodes: int
    final_episodes: int
    curve_episodes: int
    curve_every_steps: int
    cap_s: float | None = None
    task_digest: str | None = None
    """See `task_digest`; None: the task cannot be made here, so whatever was run under its name counts."""
    demo_file: str | None = None
    demo_sha256: str | None = None
    unlabelled_demos_succeed: bool = False
    look_around_steps: int = 0

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.task} {self.method} seed {self.seed}"

    def facts(self) -> dict[str, Any]:
        """What a line repeats of its job, so that `settings_digest` can be taken of either."""
        names = ("task", "method", "seed", "demos", "start_episodes", "final_episodes", "config", "task_digest")
        given: dict[str, Any] = {} if self.demo_sha256 is None else {"demo_sha256": self.demo_sha256}
        given |= {"unlabelled_demos_succeed": True} if self.unlabelled_demos_succeed else {}
        given |= {"look_around_steps": self.look_around_steps} if self.look_around_steps else {}
        return {**{name: getattr(self, name) for name in names}, "curve_settings": self._curve(), **given}

    def _curve(self) -> list[int]:
        return [self.curve_episodes, self.curve_every_steps]

    @property
    def digest(self) -> str:
        """See `settings_digest`."""
        return settings_digest(self.facts())


def settings_digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 (16 hex digits) of everything that decides a run's numbers, besides the code and the task's content.

    Of a job's facts or of a finished line. The settings are read anew: one that was added since, with a default that
    does what was done before, changes nothing; a default that has changed does. A method's name does not count.

    Raises:
        ConfigError: the line's settings are none that today's code knows.
    """
    config = config_from_values(dict(facts["config"]), "line").model_dump(mode="json")
    parts = {name: value for name, value in config.items() if name not in _SILENT}
    names = ("task", "seed", "demos", "start_episodes", "final_episodes", "curve_settings")
    given = [facts[name] for name in ("demo_sha256", "unlabelled_demos_succeed", "look_around_steps") if name in facts]
    return _sha([parts, *(facts[name] for name in names), *given])


def line_digest(line: Mapping[str, Any]) -> str | None:
    """The digest of a finished line under today's settings; None: today's code would not make such a run."""
    try:
        return settings_digest(line)
    except (ConfigError, KeyError, TypeError, ValueError):
        return None


def task_digest(interface: Interface) -> str:
    """SHA-256 (16 hex digits) of a task's `Interface`. Of a contract, what it says beyond defaults: a field added to
    the schema later, at its default, leaves the task what it was; `monitor` acts in a graph alone."""
    if isinstance(interface, Contract):
        return _sha(interface.model_dump(mode="json", exclude_defaults=True, exclude={"monitor"}))
    return _sha(interface.text)


def file_digest(path: str) -> str:
    """SHA-256 of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with open(Path(path).expanduser(), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"demo_file = {path}: cannot be read: {error}; give an existing file") from error


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
