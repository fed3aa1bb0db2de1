"""Training tests run on one thread: they repeat to the bit and do not fight for the cores."""

import pytest

from inril_core.finetune.pretrain import pretrain
from inril_core.networks.compute import use_one_thread
from tests.finetune.csil_made import HETSTAT, small
from tests.finetune.point_task import contract, demos


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_one_thread()


@pytest.fixture(scope="session")
def shown():
    """Twenty demonstrations of the point task."""
    use_one_thread()
    return demos(20)


@pytest.fixture(scope="session")
def cloned(shown):
    """The point's policy with a HETSTAT head, and a plain one."""
    config = small()
    plain = {"kind": "gaussian", "hidden": [24, 24]}
    return tuple(pretrain(config.changed(policy=p), contract(), shown) for p in (HETSTAT, plain))
