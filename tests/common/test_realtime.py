"""Pins: cores that nobody meant, and a node that ends because it may not run first."""

from __future__ import annotations

import os

import pytest
from inril_common import realtime
from inril_common.realtime import parse_cores, permitted, run_first

from inril_core.errors import ConfigError


def test_cores_are_read_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert parse_cores("") == {0, 1, 2, 3}
    assert parse_cores("0,2-3") == {0, 2, 3}


@pytest.mark.parametrize("text", ["a", "1-", "0;1", "-1", "0,9", "1-0"])
def test_other_cores_are_refused_with_those_that_may_be_used(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    with pytest.raises(ConfigError, match="cores"):
        parse_cores(text)


def test_what_is_not_permitted_is_said_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert "rtprio" in run_first()
    assert "SCHED_FIFO" in permitted()


def test_memory_is_not_locked_under_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins mlockall with MCL_FUTURE under a limit: the first allocation beyond it fails, in the middle of a tick."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(realtime.resource, "getrlimit", lambda kind: (65536, 65536))
    monkeypatch.setattr(realtime.ctypes, "CDLL", None)
    assert "memlock" in run_first()
    assert permitted() == "memory cannot be locked"
