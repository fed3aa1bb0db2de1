"""Pins: bytes that are lost, doubled or changed on their way, and pulls that never end or fill memory and disk.

Over 400 lines: every way in which a server or its network can be wrong shares one harness.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from inril_core.blobs import (
    Blob,
    BlobCorrupt,
    BlobLost,
    BlobRefused,
    BlobServer,
    ClockOffset,
    ClocksDiffer,
    pull,
    pull_blob,
    server,
)
from inril_core.blobs.protocol import PROTOCOL, read_frame, signature
from inril_core.errors import ConfigError
from inril_core.wire import Decoder, encode

KEY = bytes(range(32))
CONTENT = np.random.default_rng(0).integers(0, 256, 7 * pull.CHUNK_BYTES + 12345, dtype=np.uint8).tobytes()
BLOB = Blob(blake3(CONTENT).digest(), len(CONTENT), blake3)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[BlobServer]:
    """Serves CONTENT."""
    server = BlobServer(KEY)
    (tmp_path / "served").write_bytes(CONTENT)
    server.put(BLOB.digest, tmp_path / "served")
    yield server
    server.close()


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another host, or another disk, answers to a hard link."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


class Relay:
    """Stands between a client and a server, and cuts each connection after so many bytes of the server."""

    def __init__(self, address: str, cuts: list[int], alter: Callable[[bytes], bytes] = lambda data: data) -> None:
        host, port = address.split(":")
        self._to, self._cuts, self._alter = (host, int(port)), cuts, alter
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.relayed_bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            cut = self._cuts.pop(0) if self._cuts else 1 << 60
            threading.Thread(target=self._serve, args=(client, cut), daemon=True).start()

    def _serve(self, client: socket.socket, cut: int) -> None:
        with client, socket.create_connection(self._to) as server:
            threading.Thread(target=self._questions, args=(client, server), daemon=True).start()
            with suppress(OSError):
                while cut > 0 and (data := server.recv(min(cut, 1 << 16))):
                    cut -= len(data)
                    self.relayed_bytes += len(data)
                    client.sendall(self._alter(data))
                server.shutdown(socket.SHUT_RDWR)
                client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _questions(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)

    def close(self) -> None:
        self._listener.close()


def test_on_one_file_system_the_file_itself_is_taken(served: BlobServer, tmp_path: Path) -> None:
    memory = np.empty(len(CONTENT), np.uint8)
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled", memory=memory)
    assert os.path.samefile(tmp_path / "pulled", tmp_path / "served")
    assert memory.tobytes() == CONTENT


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("size", [1, pull.CHUNK_BYTES, len(CONTENT)])
def test_elsewhere_the_bytes_are_sent(served: BlobServer, tmp_path: Path, in_memory: bool, size: int) -> None:
    part = CONTENT[:size]
    blob = Blob(hashlib.sha256(part).digest(), size, hashlib.sha256)
    (tmp_path / "part").write_bytes(part)
    served.put(blob.digest, tmp_path / "part")
    memory = np.empty(size, np.uint8) if in_memory else None
    pull_blob(blob, served.address, KEY, tmp_path / "pulled", memory=memory)
    assert (tmp_path / "pulled").read_bytes() == part
    assert memory is None or memory.tobytes() == part
    assert not (tmp_path / "pulled.part").exists()


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_pull_goes_on_where_the_connection_broke_off(served: BlobServer, tmp_path: Path, in_memory: bool) -> None:
    relay = Relay(served.address, [2_000_000, 900, 3_333_333, 5])
    memory = np.empty(len(CONTENT), np.uint8) if in_memory else None
    pull_blob(BLOB, relay.address, KEY, tmp_path / "pulled", memory=memory)
    relay.close()
    assert (tmp_path / "pulled").read_bytes() == CONTENT
    assert memory is None or memory.tobytes() == CONTENT
    assert relay.relayed_bytes < len(CONTENT) + 100_000, "no byte is asked for twice"


@pytest.mark.usefixtures("other_file_system")
def test_a_client_that_was_killed_in_mid_pull_goes_on(served: BlobServer, tmp_path: Path) -> None:
    """kill -9 of the client, when a part of the bytes is on its disk."""
    relay = Relay(served.address, [])
    held = threading.Event()

    def hold(data: bytes) -> bytes:
        if relay.relayed_bytes > 3 * pull.CHUNK_BYTES:
            held.wait(60.0)
        return data

    relay._alter = hold
    code = f"""
