"""When a program that died is started again. Pure: times are handed in."""

from __future__ import annotations

from inril_bringup.graph_schema import Respawn
from inril_core.backoff import wait_s


class Backoff:
    """Counts the restarts in a row of one program."""

    def __init__(self, policy: Respawn) -> None:
        self._policy = policy
        self.in_a_row = 0
        self.total = 0

    def after_death(self, lived_s: float) -> float | None:
        """Note a death and answer how long to wait before the restart [s], None: give it up.

        Args:
            lived_s: time between its last start and its death.
        """
        if lived_s >= self._policy.stable_s:
            self.in_a_row = 0
        if self.in_a_row >= self._policy.max_restarts:
            return None
        wait = wait_s(self.in_a_row, self._policy.initial_s, self._policy.max_s, self._policy.factor)
        self.in_a_row += 1
        self.total += 1
        return wait
