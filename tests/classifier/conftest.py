"""Training tests run on one thread: they repeat to the bit and do not fight for the cores."""

import pytest

from inril_core.networks.compute import use_one_thread


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    use_one_thread()
