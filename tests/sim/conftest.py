"""One environment for the tests that only need some cell: a reset makes it new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inril_core.contract import Contract, contract_from_text, load_contract
from inril_core.tasks.families.cell import CellEnv


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The packaged task."""
    return load_contract("insert_leg")


@pytest.fixture(scope="session")
def env(contract: Contract) -> CellEnv:
    """A shared environment."""
    return CellEnv(contract)


@pytest.fixture(scope="session")
def changed(contract: Contract) -> Callable[[Callable[[dict[str, Any]], None]], Contract]:
    """Makes a contract that differs from the packaged one."""
    import json

    def make(change: Callable[[dict[str, Any]], None]) -> Contract:
        content = json.loads(contract.text)
        change(content)
        return contract_from_text(json.dumps(content))

    return make
