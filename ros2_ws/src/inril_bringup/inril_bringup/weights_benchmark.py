"""`python -m inril_bringup.weights_benchmark`: how long weights take from their publication to their first action.

A real policy_node is given packs of growing size while it answers observations without a pause between them. Beside it,
in turns, the same bytes go over a plain TCP socket and as one DDS message to another process, which acknowledges them.
Writes `docs/results/weights.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from inril_common.convert import byte_array, float32_array
from inril_common.executor import NodeExecutor
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import Observation, PolicyAction, PolicyStatus, PolicyWeights
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import ExternalShutdownException
from std_msgs.msg import UInt8MultiArray, UInt64

from inril_bringup.environment import child_environment
from inril_bringup.weights_report import Measured, page, verdict
from inril_core.blobs import BlobServer
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.files import check_writable, write_atomically
from inril_core.policies import GaussianPolicy, gaussian, save_policy
from inril_core.run import default_key_path, open_run
from inril_core.weights import Offer, load_or_create_key, write_pack

SIZES_MB = (1, 4, 16, 64, 256)
TIMEOUT_S = 60.0
REPLY_S = 3.0
PAUSE_S = 0.002
"""Between an answer and the next observation, at least."""
IDLE_TICKS_N = 50


def policy_of(size_mb: int, observation_size: int) -> GaussianPolicy:
    """A policy whose numbers take about so many MB."""
    width = round((size_mb * (1 << 20) / 4 + (observation_size / 2) ** 2) ** 0.5 - observation_size / 2)
    torch.manual_seed(0)
    return GaussianPolicy(observation_size, 6, gaussian.Config(hidden=(width, width)))


class Bench:
    """The learner's and the robot's side of a policy_node."""

    def __init__(self, folder: Path, elsewhere: Path | None) -> None:
        rclpy.init()
        self.node = rclpy.create_node("weights_benchmark")
        self.executor = NodeExecutor(context=self.node.context)
        self.executor.add_node(self.node)
        self.contract = load_contract("insert_leg")
        self.folder, self.folders = folder, {"link": folder / "learner", "tcp": elsewhere}
        (folder / "learner").mkdir()
        os.environ["INRIL_KEY"] = str(folder / "weights.key")  # for the policy_node, too
        self.key = load_or_create_key(default_key_path())
        self.blobs = BlobServer(self.key)
        self.answers: list[PolicyAction] = []
        self.statuses: list[PolicyStatus] = []
        self._k = 0
        self._pause_s = PAUSE_S
        self.n = 0
        node = self.node
        node.create_subscription(PolicyAction, "policy_action", self.answers.append, TICK)
        node.create_subscription(PolicyStatus, "policy_status", self.statuses.append, LATCHED)
        self._observations = node.create_publisher(Observation, "observation", TICK)
        self._weights = node.create_publisher(PolicyWeights, "policy_weights", LATCHED)
        self._bytes = node.create_publisher(UInt8MultiArray, "benchmark_bytes", LATCHED)
        self._acks: list[int] = []
        node.create_subscription(UInt64, "benchmark_ack", lambda message: self._acks.append(message.data), LATCHED)
        self._state = np.zeros(self.contract.observation_size, np.float32)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Spin until the condition holds.

        Raises:
            TimeoutError: it does not.
        """
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            if value := condition():
                return value
            self.executor.spin_once(timeout_sec=0.05)
        raise TimeoutError(f"no {what} within {TIMEOUT_S:.0f} s")

    @contextmanager
    def policy_node(self, policy: GaussianPolicy) -> Iterator[None]:
        """An active policy_node that starts from this policy."""
        run_dir = self.folder / f"run-{time.monotonic_ns()}"
        self.run_id = open_run(run_dir).run_id
        facts = {"interface_digest": self.contract.interface_digest, "contract_text": self.contract.text}
        save_policy(self.folder / "initial.inril", policy, facts)
        given = {"run_dir": run_dir, "initial_weights": self.folder / "initial.inril", "max_action_change": 2.0}
        given |= {"keep_packs": 2}
        process = started("inril_control.policy_node", *(f"{name}:={value}" for name, value in given.items()))
        try:
            self._bring_up()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=TIMEOUT_S)

    def _bring_up(self) -> None:
        steps = {
            State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_CONFIGURE,
            State.PRIMARY_STATE_INACTIVE: Transition.TRANSITION_ACTIVATE,
        }
        give_up_s = time.monotonic() + TIMEOUT_S
        while (state := self._ask(GetState, "get_state", GetState.Request())) != State.PRIMARY_STATE_ACTIVE:
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"policy_node is not active within {TIMEOUT_S:.0f} s")
            if state in steps:
                self._ask(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=steps[state])))
        self.until(lambda: self._observations.get_subscription_count() == 1, "policy_node's subscription")
        self.until(lambda: self._weights.get_subscription_count() == 1, "policy_node's subscription")

    def _ask(self, kind: Any, name: str, request: Any) -> int | None:
        """The state in the reply; None without one: the reply is lost if its way back is not discovered yet."""
        client = self.node.create_client(kind, f"policy_node/{name}")
        self.until(client.service_is_ready, name)
        future = client.call_async(request)
        give_up_s = time.monotonic() + REPLY_S
        self.until(lambda: future.done() or time.monotonic() > give_up_s, name)
        self.node.destroy_client(client)
        return future.result().current_state.id if future.done() and kind is GetState else None

    def tick(self) -> tuple[int, float]:
        """One observation, answered: the version, and after how many ms."""
        self._k += 1
        message = Observation(boot_id="b", k=self._k, episode_id="e", step=0, state=float32_array(self._state))
        message.phase, message.purpose = Observation.PHASE_RUN, Observation.PURPOSE_TRAIN
        self.answers.clear()
        began_s = time.perf_counter()
        self._observations.publish(message)
        self.until(lambda: self.answers and self.answers[-1].k == self._k, "answer")
        return self.answers[-1].n, 1e3 * (time.perf_counter() - began_s)

    def push(self, way: str, policy: GaussianPolicy, measured: Measured) -> None:
        """Publish the next version and tick until it acts."""
        folder = self.folders[way]
        if folder is None:
            return
        self.n += 1
        with torch.no_grad():
            policy.head.bias.add_(1e-4)
        manifest = {
            "run_id": self.run_id,
            "n": self.n,
            "parent": None,
            "interface_digest": self.contract.interface_digest,
            "contract_text": self.contract.text,
            "policy": policy.manifest(),
            "created_ns": time.time_ns(),
        }
        path = folder / "push.pack"
        began_s = time.perf_counter()
        size, digest = write_pack(path, policy.state_dict(), manifest)
        measured.write_ms.append(1e3 * (time.perf_counter() - began_s))
        measured.pack_bytes = size
        offer = Offer.signed(self.key, self.run_id, self.n, size, digest)
        self.blobs.put(digest, path)
        message = PolicyWeights(run_id=self.run_id, n=self.n, size_bytes=size, address=self.blobs.address)
        message.digest, message.mac = (np.frombuffer(value, np.uint8) for value in (offer.digest, offer.mac))
        message.header.stamp = self.node.get_clock().now().to_msg()
        began_s = time.perf_counter()
        self._weights.publish(message)
        while True:
            n, tick_ms = self.tick()
            if n == self.n:
                break
            refused = [status for status in self.statuses if status.last_rejected_n == self.n]
            if refused:
                raise RuntimeError(f"version {self.n} was refused: {refused[-1].last_rejection}")
            measured.push_tick_ms.append(tick_ms)
            if time.perf_counter() - began_s > TIMEOUT_S:
                raise TimeoutError(f"version {self.n} does not act")
            self._pause()
        measured.ms[way].append(1e3 * (time.perf_counter() - began_s))
        self.blobs.remove(digest)
        self.until(lambda: self.statuses and self.statuses[-1].active_n == self.n, "status")
        self.statuses.clear()
        path.unlink()

    def _pause(self) -> None:
        """Until the next observation: half of the time goes to inference at most, as on a robot."""
        ends_s = time.monotonic() + self._pause_s
        while (left_s := ends_s - time.monotonic()) > 0.0:
            self.executor.spin_once(timeout_sec=left_s)

    def idle(self, measured: Measured) -> None:
        """Ticks while nothing is pushed."""
        for _ in range(IDLE_TICKS_N):
            measured.idle_tick_ms.append(self.tick()[1])
            self._pause()
        self._pause_s = max(PAUSE_S, 1e-3 * statistics.median(measured.idle_tick_ms))

    def dds(self, data: bytes, measured: Measured) -> None:
        """One message with these bytes, acknowledged by a message."""
        message = UInt8MultiArray(data=byte_array(data))
        self._acks.clear()
        began_s = time.perf_counter()
        self._bytes.publish(message)
        self.until(lambda: self._acks and self._acks[-1] == len(data), "acknowledgement")
        measured.ms["dds"].append(1e3 * (time.perf_counter() - began_s))

    def close(self) -> None:
        """End."""
        self.blobs.close()
        self.node.destroy_node()
        rclpy.shutdown()


