"""The console as a whole, as a node or a test uses it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inril_core.console import messages as m
from inril_core.console.access import Access
from inril_core.console.cameras import Cameras, Pixels
from inril_core.console.driving import PersonInput
from inril_core.console.pages import Asked, Page, Pages
from inril_core.console.server import ConsoleServer, bound_socket
from inril_core.contract import Contract

Stop = Callable[[str], tuple[bool, str]]


@dataclass(frozen=True)
class ConsoleFacts:
    """What a page is told once."""

    contract: Contract
    namespace: str
    run_id: str
    device: str
    """Input device of the graph."""
    drive_timeout_s: float
    robot: str = ""
    """URDF of the arm; empty: none."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the contract's cameras."""
        return tuple(sorted({image.camera for image in self.contract.images}))

    def welcome(self, client_id: str, name: str) -> m.Welcome:
        """The first message to a page."""
        contract = self.contract
        return m.Welcome(
            client_id,
            name,
            contract.task,
            self.namespace,
            self.run_id,
            contract.control_rate_hz,
            contract.action.size > 6,
            contract.action.translation_scale_m,
            contract.action.rotation_scale_rad,
            tuple(contract.limits.position_min_m),
            tuple(contract.limits.position_max_m),
            tuple(m.CameraLine(camera, self._recorded_in(camera)) for camera in self.cameras),
            tuple(m.Quantity(field.name, field.size, field.unit) for field in contract.observation),
            self.device == "browser",
            self.device,
            self.drive_timeout_s,
        )

    def _recorded_in(self, camera: str) -> tuple[str, ...]:
        images = [image for image in self.contract.images if image.camera == camera]
        return tuple(purpose for purpose in ("demo", "train", "eval") if any(image.due(purpose) for image in images))


class Console:
    """The page and its server. Its methods may be called from any thread.

    What the pages ask waits in `asked` and `driven` until the owner takes it; `wake` is called then. A stop does not
    wait for the owner: it is done by a thread of its own.

    Args:
        host, port: address to listen on; port 0: any free one.
        stop: disarms for a person of that name; whether it was done, and what to say.
        wake: called from the server's thread.

    Raises:
        ConfigError: the address cannot be had; names the fix.
    """

    def __init__(
        self, host: str, port: int, access: Access, facts: ConsoleFacts, stop: Stop, wake: Callable[[], None]
    ) -> None:
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self.driven: queue.SimpleQueue[tuple[PersonInput, int]] = queue.SimpleQueue()
        """What the person does, and when it came (monotonic ns): whoever takes it late knows how old it is."""
        self._stop, self._wake = stop, wake
        self._cameras = Cameras(facts.cameras)
        self._encoding = False
        self._encoders: set[asyncio.Task[None]] = set()
        self._seen: dict[str, dict[str, int]] = {}
        self._pages = Pages(facts.drive_timeout_s, self._on_drive, self._on_ask, facts.welcome)
        listener = bound_socket(host, port)
        self._server = ConsoleServer(listener, access, self._pages, stop, facts.robot, self._give_frames)
        self.port = self._server.port
        self._server.start()

    @property
    def failure(self) -> str:
        """Why the server has ended by itself; empty: it runs."""
        return self._server.failure

    @property
    def pages(self) -> int:
        """Connected now."""
        return len(self._pages)

    def tell(self, message: m.ToPage) -> None:
        """Tell every page."""
        self._server.call(lambda: self._pages.tell(message))

    def answer(self, client_id: str, message: m.ToPage) -> None:
        """Tell one page."""
        self._server.call(lambda: self._pages.answer(client_id, message))

    def put_image(self, camera: str, pixels: Pixels) -> None:
        """A camera's newest picture; see `Cameras.put`."""
        self._cameras.put(camera, pixels, time.monotonic_ns())

    def close(self) -> None:
        """End the connections and the server."""
        self._server.close()

    def _on_drive(self, said: PersonInput) -> None:
        self.driven.put((said, time.monotonic_ns()))
        self._wake()

    def _on_ask(self, asked: Asked) -> None:
        if isinstance(asked.message, m.Stop):
            threading.Thread(target=self._do_stop, args=(asked,), name="stop", daemon=True).start()
            return
        self.asked.put(asked)
        self._wake()

    def _do_stop(self, asked: Asked) -> None:
        try:
            done, text = self._stop(asked.by)
        except Exception as error:  # whatever goes wrong, the person must hear of it
            done, text = False, f"{type(error).__name__}: {error}"
        if not done:
            text = f"STOP FAILED: {text}. Press the arm's own emergency stop"
        notice = m.Notice("warning" if done else "error", f"Stop by {asked.by}: {text}", "Stop")
        self.tell(notice)

    def _give_frames(self) -> None:
        """In the server's thread: hand each page the newest picture it has not had; encode one at a time, beside it."""
        if not self._encoding:
            now_ns = time.monotonic_ns()
            fresh = next((c for c in self._cameras.names if self._cameras.has_news(c, now_ns)), None)
            if fresh is not None:
                self._encoding = True
                task = asyncio.get_running_loop().create_task(self._encode(fresh))
                self._encoders.add(task)
                task.add_done_callback(self._encoders.discard)
        self._hand_out()

    async def _encode(self, camera: str) -> None:
        try:
            await asyncio.to_thread(self._cameras.make, camera)
        finally:
            self._encoding = False
        self._hand_out()

    def _hand_out(self) -> None:
        pages = self._pages.wanting_frames
        for camera in self._cameras.names:
            frame = self._cameras.made(camera)
            if frame is None or not frame.jpeg:
                continue
            for page in pages:
                self._hand(page, frame)
        gone = self._seen.keys() - {page.client_id for page in self._pages.all}
        for client_id in gone:
            del self._seen[client_id]

    def _hand(self, page: Page, frame: m.Frame) -> None:
        seen = self._seen.setdefault(page.client_id, {})
        if frame.frame_id > seen.get(frame.camera, 0):
            seen[frame.camera] = frame.frame_id
            page.outbox.put_frame(frame)
            page.wake()
