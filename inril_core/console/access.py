"""Who may talk to the console: a token, and pages that the console itself served."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from inril_core.errors import ConfigError
from inril_core.files import create_once

TOKEN_BYTES = 24
SUBPROTOCOL = "inril"
TOKEN_PREFIX = "token."
"""The page names its token as a second subprotocol: no address, and so no log, holds it."""


class Token(str):
    """The secret. It prints as `<token>`, so that no log or traceback shows it; `reveal` gives it."""

    def __repr__(self) -> str:
        return "<token>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<token>"

    @property
    def reveal(self) -> str:
        """The token itself, for the address that a person opens."""
        return "".join(self)


def load_or_create_token(path: Path) -> Token:
    """The token of a run, made at the first call. Processes may race for it: one token results.

    Raises:
        ConfigError: it cannot be read or made, or others can read it.
    """
    try:
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            create_once(path, secrets.token_urlsafe(TOKEN_BYTES).encode(), mode=0o600)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
                raise ConfigError(f"{path}: must be a file of yours with mode 600; remove it to get a new token")
            text = file.read(200).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no token; remove it to get a new one") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a run_dir that you may write to") from error
    if len(text) < TOKEN_BYTES:
        raise ConfigError(f"{path}: is no token; remove it to get a new one")
    return Token(text)


class Access:
    """Decides by the headers of a request.

    token: what a page must know.
    names: names of this machine under which the page may be opened, besides IP addresses, localhost and the host name.
        Any other name may be an attacker's that points here (DNS rebinding).
    """

    def __init__(self, token: Token, names: Iterable[str] = ()) -> None:
        self._token = token.reveal.encode()
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in names)}

    def knows_token(self, given: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(given.encode(), self._token)

    def refuses_host(self, host: str | None) -> str:
        """Why a request that was sent to this `Host` is not answered; empty: it is."""
        name = _name_of(f"//{host or ''}")
        if name is None:
            return "the Host header names no host"
        try:
            ipaddress.ip_address(name)
            return ""
        except ValueError:
            pass
        if name in self._names:
            return ""
        return (
            f"{name[:80]!r} is no known name of this machine; open the page by IP address, or add it to console_names"
        )

    def refuses_origin(self, origin: str | None, host: str | None) -> str:
        """Why a request of a page from `origin` is not answered; empty: the console itself served that page.

        A program that is no browser sends no Origin, and needs the token like everybody.
        """
        if refused := self.refuses_host(host):
            return refused
        if origin is None:
            return ""
        parts = urlsplit(origin) if origin.startswith(("http://", "https://")) else None
        if parts is not None and parts.netloc.lower() == (host or "").lower():
            return ""
        return f"a page from {origin[:80]!r} may not talk to this console"

    def token_of(self, subprotocols: Iterable[str]) -> str:
        """The token that a page names beside `SUBPROTOCOL`; empty: none."""
        found = [word.removeprefix(TOKEN_PREFIX) for word in subprotocols if word.startswith(TOKEN_PREFIX)]
        return found[0] if len(found) == 1 else ""


def _name_of(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        name = parts.hostname
        _ = parts.port
    except ValueError:
        return None
    return name.lower().rstrip(".") if name else None
