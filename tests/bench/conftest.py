"""Runs in tests use the machine as real ones do: one thread, so that they repeat to the bit."""

import pytest

from inril_core.networks.compute import use_one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_one_thread()
