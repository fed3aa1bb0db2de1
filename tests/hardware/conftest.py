"""One environment for the tests that only need some cell."""

from tests.sim.conftest import changed, contract, env  # noqa: F401
