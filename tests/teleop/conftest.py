"""The packaged contract."""

from tests.sim.conftest import contract  # noqa: F401
