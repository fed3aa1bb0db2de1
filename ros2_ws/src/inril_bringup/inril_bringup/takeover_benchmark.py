"""`python -m inril_bringup.takeover_benchmark`: what a takeover does to the arm, and how long it takes.

Steps and jolts are measured on the arbiter alone, over many random takeovers. Times are measured on teleop_node and
arbiter_node as processes of their own: this process is the joystick's driver, the policy and an arm that follows, and
presses the grab button at random moments. `--out docs/results/takeover.md` writes the page.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from inril_common.convert import array_to_pose, float32_array
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import ArbiterStatus, Observation, PolicyAction, RobotState, Target, TeleopStatus
from inril_msgs.srv import Arm
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Joy

from inril_bringup.environment import dds_environment
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.files import check_writable, write_atomically
from inril_core.safety.takeover import Mode
from inril_core.safety.takeover_measure import Measured, takeovers

TASK = "insert_leg"
JOY_HZ = 100.0
WAIT_S = 60.0
GRAB, HAND_BACK = 5, 1
PROGRAMS = {
    "inril_session.teleop_node": ("device:=joy",),
    "inril_control.arbiter_node": ("real_time_factor:=1.0", "expects_policy:=true", "expects_device:=true"),
}
"""And parameters of their own."""
POLICY = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""The policy moves forward and back, the person to a side: whose Target it is shows in y."""


class Rig(Node):
    """Everything around the two nodes, on this process's own clock."""

    def __init__(self) -> None:
        super().__init__("takeover_benchmark")
        self.contract = load_contract(TASK)
        limits = self.contract.limits
        middle = [0.5 * (a + b) for a, b in zip(limits.position_min_m, limits.position_max_m, strict=True)]
        self._pose = np.array([*middle, 1.0, 0.0, 0.0, 0.0])
        self._k, self._way, self._side = -1, 1.0, 1.0
        self.buttons: set[int] = set()
        self.trouble: str | None = None
        self.faults: list[str] = []
        self.pressed_s: float | None = None
        self.ticks_since = 0
        self.latencies_s: list[float] = []
        self.late_ticks: list[int] = []
        self._joy = self.create_publisher(Joy, "joy", 10)
        self._robot = self.create_publisher(RobotState, "robot_state", TICK)
        self._observations = self.create_publisher(Observation, "observation", TICK)
        self._actions = self.create_publisher(PolicyAction, "policy_action", TICK)
        self.create_subscription(Target, "target", self._on_target, TICK)
        self.create_subscription(TeleopStatus, "teleop_status", self._on_device, LATCHED)
        self.create_subscription(ArbiterStatus, "arbiter_status", self._on_arbiter, LATCHED)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / JOY_HZ, self._say_joy, clock=steady)
        self.create_timer(1.0 / 50.0, self._say_robot, clock=steady)
        self.runs = False
        self.create_timer(1.0 / self.contract.control_rate_hz, self._tick, clock=steady)

    def press(self) -> None:
        """The person grabs."""
        limits = self.contract.limits
        middle_m = 0.5 * (limits.position_min_m[1] + limits.position_max_m[1])
        self._side = 1.0 if self._pose[1] < middle_m else -1.0
        self.buttons = {GRAB}
        self.pressed_s, self.ticks_since = time.monotonic(), 0
        self._say_joy()

    def hand_back(self) -> None:
        """And gives control back."""
        self.buttons = {HAND_BACK}

    def _say_joy(self) -> None:
        message = Joy(axes=[self._side if GRAB in self.buttons else 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        message.buttons = [int(index in self.buttons) for index in range(11)]
        message.header.stamp = self.get_clock().now().to_msg()
        self._joy.publish(message)

    def _say_robot(self) -> None:
        message = RobotState(boot_id="arm", simulated=True)
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), self.contract.base_frame
        message.tool_pose = array_to_pose(self._pose)
        self._robot.publish(message)

    def _tick(self) -> None:
        if not self.runs:
            return
        self._k += 1
        self.ticks_since += 1
        self._say_robot()
        observation = Observation(boot_id="bench", k=self._k, episode_id="e", step=self._k, phase=Observation.PHASE_RUN)
        observation.purpose = Observation.PURPOSE_TRAIN
        observation.header.stamp, observation.header.frame_id = (
            self.get_clock().now().to_msg(),
            self.contract.base_frame,
        )
        observation.tool_pose = array_to_pose(self._pose)
        observation.link_age_s = [0.0] * len(self.contract.links)
        self._observations.publish(observation)
        action = PolicyAction(boot_id="bench", k=self._k, run_id="bench", n=1)
        self._way = -self._way
        action.action = float32_array(self._way * np.array(POLICY))
        self._actions.publish(action)

    def _on_target(self, message: Target) -> None:
        p = message.pose.position
        moved_m = p.y - self._pose[1]
        self._pose[:3] = p.x, p.y, p.z
        if self.pressed_s is not None and abs(moved_m) > 1e-6:
            self.latencies_s.append(time.monotonic() - self.pressed_s)
            self.late_ticks.append(self.ticks_since - 1)
            self.pressed_s = None

    def _on_device(self, message: TeleopStatus) -> None:
        self.trouble = message.trouble

    def _on_arbiter(self, message: ArbiterStatus) -> None:
        self.faults = [f"{name}: {detail}" for name, detail in zip(message.faults, message.details, strict=True)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=1000, help="takeovers of the arbiter (default: %(default)s)")
    parser.add_argument("--timed", type=int, default=150, help="takeovers on running nodes (default: %(default)s)")
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "102")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="page to write; default: print it")
    arguments = parser.parse_args()
    if arguments.out is not None:
        try:
            check_writable(arguments.out)
        except ConfigError as error:
            raise SystemExit(str(error)) from error
    measured = takeovers(arguments.random, random.Random(arguments.seed), Mode.DEAD_MAN, TASK)
    timed = _timed(arguments.timed, arguments.domain, random.Random(arguments.seed))
    page = _page(measured, *timed, arguments)
    if arguments.out is None:
        print(page, end="")
    else:
        write_atomically(arguments.out, page.encode())