def started(module: str, *parameters: str) -> subprocess.Popen[bytes]:
    """A node as a process."""
    given = [word for parameter in parameters for word in ("-p", parameter)]
    command = [sys.executable, "-m", module, *(["--ros-args", *given] if given else [])]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def acknowledge() -> None:
    """The other process: takes bytes by DDS and by a socket, and says so."""
    rclpy.init()
    node = rclpy.create_node("benchmark_acknowledges")
    executor = NodeExecutor(context=node.context)
    executor.add_node(node)
    acks = node.create_publisher(UInt64, "benchmark_ack", LATCHED)
    node.create_subscription(
        UInt8MultiArray, "benchmark_bytes", lambda message: acks.publish(UInt64(data=len(message.data))), LATCHED
    )
    with suppress(ExternalShutdownException):
        executor.spin()


def receive(connection: socket.socket) -> None:
    """The other end of the socket, in a process of its own: into memory that is used again."""
    memory = memoryview(bytearray((max(SIZES_MB) + 1) << 20))
    with connection:
        while head := connection.recv(9, socket.MSG_WAITALL):
            size, hashes = int.from_bytes(head[:8], "little"), head[8]
            have = 0
            while have < size:
                have += connection.recv_into(memory[have:size])
            if hashes:
                hashlib.sha256(memory[:size]).digest()
            connection.sendall(b"k")


