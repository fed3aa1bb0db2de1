"""Pins: a page of somebody else that drives the arm, and a token that stands in a log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inril_core.console.access import Access, Token, load_or_create_token
from inril_core.errors import ConfigError

TOKEN = Token("s" * 32)


def test_the_token_does_not_print() -> None:
    shown = [str(TOKEN), repr(TOKEN), f"{TOKEN}", f"{TOKEN!r}", "%s" % TOKEN, str([TOKEN]), f"{TOKEN:>40}"]  # noqa: UP031
    assert all("sss" not in text for text in shown)
    assert TOKEN.reveal == "s" * 32


def test_a_run_has_one_token_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "run" / "console.token"
    token = load_or_create_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_token(path).reveal == token.reveal and len(token.reveal) >= 32
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 600; remove it"):
        load_or_create_token(path)
    path.unlink()
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no token"):
        load_or_create_token(path)
    path.unlink()
    os.symlink("/etc/hostname", path)
    with pytest.raises(ConfigError):
        load_or_create_token(path)


@pytest.mark.parametrize(
    ("origin", "host", "let_in"),
    [
        ("http://127.0.0.1:8765", "127.0.0.1:8765", True),
        ("http://localhost:9000", "localhost:9000", True),  # forwarded by ssh to another port
        ("http://[::1]:8765", "[::1]:8765", True),
        ("http://10.1.2.3:8765", "10.1.2.3:8765", True),
        ("http://robot.lab:8765", "robot.lab:8765", True),
        (None, "127.0.0.1:8765", True),  # no browser
        ("http://evil.example", "127.0.0.1:8765", False),
        ("http://127.0.0.1:9999", "127.0.0.1:8765", False),
        ("http://evil.example:8765", "evil.example:8765", False),  # DNS rebinding
        ("null", "127.0.0.1:8765", False),
        ("file://", "127.0.0.1:8765", False),
        ("http://127.0.0.1:8765.evil.example", "127.0.0.1:8765", False),
        (None, None, False),
        (None, "", False),
        (None, "[::", False),
        (None, "a:b", False),
    ],
)
def test_which_pages_may_talk(origin: str | None, host: str | None, let_in: bool) -> None:
    access = Access(TOKEN, ["robot.lab"])
    assert (access.refuses_origin(origin, host) == "") is let_in


def test_one_token_and_no_other() -> None:
    access = Access(TOKEN)
    assert access.knows_token(access.token_of(["inril", f"token.{TOKEN.reveal}"]))
    for words in (["inril"], [], ["inril", "token."], [f"token.{TOKEN.reveal}", "token.x"], ["token.sss"]):
        assert not access.knows_token(access.token_of(words))
    assert not access.knows_token("é")
