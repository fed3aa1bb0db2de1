"""A DDS domain that no other test on this machine uses meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.domains import own_domain


@pytest.fixture(scope="session")
def domain() -> Iterator[int]:
    """Its number."""
    with own_domain() as number:
        yield number
