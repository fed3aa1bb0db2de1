"""A server for a policy that takes longer than a control tick: it answers with the plan that it has."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from inril_core.errors import InrilError
from inril_core.policies.server import Plan, PolicyServer
from inril_core.wire import Array

LONGEST_S = 600.0  # for one plan that somebody waits for


class NoPlan(InrilError):
    """No finished plan reaches as far as it is asked for; the robot holds for this tick and asks again."""


class _Asked(NamedTuple):
    plan: "Future[Any]"
    at_s: float
    """When its observation came, on the server's clock."""


class AheadServer(PolicyServer):
    """Answers at once with the newest finished plan, from the row that is due, and plans from the new observation.

    The age of the observation behind the plan goes with the answer; the client refuses what is older than its
    ``max_age_s``. That alone keeps a plan from before a reset or a takeover from being executed after it, since the
    server hears of neither. A patient question (of a learner, see docs/bring_your_own_base.md) waits for a plan from
    its own observation. Ages are of the monotonic clock: the robot runs in real time.

    Args:
        function, address, observation_size, action_size, chunk: as of `PolicyServer`. ``function`` is called by one
            thread; its plans must be longer than ``chunk`` by the periods that making one takes.
        period_s: row n of a plan is due n such periods after its observation.

    Raises:
        ConfigError: as of `PolicyServer`.
    """

    def __init__(
        self,
        function: Plan,
        address: str,
        observation_size: int,
        action_size: int,
        chunk: int,
        period_s: float,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period_s = period_s
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan")
        self._own = threading.local()  # each connection has a thread: nobody is given the plan of another's observation
        super().__init__(function, address, observation_size, action_size, chunk, name, clock)

    def made(self, row: Array, explore: bool, rng: np.random.Generator, patient: bool) -> Any:
        """See `PolicyServer.made`.

        Raises:
            NoPlan: none is finished, or the newest is used up.
            Exception: what ``function`` raised when it made the newest.
        """
        if patient:
            return self._worker.submit(self.function, row, explore, rng).result(LONGEST_S)
        own, now_s = self._own, self.clock()
        making, newest = getattr(own, "making", None), getattr(own, "newest", None)
        if making is not None and making.plan.done():
            making, newest = None, making
        own.newest = None  # unless it is still good, see below
        own.making = making or _Asked(self._worker.submit(self.function, row, explore, rng), now_s)
        if newest is None:
            raise NoPlan("no plan is finished yet")
        made = newest.plan.result(0.0)
        plan, age_s = made if isinstance(made, tuple) else (made, 0.0)
        age_s += now_s - newest.at_s
        due = round(age_s / self.period_s)
        if due + self.sizes[2] > len(plan):
            raise NoPlan(f"the newest plan is {age_s:.3g} s old and has {len(plan)} rows: used up")
        own.newest = newest
        return plan[due:], age_s

    def server_close(self) -> None:
        """Stop listening; a plan that is being made is finished by its thread and thrown away."""
        super().server_close()
        self._worker.shutdown(wait=False, cancel_futures=True)