import os
from pathlib import Path
from blake3 import blake3
from inril_core.blobs import Blob, pull_blob
def refuse(*_, **__): raise OSError(18, "Invalid cross-device link")
os.link = refuse
blob = Blob({BLOB.digest!r}, {BLOB.size_bytes}, blake3)
pull_blob(blob, {relay.address!r}, {KEY!r}, Path({str(tmp_path / "pulled")!r}))
"""
    client = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "pulled.part"
    while client.poll() is None and not (part.exists() and part.stat().st_size >= pull.CHUNK_BYTES):
        pass
    client.send_signal(signal.SIGKILL)
    assert client.wait(timeout=60) == -signal.SIGKILL
    held.set()
    had, before = part.stat().st_size, relay.relayed_bytes
    again = Relay(served.address, [])
    pull_blob(BLOB, again.address, KEY, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == CONTENT
    assert before and again.relayed_bytes < len(CONTENT) - had + 100_000, "what was on disk is not sent again"
    relay.close()
    again.close()


@pytest.mark.usefixtures("other_file_system")
def test_a_server_that_was_killed_in_mid_pull_is_found_again(tmp_path: Path) -> None:
    """kill -9 of the server; the next one has another port, and the caller gives its address."""
    (tmp_path / "served").write_bytes(CONTENT)
    with server_process(tmp_path / "served") as (process, address):
        relay = Relay(address, [])

        def kill(data: bytes) -> bytes:
            if relay.relayed_bytes > 3 * pull.CHUNK_BYTES:
                process.kill()
                process.wait(timeout=60)
                raise ConnectionResetError("what the network still holds is lost")
            return data

        relay._alter = kill
        with pytest.raises(BlobLost):
            pull_blob(BLOB, relay.address, KEY, tmp_path / "pulled", superseded=lambda: True)
        relay.close()
    had = (tmp_path / "pulled.part").stat().st_size
    assert had > 0 and not (tmp_path / "pulled").exists(), "half a blob has no name"
    with server_process(tmp_path / "served") as (_, address):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == CONTENT


@contextmanager
def server_process(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    code = f"""
import sys
from pathlib import Path
from inril_core.blobs import BlobServer
server = BlobServer({KEY!r})
server.put({BLOB.digest!r}, Path({str(path)!r}))
print(server.address, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


@pytest.mark.usefixtures("other_file_system")
def test_a_changed_byte_is_thrown_away(served: BlobServer, tmp_path: Path) -> None:
    relay = Relay(served.address, [])
    relay._alter = lambda data: data[:-1] + bytes([data[-1] ^ 1]) if relay.relayed_bytes > 1 << 20 else data
    with pytest.raises(BlobCorrupt, match="announced"):
        pull_blob(BLOB, relay.address, KEY, tmp_path / "pulled")
    relay.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served"]


@pytest.mark.usefixtures("other_file_system")
def test_a_part_that_was_changed_on_disk_is_thrown_away(served: BlobServer, tmp_path: Path) -> None:
    (tmp_path / "pulled.part").write_bytes(bytes(1000))
    with pytest.raises(BlobCorrupt):
        pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == CONTENT


def test_a_part_that_is_somebody_elses_file_is_not_written_to(served: BlobServer, tmp_path: Path, monkeypatch) -> None:
    shorter = tmp_path / "mine"
    shorter.write_bytes(CONTENT[:1000])
    os.link(shorter, tmp_path / "pulled.part")
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EXDEV, "no")))
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    assert shorter.read_bytes() == CONTENT[:1000] and (tmp_path / "pulled").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [0, -5, 1 << 40])
def test_an_announced_size_out_of_bounds_is_not_pulled(tmp_path: Path, size: int) -> None:
    with pytest.raises(BlobRefused, match="1 to"):
        pull_blob(Blob(BLOB.digest, size, blake3), "127.0.0.1:1", KEY, tmp_path / "pulled")


