"""`python -m inril_common.executor_benchmark`: rclpy's single-threaded executor and ours on one ring of nodes.

A message goes round through lifecycle nodes, one a process, over UDP; each node has further topics and timers, as a
node of the graph has. Both executors run in turn, several times, so that a change of the machine's load meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import rclpy
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float64MultiArray

from inril_common.executor import EXECUTORS
from inril_common.measuring import cpu_s, mean_ratio
from inril_common.qos import TICK

VALUES = 40
"""Numbers in a message."""
START_TIMEOUT_S = 60.0


class Member(LifecycleNode):
    """One node of the ring: sends on what it hears. The first one counts the rounds."""

    def __init__(self, index: int, members: int, topics: int) -> None:
        super().__init__(f"member_{index}")
        self.rounds = 0
        self._counts = index == 0
        self._sent = 0.0
        self._next = self.create_publisher(Float64MultiArray, f"ring_{(index + 1) % members}", TICK)
        self.create_subscription(Float64MultiArray, f"ring_{index}", self._hear, TICK)
        for topic in range(topics):
            self.create_subscription(Float64MultiArray, f"other_{topic}", lambda message: None, TICK)
        self.create_timer(0.02, lambda: None)
        self.create_timer(1.0, self.begin)

    def begin(self) -> None:
        """Send the first message; again while none has come round, since not all may be connected yet."""
        if self._counts and self.rounds == 0:
            self._send()

    def _send(self) -> None:
        self._sent += 1.0
        self._next.publish(Float64MultiArray(data=[self._sent] * VALUES))

    def _hear(self, message: Float64MultiArray) -> None:
        if not self._counts:
            self._next.publish(message)
        elif message.data[0] == self._sent:
            self.rounds += 1
            self._send()


def run_member(index: int, members: int, topics: int, executor_name: str, seconds: float) -> None:
    """Spin one node; the first one reports the beginning and the end of its measurement on its standard output."""
    rclpy.init()
    node = Member(index, members, topics)
    executor = EXECUTORS[executor_name]()
    executor.add_node(node)

    def spin(until_s: float) -> None:
        while time.monotonic() < until_s:
            executor.spin_once(timeout_sec=0.1)

    while index != 0:
        executor.spin_once(timeout_sec=0.1)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while node.rounds == 0 and time.monotonic() < deadline_s:
        executor.spin_once(timeout_sec=0.1)
    spin(time.monotonic() + 1.0)  # discovery ends
    first, begin_s = node.rounds, time.monotonic()
    print("begin", flush=True)
    spin(begin_s + seconds)
    print(json.dumps({"rounds": node.rounds - first, "wall_s": time.monotonic() - begin_s}), flush=True)
    spin(time.monotonic() + 60.0)  # until it is ended


@dataclass(frozen=True)
class Result:
    """What one run of the ring made."""

    rounds_per_s: float
    cpu_ms_per_round: float
    """Of all members together."""


def run_ring(executor_name: str, members: int, topics: int, seconds: float) -> Result:
    """Start the ring, measure, end it."""
    environment = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": "101",
        **os.environ,
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
    }
    shape = ["--members", str(members), "--topics", str(topics), "--seconds", str(seconds)]
    command = [sys.executable, "-m", __spec__.name, *shape, "--executor", executor_name, "--member"]
    processes = [
        subprocess.Popen([*command, str(index)], env=environment, stdout=subprocess.PIPE, text=True)
        for index in range(members)
    ]
    try:
        output = processes[0].stdout
        assert output is not None
        if output.readline().strip() != "begin":
            raise RuntimeError("the ring did not start: is the ROS domain in use by others? give another ROS_DOMAIN_ID")
        before_s = sum(cpu_s(process.pid) for process in processes)
        measured = json.loads(output.readline())
        used_s = sum(cpu_s(process.pid) for process in processes) - before_s
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=10)
    rounds = measured["rounds"]
    if rounds == 0:
        raise RuntimeError("no message came round: the machine is too busy to measure anything")
    return Result(rounds / measured["wall_s"], 1e3 * used_s / rounds)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--members", type=int, default=4, help="nodes in the ring")
    parser.add_argument("--topics", type=int, default=14, help="further subscriptions of each node")
    parser.add_argument("--executor", choices=list(EXECUTORS), help=argparse.SUPPRESS)
    parser.add_argument("--member", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.member is not None:
        run_member(args.member, args.members, args.topics, args.executor, args.seconds)
        return
    pairs: list[dict[str, Result]] = []
    print(f"{'run':>3}  {'executor':8}  {'rounds/s':>9}  {'CPU ms/round':>12}")
    for repetition in range(args.repetitions):
        names = list(EXECUTORS) if repetition % 2 == 0 else list(EXECUTORS)[::-1]
        pair = {}
        for name in names:
            pair[name] = result = run_ring(name, args.members, args.topics, args.seconds)
            print(f"{repetition:3}  {name:8}  {result.rounds_per_s:9.0f}  {result.cpu_ms_per_round:12.3f}", flush=True)
        pairs.append(pair)
    print("inril / rclpy, geometric mean [95 % interval]:")
    print("rounds/s:", mean_ratio([p["inril"].rounds_per_s / p["rclpy"].rounds_per_s for p in pairs]))
    print("CPU per round:", mean_ratio([p["inril"].cpu_ms_per_round / p["rclpy"].cpu_ms_per_round for p in pairs]))


if __name__ == "__main__":
    main()
