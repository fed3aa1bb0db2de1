"""Conditions on episodes and progress bars, as several actions of `inril data` take them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from inril_bringup.control import person_name
from inril_core.errors import ConfigError
from inril_core.vocabulary import OUTCOMES, PURPOSES


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """The options that choose episodes."""
    group = parser.add_argument_group("which episodes (all conditions must hold)")
    group.add_argument("--purpose", action="append", choices=PURPOSES, help="may be given several times")
    group.add_argument("--outcome", action="append", choices=OUTCOMES)
    group.add_argument("--by", default="", metavar="NAME", help="who said how it went; * stands for any letters")
    group.add_argument("--episode", action="append", metavar="ID", help="its id; * stands for any letters")
    group.add_argument("--steps", metavar="MIN:MAX", help="length, e.g. 20:100, 20: or :100")
    group.add_argument("--human-share", metavar="MIN:MAX", help="share of steps in human control, e.g. 0.1:1")
    group.add_argument("--since", metavar="DATE", help="began at or after, e.g. 2026-11-05 or 2026-11-05T14:00")
    group.add_argument("--until", metavar="DATE", help="began before or at")
    group.add_argument("--complete", action="store_true", help="`inril data list` shows nothing amiss")
    group.add_argument("--with-dropped", action="store_true", help="also what was dropped")


def selection_of(arguments: argparse.Namespace) -> Any:
    """The `Selection` that the options say.

    Raises:
        ConfigError: a range or date is none.
    """
    from inril_core.data.select import Selection

    low, high = _range("--steps", arguments.steps, int)
    least, most = _range("--human-share", arguments.human_share, float)
    return Selection(
        purposes=tuple(arguments.purpose or ()),
        outcomes=tuple(arguments.outcome or ()),
        by=arguments.by,
        ids=tuple(arguments.episode or ()),
        min_steps=1 if low is None else int(low),
        max_steps=None if high is None else int(high),
        complete=arguments.complete,
        human_share=(0.0 if least is None else least, 1.0 if most is None else most),
        since=_date("--since", arguments.since),
        until=_date("--until", arguments.until),
        dropped=arguments.with_dropped,
    )


def person() -> tuple[str, int]:
    """Who sits here, and the Unix time in ns."""
    return person_name(), time.time_ns()


@contextmanager
def progress(arguments: argparse.Namespace, what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A function (done, total, name) that shows a bar on a terminal; total 0: nobody knows how many there are."""
    if not sys.stderr.isatty() or getattr(arguments, "json", False):
        yield lambda done, total, name: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, name: bar.update(
            task, completed=done, total=total or None, description=f"{what} {name}".rstrip()
        )


def _range(option: str, text: str | None, kind: Callable[[str], float]) -> tuple[float | None, float | None]:
    if text is None:
        return None, None
    low, colon, high = text.partition(":")
    try:
        values = (kind(low) if low else None, kind(high) if high else None)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: must be MIN:MAX; either may be left out") from error
    both = [value for value in values if value is not None]
    if not colon or not both or any(not value >= 0 for value in both) or both != sorted(both):
        raise ConfigError(f"{option} {text!r}: must be MIN:MAX with 0 <= MIN <= MAX; either may be left out")
    return values


def _date(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: must be like 2026-11-05 or 2026-11-05T14:00") from error
    return date.astimezone(UTC)  # one without a zone is of this machine's