@pytest.mark.parametrize("size", [1, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_size_that_lies_is_found_before_a_byte_is_sent(served: BlobServer, tmp_path: Path, size: int) -> None:
    with pytest.raises(BlobCorrupt, match="are announced"):
        pull_blob(Blob(BLOB.digest, size, blake3), served.address, KEY, tmp_path / "pulled")
    assert not list(tmp_path.glob("pulled*"))


def test_who_has_another_key_gets_nothing_and_gives_nothing(served: BlobServer, tmp_path: Path) -> None:
    with pytest.raises(BlobRefused, match="another key"):
        pull_blob(BLOB, served.address, bytes(32), tmp_path / "pulled")
    assert not list(tmp_path.glob("pulled*"))


def test_what_is_not_served_is_named(served: BlobServer, tmp_path: Path) -> None:
    with pytest.raises(BlobRefused, match="not served here"):
        pull_blob(Blob(bytes(32), 5, blake3), served.address, KEY, tmp_path / "pulled")
    (tmp_path / "served").unlink()
    with pytest.raises(BlobRefused, match="No such file"):
        pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")


def test_a_served_name_that_has_become_a_link_or_a_pipe_is_not_opened(served: BlobServer, tmp_path: Path) -> None:
    (tmp_path / "served").rename(tmp_path / "other")
    (tmp_path / "served").symlink_to(tmp_path / "other")
    with pytest.raises(BlobRefused):
        pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    (tmp_path / "served").unlink()
    os.mkfifo(tmp_path / "served")
    with pytest.raises(BlobRefused, match="regular file"):
        pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")


@pytest.mark.usefixtures("other_file_system")
def test_a_disk_without_room_is_named_before_a_byte_is_sent(served: BlobServer, tmp_path: Path, monkeypatch) -> None:
    real = os.statvfs(tmp_path)
    few = os.statvfs_result((*real[:3], 100, 100, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: few)
    with pytest.raises(OSError, match="free some space") as caught:
        pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.usefixtures("other_file_system")
def test_a_disk_that_is_full_in_mid_pull_costs_nothing_that_was_written(
    served: BlobServer, tmp_path: Path, monkeypatch
) -> None:
    real, room, failed = os.pwrite, 3 * pull.CHUNK_BYTES + 777, []

    def small_disk(fd: int, data: memoryview, offset: int) -> int:
        """Full, until somebody removes a file a moment later: what follows must not be written behind a hole."""
        if failed:
            return real(fd, data, offset)
        if offset >= room:
            failed.append(offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: room - offset], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", small_disk)
        with pytest.raises(OSError, match="No space left"):
            pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    assert (tmp_path / "pulled.part").read_bytes() == CONTENT[:room]
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == CONTENT


@contextmanager
def hostile(answer: Callable[[socket.socket, dict, tuple[str, str]], None]) -> Iterator[str]:
    """A server that has the key, greets as it should, and answers each question in its own way."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(encode({"type": "hello", "protocol": PROTOCOL, "nonce": "5" * 32}))
                    decoder = Decoder()
                    while data := connection.recv(1 << 16):
                        decoder.feed(data)
                        while (frame := decoder.next()) is not None:
                            answer(connection, frame[0], ("5" * 32, frame[0]["nonce"]))
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def say(connection: socket.socket, frame: dict, nonces: tuple[str, str]) -> None:
    connection.sendall(encode({**frame, "mac": signature(KEY, frame, nonces)}))


def honest(question: dict) -> dict:
    return {
        "type": question["type"],
        "blob": question["blob"],
        "offset": question["offset"],
        "size_bytes": len(CONTENT),
        "path": "/nowhere",
        "device": 1,
        "inode": 1,
        "came_ns": time.time_ns(),
        "said_ns": time.time_ns(),
    }


def silent(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
    """Takes the question and says nothing."""


def drips(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
    say(connection, honest(question), nonces)
    if question["type"] == "send":
        connection.sendall(CONTENT[question["offset"] :][:1])


@pytest.mark.parametrize("answer", [silent, drips])
def test_silence_ends_in_bounded_time(tmp_path: Path, answer, monkeypatch) -> None:
    """By a clock that goes on by a second with each look at it."""
    monkeypatch.setattr(pull, "POLL_S", 0.01)
    monkeypatch.setattr(pull, "RETRY_MIN_S", 0.001)
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 1.0
        return now_s

    with hostile(answer) as address, pytest.raises(BlobLost, match="silent|bytes a second"):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled", clock=clock)


def test_a_pull_that_is_stopped_ends(tmp_path: Path) -> None:
    stop = threading.Event()

    def answer(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
        stop.set()

    with hostile(answer) as address, pytest.raises(BlobLost, match="stopped"):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled", timeout_s=1000.0, stop=stop)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"blob": "00" * 32}, BlobRefused),
        ({"offset": 7}, BlobRefused),
        ({"type": "hello"}, BlobRefused),
        ({"size_bytes": True}, BlobCorrupt),
        ({"size_bytes": None}, BlobCorrupt),
        ({"size_bytes": -1}, BlobCorrupt),
    ],
)
def test_other_answers_than_were_asked_for_are_refused(tmp_path: Path, change: dict, error: type) -> None:
    def answer(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
        say(connection, honest(question) | change, nonces)

    with hostile(answer) as address, pytest.raises(error):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled")


@pytest.mark.parametrize("mac", ["", "00" * 32, "ä", None, 7])
def test_a_server_without_the_key_is_not_believed(tmp_path: Path, mac) -> None:
    def answer(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
        connection.sendall(encode({**honest(question), "mac": mac}))

    with hostile(answer) as address, pytest.raises(BlobRefused, match="installation's key"):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled")


def test_an_old_conversation_is_of_no_use(served: BlobServer) -> None:
    """What one client said, said again by somebody who heard it."""
    host, port = served.address.split(":")
    said = []
    for _ in range(2):
        with socket.create_connection((host, int(port))) as connection:
            hello = read_frame(connection, lambda: None)
            question = {"type": "send", "blob": BLOB.digest.hex(), "offset": 0}
            mac = signature(KEY, question, (hello["nonce"], "7" * 32))
            said.append({**question, "nonce": "7" * 32, "mac": mac})
            connection.sendall(encode(said[0]))
            answer = read_frame(connection, lambda: None)
            assert answer["type"] == ("send" if len(said) == 1 else "error")


@pytest.mark.parametrize("path", ["/dev/zero", "relative", "", "/" + "x" * 5000, "a\0b", None, 7])
def test_a_path_that_is_not_the_announced_file_is_left_alone(tmp_path: Path, path) -> None:
    def answer(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
        say(connection, honest(question) | {"path": path}, nonces)
        if question["type"] == "send":
            connection.sendall(CONTENT[question["offset"] :])

    with hostile(answer) as address:
        pull_blob(BLOB, address, KEY, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == CONTENT


@pytest.mark.parametrize("junk", [b"", b"\0" * 5000, b"HTTP/1.1 200 OK\r\n\r\n", encode({"type": "hello"})])
def test_who_is_no_blob_server_is_refused(tmp_path: Path, junk: bytes, monkeypatch) -> None:
    monkeypatch.setattr(pull, "RETRY_MIN_S", 0.001)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            for _ in range(pull.FAILURES):
                connection, _ = listener.accept()
                connection.sendall(junk)
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises((BlobLost, BlobRefused)):
        pull_blob(BLOB, f"127.0.0.1:{listener.getsockname()[1]}", KEY, tmp_path / "pulled")
    listener.close()
    with pytest.raises(BlobRefused, match="HOST:PORT"):
        pull_blob(BLOB, "nonsense", KEY, tmp_path / "pulled")


def test_nobody_there_is_named_with_the_fix(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pull, "RETRY_MIN_S", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(BlobLost, match="INRIL_HOST"):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled")


@pytest.mark.parametrize("junk", [b"", b"GET / HTTP/1.1\r\n\r\n", b"INR1" + b"\xff" * 8, encode({"type": "send"})])
def test_no_bytes_end_the_server(served: BlobServer, tmp_path: Path, junk: bytes) -> None:
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port))) as connection, suppress(OSError):
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")


def test_a_server_without_a_free_place_is_asked_again(served: BlobServer, tmp_path: Path, monkeypatch) -> None:
    host, port = served.address.split(":")
    others = [socket.create_connection((host, int(port))) for _ in range(server.MAX_CLIENTS)]
    for other in others:
        assert other.recv(1), "greeted"
    waited = []

    def leave(failures: int, *_: float) -> float:
        waited.append(failures)
        for other in others:
            other.close()
        return 0.05

    monkeypatch.setattr(pull, "wait_s", leave)
    monkeypatch.setattr(pull, "FAILURES", 1000)
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled")
    assert waited and (tmp_path / "pulled").read_bytes() == CONTENT


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.0.2.1", "no such host"])
def test_an_address_that_cannot_be_announced_is_a_users_error(host: str) -> None:
    with pytest.raises(ConfigError, match="blob_host"):
        BlobServer(KEY, host)


@pytest.mark.parametrize("ahead_s", [-3600.0, -0.3, 0.3, 86400.0])
def test_a_host_with_another_time_is_refused_with_the_fix(tmp_path: Path, ahead_s: float, monkeypatch) -> None:
    monkeypatch.setattr(pull, "RETRY_MIN_S", 0.001)
    heard: list[ClockOffset] = []
    other = BlobServer(KEY, wall_ns=lambda: 10**18 + round(ahead_s * 1e9))
    (tmp_path / "served").write_bytes(CONTENT)
    other.put(BLOB.digest, tmp_path / "served")
    with pytest.raises(ClocksDiffer, match="chrony.*nothing is pulled"):
        pull_blob(BLOB, other.address, KEY, tmp_path / "pulled", wall_ns=lambda: 10**18, on_clock=heard.append)
    assert heard[0].offset_s == pytest.approx(ahead_s) and heard[0].error_s == 0.0
    assert not list(tmp_path.glob("pulled*"))
    pull_blob(BLOB, other.address, KEY, tmp_path / "pulled", wall_ns=lambda: 10**18 + round((ahead_s - 0.09) * 1e9))
    other.close()


@given(
    offset_ns=st.integers(-(10**12), 10**12),
    there_ns=st.integers(0, 10**9),
    back_ns=st.integers(0, 10**9),
    thought_ns=st.integers(0, 10**9),
)
def test_clocks_are_compared_to_within_the_error_that_is_said(
    offset_ns: int, there_ns: int, back_ns: int, thought_ns: int
) -> None:
    """RFC 5905: whatever the two ways took, the error is at most half of both."""
    asked_ns = 10**18
    came_ns = asked_ns + there_ns + offset_ns
    heard_ns = asked_ns + there_ns + thought_ns + back_ns
    found = ClockOffset.of(asked_ns, came_ns, came_ns + thought_ns, heard_ns)
    assert abs(found.offset_s - offset_ns * 1e-9) <= found.error_s + 1e-9
    assert found.least_s <= abs(offset_ns) * 1e-9 + 1e-9


def test_a_slow_link_is_not_taken_for_another_time(served: BlobServer, tmp_path: Path) -> None:
    """Two seconds under way: the clocks may differ by 1 s, and may as well agree."""
    times_ns = iter([10**18, 10**18 + 2 * 10**9] * 4)
    served._server.wall_ns = lambda: 10**18 + 10**9 + 500_000_000
    pull_blob(BLOB, served.address, KEY, tmp_path / "pulled", wall_ns=lambda: next(times_ns))


@pytest.mark.parametrize("times", [{"came_ns": None}, {"said_ns": -1}, {"came_ns": 1.5}, {"said_ns": True}])
def test_times_that_are_none_are_refused(tmp_path: Path, times: dict) -> None:
    def answer(connection: socket.socket, question: dict, nonces: tuple[str, str]) -> None:
        say(connection, honest(question) | times, nonces)

    with hostile(answer) as address, pytest.raises(BlobRefused, match="came_ns|said_ns"):
        pull_blob(BLOB, address, KEY, tmp_path / "pulled")