def _timed(count: int, domain: int, rng: random.Random) -> tuple[list[float], list[int]]:
    os.environ.update({**dds_environment(os.environ), "ROS_DOMAIN_ID": str(domain)})
    rclpy.init()
    executor = SingleThreadedExecutor()
    rig = Rig()
    executor.add_node(rig)

    def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no {what} in {timeout_s} s; device: {rig.trouble!r}; faults: {rig.faults}")
            executor.spin_once(timeout_sec=0.01)

    def wait(seconds: float) -> None:
        end_s = time.monotonic() + seconds
        until(lambda: time.monotonic() >= end_s, "end of a wait")

    def ask(kind: Any, service: str, request: Any) -> Any:
        client = rig.create_client(kind, service)
        until(client.service_is_ready, service)
        future = client.call_async(request)
        until(future.done, f"answer of {service}")
        return future.result()

    try:
        with _nodes():
            for node in ("arbiter_node", "teleop_node"):
                for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                    change = ChangeState.Request(transition=Transition(id=transition))
                    if not ask(ChangeState, f"{node}/change_state", change).success:
                        raise RuntimeError(f"{node} cannot be started; its output says why")
            until(lambda: rig.trouble == "", "joystick")
            rig.runs = True
            until(lambda: ask(Arm, "arbiter/arm", Arm.Request(arm=True, operator_name="bench")).success, "arming")
            wait(1.0)
            for _ in range(count):
                wait(rng.uniform(0.15, 0.35))
                rig.press()
                until(lambda: rig.pressed_s is None, "effect of a takeover")
                rig.hand_back()
                wait(0.15)
                rig.buttons = set()
            if rig.faults:
                raise RuntimeError(f"faults: {rig.faults}")
    finally:
        rig.destroy_node()
        rclpy.shutdown()
    return rig.latencies_s, rig.late_ticks


@contextmanager
def _nodes() -> Iterator[None]:
    """The two nodes as processes, ended afterwards."""
    running = []
    for program, own in PROGRAMS.items():
        words = [word for value in (f"contract:={TASK}", *own) for word in ("-p", value)]
        running.append(subprocess.Popen([sys.executable, "-m", program, "--ros-args", *words]))
    try:
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)


def _page(measured: Measured, latencies_s: list[float], late_ticks: list[int], arguments: argparse.Namespace) -> str:
    contract = measured.contract
    rate_hz = contract.control_rate_hz
    p50, p99 = (1e3 * float(np.percentile(latencies_s, q)) for q in (50, 99))
    rows = []
    for (largest, allowed), (what, unit) in zip(
        measured.against_limits(),
        (
            ("step of the commanded position", "mm"),
            ("turn of the commanded orientation", "mrad"),
            ("change of the commanded velocity", "mm per period"),
            ("change of the commanded angular velocity", "mrad per period"),
        ),
        strict=True,
    ):
        rows.append(f"| {what}, {unit} | {1e3 * largest:.3f} | {1e3 * allowed:.3f} |")
    table = "\n".join(rows)
    effect = max(measured.ticks_until_effect)
    command = f"python -m inril_bringup.takeover_benchmark --random {arguments.random} --timed {arguments.timed}"
    return f"""# What a takeover does to the arm

    .venv/bin/{command} --seed {arguments.seed} --out docs/results/takeover.md

Task `{contract.task}`, {rate_hz:g} Hz; {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}.

## Steps and jolts

{measured.count} takeovers at random moments, each with its hand-back, on the arbiter alone with a clock of its own.
Policy and person move in random directions, mostly at full speed. Largest values in the ticks around each change of
hands:

| what | largest | allowed |
|---|---|---|
{table}

Allowed is what the contract lets a Target differ from the one before (`limits.max_translation_step_m`,
`limits.max_rotation_step_rad`), and for the velocity a change by that much from one period to the next: as between full
speed and standstill. The person's action was that of the next tick in {measured.count - measured.recorded_late_n} of
{measured.count} takeovers, at most {effect} tick after the reading; that tick is recorded as the person's.

## Time

From the press of the grab button (a message of a joystick's driver leaves) to the first Target that is the person's,
over DDS, with `teleop_node` (polls at 50 Hz) and `arbiter_node` as processes of their own; {len(latencies_s)} takeovers
at random moments of the control period of {1e3 / rate_hz:g} ms:

| p50 | p99 | largest |
|---|---|---|
| {p50:.1f} ms | {p99:.1f} ms | {1e3 * max(latencies_s):.1f} ms |

Most of it is the wait for the next tick. Ticks after the press that were still the policy's: {max(late_ticks)} at most,
{sum(late_ticks)} in all, of readings that came too late for the tick that began just after the press.
"""


if __name__ == "__main__":
    main()
