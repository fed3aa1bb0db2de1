"""What the tests of experts share with those of tasks, simulation and training."""

from tests.finetune.conftest import _one_thread  # noqa: F401
from tests.sim.conftest import contract, env  # noqa: F401
from tests.tasks.conftest import line  # noqa: F401
