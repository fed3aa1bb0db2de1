"""A bench for the arbiter: fake clocks, and one-word messages."""

from __future__ import annotations

import pytest

from inril_core.contract import load_contract
from inril_core.safety.arbiter import Arbiter
from inril_core.safety.ticks import (
    ArbiterConfig,
    Closed,
    HumanAnswer,
    Phase,
    PolicyAnswer,
    Purpose,
    RobotSample,
    Tick,
)

CONTRACT = load_contract("insert_leg")
PERIOD_NS = CONTRACT.period_ns
POSE = (0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0)


class Bench:
    """An arbiter and everything around it. The ROS clock and the monotonic one advance together."""

    def __init__(
        self, lockstep: bool = True, arm: bool = True, contract=CONTRACT, joint_model=None, pose=POSE, **config
    ) -> None:
        self.now_ns, self.mono_ns = 1_700_000_000_000_000_000, 5_000_000_000
        timeout_ns = 5_000_000_000 if lockstep else 3 * PERIOD_NS
        settings = {
            "deadline_ns": 500_000_000 if lockstep else PERIOD_NS,
            "policy_timeout_ns": 2 * PERIOD_NS,
            "robot_timeout_ns": 2 * PERIOD_NS,
            "observation_timeout_ns": timeout_ns,
        }
        self.config = ArbiterConfig(lockstep=lockstep, period_ns=PERIOD_NS, **settings, **config)
        self.arbiter = Arbiter(contract, self.config, joint_model)
        self.said: list[Closed] = []
        self.k = -1
        self.lockstep = lockstep
        self._robot_ns = 0
        self.boot_id = "boot"
        self.pose = pose
        if not lockstep:
            self.robot()
        if arm:
            ok, why = self.arm()
            assert ok, why

    @property
    def robot_ns(self) -> int:
        """Stamp of the newest state of the arm; in lockstep an Observation has a fresh one."""
        return self.now_ns if self.lockstep else self._robot_ns

    def advance_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        self.mono_ns += round(seconds * 1e9)

    def _note(self, said: list[Closed]) -> Closed | None:
        self.said += said
        return said[-1] if said else None

    def observe(self, step: int | None = None, **changes) -> Closed | None:
        self.k += 1
        tick = Tick(
            boot_id=self.boot_id,
            k=self.k,
            stamp_ns=self.now_ns,
            episode_id="e0",
            step=self.k if step is None else step,
            phase=Phase.RUN,
            purpose=Purpose.TRAIN,
            last=False,
            tool_pose=self.pose,
            link_age_s=((self.now_ns - self.robot_ns) * 1e-9, 0.0, 0.0),
            frame="base",
        )._replace(**changes)
        return self._note(self.arbiter.on_observation(tick, self.now_ns, self.mono_ns))

    def policy(self, action=(0.1,) * 6, k: int | None = None, boot_id: str | None = None) -> Closed | None:
        answer = PolicyAnswer(boot_id or self.boot_id, self.k if k is None else k, "run", 3, action)
        return self._note(self.arbiter.on_policy_action(answer, self.now_ns, self.mono_ns))

    def human(self, action=(0.2,) * 6, k: int | None = None, grab=True, released=False, sync=False, frame="base"):
        answer = HumanAnswer(self.k if k is None else k, sync, grab, released, action, frame)
        return self._note(self.arbiter.on_teleop_action(answer, self.now_ns, self.mono_ns))

    def robot(self, boot_id: str = "arm", needs_rearm: bool = False, frame: str = "base", fault: str = "") -> None:
        self._robot_ns = self.now_ns
        sample = RobotSample(boot_id, self.now_ns, self.pose, needs_rearm, frame, fault)
        self.arbiter.on_robot_state(sample, self.mono_ns)

    def timer(self) -> Closed | None:
        return self._note(self.arbiter.on_timer(self.now_ns, self.mono_ns))

    def arm(self, operator: str = "an operator") -> tuple[bool, str]:
        return self.arbiter.arm(operator, self.now_ns, self.mono_ns)

    def faults(self) -> list[str]:
        return list(self.arbiter.faults.named())


@pytest.fixture(scope="session")
def bench() -> type[Bench]:
    return Bench


@pytest.fixture(scope="session")
def contract():
    return CONTRACT
