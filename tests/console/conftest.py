"""A browser, where the machine has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.chromium import chromium, missing


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system; gone at the end of a file: while it is there, no other event loop runs."""
    if why := missing():
        pytest.skip(why)
    with chromium() as started:
        yield started
