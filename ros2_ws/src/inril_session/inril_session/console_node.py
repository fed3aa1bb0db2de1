"""The operator's page in the graph: shows what the nodes say, and does what a person at a page asks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from inril_common.calls import Calls
from inril_common.control_client import ask_arbiter
from inril_common.convert import image_to_array, ns_to_stamp
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import EVENT, LATCHED, SENSOR, TICK
from inril_msgs.msg import (
    ArbiterStatus,
    ExecutedAction,
    LearnerStatus,
    Observation,
    PageInput,
    PolicyStatus,
    RecorderStatus,
    ResetStatus,
    RobotState,
    SessionStatus,
    Target,
    TeleopStatus,
)
from inril_msgs.srv import Arm, LabelEpisode, RollBack, SessionCommand
from sensor_msgs.msg import Image

from inril_core.console import messages as m
from inril_core.console.access import Access, load_or_create_token
from inril_core.console.console import Console, ConsoleFacts
from inril_core.console.tally import DisagreementTrace, EpisodeTally
from inril_core.console.wanted import WantedStarts
from inril_core.evaluation.session.folder import LABELS as SAID
from inril_core.evaluation.session.folder import read_labels
from inril_core.hardware.description import robot_description
from inril_core.run import open_run
from inril_core.session.ledger import read_ledger
from inril_core.vocabulary import COMMANDS, LABELS
from inril_session.console_view import (
    Heard,
    LinkTable,
    kept_versions,
    observed,
    policy,
    pose,
    safety,
    session,
    start_laid_out,
)

SHOW_PERIOD_S = 0.1
SLOW_PERIOD_NS = 1_000_000_000
CALL_TIMEOUT_S = 10.0
WAITING = ("", "waiting", "arming")
"""Session states in which nodes may not be active yet: an observer then would count as the subscriber they wait for."""


class ConsoleNode(InrilPlainNode):
    """Serves the page, publishes page_input, and calls the services that its buttons stand for.

    It is an observer: the graph runs on without it. It listens to ticks and cameras only while a page is open.
    """

    def __init__(self) -> None:
        super().__init__("console_node")
        self._console: Console | None = None
        self._calls = Calls(self)

    def setup(self) -> None:
        """Listen on the port, then to the graph."""
        self.contract = self.contract_param()
        run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        port = self.param("console_port", 8765, "port of the page", 0, 65535)
        host = self.param("console_host", "127.0.0.1", "address that the page is served on; this machine's own")
        names = self.param("console_names", "", "other names of this machine in the page's address, with commas")
        self._socket = self.param("control_socket", "", "Unix socket of the arbiter, for the stop; empty: a service")
        self._run, self._heard, self._links = run, Heard(), LinkTable()
        self._tally, self._trace = EpisodeTally(), DisagreementTrace()
        self._next_slow_ns = 0
        self._shown_results: tuple[Any, Any] = (None, None)
        self._watching: list[Any] = []
        self._counting: Any = None
        self._observing: Any = None
        self._versions: tuple[m.ShownVersion, ...] = ()
        facts = ConsoleFacts(
            self.contract,
            self.get_namespace().strip("/"),
            run.run_id,
            self.param("device", "", "input device of the graph"),
            self.param("drive_timeout_s", 0.3, "oldest echo with which a page still drives", 0.05, 5.0),
            robot_description(self.param("urdf", "", "URDF of the arm; empty: the Panda that comes with inril")),
        )
        self._wanted = WantedStarts(run.paths.starts, facts.cameras)
        access = Access(
            load_or_create_token(run.paths.console_token), [name.strip() for name in names.split(",") if name.strip()]
        )
        self._page_input = self.create_publisher(PageInput, "page_input", TICK)
        self._guard = self.create_guard_condition(self._serve)
        self._console = Console(host, port, access, facts, self._stop, self._guard.trigger)
        where = f"port {self._console.port} of {host}"
        self.get_logger().info(f"the page is on {where}; its token is in {run.paths.console_token}")
        for name, kind, qos in (
            ("arbiter", ArbiterStatus, LATCHED),
            ("session", SessionStatus, LATCHED),
            ("policy", PolicyStatus, LATCHED),
            ("learner", LearnerStatus, LATCHED),
            ("recorder", RecorderStatus, EVENT),
            ("teleop", TeleopStatus, LATCHED),
            ("reset", ResetStatus, EVENT),
        ):
            self._hear(name, kind, f"{name}_status", qos)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVENT)
        self._find_services()
        self.steady_timer(SHOW_PERIOD_S, self.guarded(self._show))

    def teardown(self) -> None:
        """End the pages' connections: the arm holds if one of them drove."""
        self._calls.cancel()
        if self._console is not None:
            self._console.close()

    def _find_services(self) -> None:
        """Make the clients, so that they are matched long before they are needed."""
        for kind, service in (
            (SessionCommand, "session/command"),
            (LabelEpisode, "session/label_episode"),
            (RollBack, "policy/roll_back"),
            (Arm, "arbiter/arm"),
            (Arm, "robot/arm"),
        ):
            self._calls.not_served(kind, service)

    def _hear(self, name: str, kind: Any, topic: str, qos: Any) -> Any:
        def keep(message: Any) -> None:
            self._heard.keep(name, message, self.mono_ns())

        return self.create_subscription(kind, topic, keep, qos)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self.get_namespace().strip("/")
        if all(status.hardware_id.rpartition("/")[0] == own for status in message.status):
            self._links.hear(message, self.mono_ns())

    def _show(self) -> None:
        """Tell the pages how things are; what has not changed is not sent again."""
        console, now_ns = self._console, self.mono_ns()
        assert console is not None
        self._calls.poll(now_ns)
        if console.failure:
            raise RuntimeError(f"the web server has ended: {console.failure}")
        self._listen(console.pages > 0)
        if now_ns >= self._next_slow_ns:
            self._next_slow_ns = now_ns + SLOW_PERIOD_NS
            console.tell(self._links.message(now_ns))
            self._versions = kept_versions(self._run.paths.weights)
            self._show_episodes(console)
        console.tell(self._wanted.of(start_laid_out(self._heard, now_ns)))
        console.tell(safety(self._heard, now_ns))
        console.tell(session(self._heard, now_ns))
        console.tell(policy(self._heard, now_ns, self._versions))
        console.tell(pose(self._heard, now_ns))
        if self._trace.changed:
            console.tell(self._trace.message())

    def _show_episodes(self, console: Console) -> None:
        paths = self._run.paths
        written = _written(paths.session), _written(paths.root / SAID)
        if written != self._shown_results:
            self._shown_results = written
            console.tell(self._tally.curves(read_ledger(paths.session).values, read_labels(paths.root)))

    def _listen(self, watched: bool) -> None:
        """To ticks once the nodes are active, to arm and cameras while somebody looks."""
        said = self._heard.newest("session")
        active = said is not None and said.state not in WAITING
        if self._counting is None and (active or watched):
            self._counting = self.create_subscription(ExecutedAction, "executed_action", self._on_executed, TICK)
        if watched and not self._watching:
            self._watching = [
                self._hear("robot", RobotState, "robot_state", SENSOR),
                self._hear("target", Target, "target", SENSOR),
            ]
            for camera in sorted({image.camera for image in self.contract.images}):
                self._watching.append(self._watch(camera))
        elif not watched and self._watching:
            for subscription in self._watching:
                self.destroy_subscription(subscription)
            self._watching = []
        if active and watched and self._observing is None:
            self._observing = self.create_subscription(Observation, "observation", self._on_observation, SENSOR)
        elif not watched and self._observing is not None:
            self.destroy_subscription(self._observing)
            self._observing = None

    def _watch(self, camera: str) -> Any:
        def on_image(image: Image) -> None:
            assert self._console is not None
            self._console.put_image(camera, lambda: image_to_array(image))

        return self.create_subscription(Image, f"camera/{camera}/image", on_image, SENSOR)

    def _on_observation(self, message: Observation) -> None:
        said = observed(message)
        if said is not None and self._console is not None:
            self._console.tell(said)

    def _on_executed(self, message: ExecutedAction) -> None:
        takeover = message.handover == ExecutedAction.HANDOVER_TAKEOVER
        self._tally.on_step(message.episode_id, message.source, takeover)
        self._trace.on_step(message.episode_id, message.step, message.disagreement)

    def _serve(self) -> None:
        """What the pages ask, in the node's executor."""
        console = self._console
        if console is None:
            return
        while not console.driven.empty():
            said, heard_ns = console.driven.get()
            message = PageInput(client_id=said.client_id, operator_name=said.operator, seq=said.seq)
            message.header.stamp = ns_to_stamp(max(0, self.ros_ns() - (self.mono_ns() - heard_ns)))
            message.grab, message.released = said.grab, said.released
            message.motion, message.gripper = list(said.motion), said.gripper
            self._page_input.publish(message)
        while not console.asked.empty():
            asked = console.asked.get()
            try:
                self._do(asked.client_id, asked.by, asked.message)
            except Exception as error:
                self._tell(asked.client_id, asked.message, False, f"{type(error).__name__}: {error}")
                raise

    def _do(self, client_id: str, by: str, asked: Any) -> None:
        graph_id = self.graph_id
        match asked:
            case m.SessionWord(word, episode_id):
                code = COMMANDS[word]
                request = SessionCommand.Request(graph_id=graph_id, command=code, episode_id=episode_id, by=by)
                self._ask(client_id, asked, SessionCommand, "session/command", request)
            case m.Label(episode_id, label, tag):
                labelling = LabelEpisode.Request(
                    graph_id=graph_id, episode_id=episode_id, label=LABELS[label], by=by, tag=tag
                )
                done = f"{episode_id} is labelled {label}{tag and f', {tag}'}"
                self._ask(client_id, asked, LabelEpisode, "session/label_episode", labelling, done)
            case m.RollBackTo(run_id, n):
                back = RollBack.Request(graph_id=graph_id, run_id=run_id, n=n, unpin=False)
                done = f"version {n} acts from the next episode on, and is pinned until new versions are let in again"
                self._ask(client_id, asked, RollBack, "policy/roll_back", back, done)
            case m.Unpin():
                unpin = RollBack.Request(graph_id=graph_id, unpin=True)
                self._ask(client_id, asked, RollBack, "policy/roll_back", unpin, "new versions are let in again")
            case m.ArmAgain():
                self._arm(client_id, by, asked)
            case _:
                self._tell(client_id, asked, False, f"{type(asked).__name__} is not known here")

    def _ask(self, client_id: str, asked: Any, kind: Any, service: str, request: Any, done: str = "done") -> None:
        def answered(reply: Any) -> None:
            self._tell(client_id, asked, reply.success, reply.message or (done if reply.success else "refused"))

        def failed(reason: str) -> None:
            self._tell(client_id, asked, False, reason)

        self._calls.call(kind, service, request, self.mono_ns(), CALL_TIMEOUT_S, answered, failed)

    def _tell(self, client_id: str, asked: Any, success: bool, text: str) -> None:
        assert self._console is not None
        self._console.answer(client_id, m.Notice("info" if success else "error", text, type(asked).__name__))

    def _arm(self, client_id: str, by: str, asked: Any) -> None:
        if not self._socket:
            request = Arm.Request(graph_id=self.graph_id, arm=True, operator_name=by)
            self._ask(client_id, asked, Arm, "arbiter/arm", request)
            return

        def work() -> None:  # waits for the arm's watchdog, up to 15 s
            self._tell(client_id, asked, *self._ask_socket("arm", by))

        threading.Thread(target=work, name="arm", daemon=True).start()

    def _ask_socket(self, ask: str, by: str) -> tuple[bool, str]:
        try:
            return ask_arbiter(Path(self._socket), ask, self.graph_id, by)
        except TimeoutError:
            return False, "the arbiter does not answer"
        except (OSError, ValueError) as error:
            return False, f"the arbiter does not run ({type(error).__name__}); the arm's own watchdog holds"

    def _stop(self, by: str) -> tuple[bool, str]:
        """Disarm; in a thread of its own, so that it does not wait for this node's executor."""
        if not self._socket:
            return False, "this console has no control socket; use `inril disarm`"
        return self._ask_socket("disarm", by)


def _written(path: Path) -> tuple[int, int] | None:
    """What changes when somebody appends to a file; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def main() -> None:
    """Entry point."""
    run_node(ConsoleNode)


if __name__ == "__main__":
    main()