def by_socket(connection: socket.socket, data: bytes, hashes: bool) -> float:
    """ms until the other process has the bytes, and this one knows it."""
    began_s = time.perf_counter()
    connection.sendall(len(data).to_bytes(8, "little") + bytes([hashes]))
    connection.sendall(data)
    if connection.recv(1) != b"k":
        raise RuntimeError("the receiver is gone")
    return 1e3 * (time.perf_counter() - began_s)


def measure(bench: Bench, connection: socket.socket, size_mb: int, rounds: int) -> Measured:
    """All ways in turns, after one round that does not count."""
    policy = policy_of(size_mb, bench.contract.observation_size)
    measured = Measured(0)
    with bench.policy_node(policy):
        bench.tick()
        for count in range(rounds + 1):
            if count == 1:
                measured = Measured(measured.pack_bytes)
                bench.idle(measured)
            data = os.urandom(1 << 20) * size_mb
            measured.ms["socket"].append(by_socket(connection, data, False))
            measured.ms["socket_sha256"].append(by_socket(connection, data, True))
            bench.dds(data, measured)
            for way in ("link", "tcp"):
                bench.push(way, policy, measured)
    return measured


def other_file_system(folder: Path) -> Path | None:
    """A folder from which no hard link into `folder` can be made; None if there is none."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == folder.stat().st_dev:
        return None
    return Path(tempfile.mkdtemp(prefix="inril-weights-", dir=shared))


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m inril_bringup.weights_benchmark", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes-mb", default=",".join(map(str, SIZES_MB)), help="at most 256")
    parser.add_argument("--domain", type=int, default=58, help="ROS domain")
    parser.add_argument("--out", type=Path, default=Path("docs/results/weights.md"))
    parser.add_argument("--acknowledge", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.acknowledge:
        acknowledge()
        return 0
    try:
        check_writable(options.out)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ.update(child_environment({**os.environ, "ROS_DOMAIN_ID": str(options.domain)}))
    ours, theirs = _tcp_pair()
    receiver = os.fork()
    if receiver == 0:
        ours.close()
        receive(theirs)
        os._exit(0)
    theirs.close()
    torch.set_num_threads(1)
    found: dict[int, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="inril-weights-") as name:
        elsewhere = other_file_system(Path(name))
        bench = Bench(Path(name), elsewhere)
        other = subprocess.Popen([sys.executable, "-m", "inril_bringup.weights_benchmark", "--acknowledge"])
        try:
            for size in (int(text) for text in options.sizes_mb.split(",")):
                found[size] = measure(bench, ours, size, options.rounds)
                print(
                    f"{size} MB: { ({k: round(statistics.median(v), 1) for k, v in found[size].ms.items() if v}) }",
                    flush=True,
                )
        finally:
            other.terminate()
            other.wait(timeout=TIMEOUT_S)
            ours.close()
            os.waitpid(receiver, 0)
            bench.close()
            if elsewhere is not None:
                elsewhere.rmdir()
    write_atomically(options.out, page(found, given, options.rounds).encode())
    print(f"{verdict(found)}\nwritten: {options.out}")
    return 0


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for end in (ours, theirs):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


if __name__ == "__main__":
    sys.exit(main())
