"""What the person at the input device asks for, in the graph."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
from inril_common.calls import Calls
from inril_common.convert import float32_array, pose_to_array
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_common.qos import LATCHED, TICK
from inril_common.realtime import between_episodes
from inril_msgs.msg import Observation, TeleopAction, TeleopStatus
from inril_msgs.srv import SessionCommand

from inril_core.plugins import check_made
from inril_core.teleop import Device, HumanInput, TickView, device_config
from inril_core.teleop.common.keeper import TURN_END, DeviceKeeper
from inril_core.vocabulary import COMMANDS, Phase, Purpose
from inril_session.device_topics import DeviceTopics
from inril_session.scene import SceneTopics

STATUS_PERIOD_NS = 500_000_000
COMMAND_TIMEOUT_S = 5.0
_DIGITS = re.compile(r"[0-9.]+")
TEND_HZ = 10.0
"""How often a synchronous device that failed is looked after; it speaks when it is asked."""


class TeleopNode(InrilNode):
    """Publishes what the person does, teleop_action, and how the device is, teleop_status.

    An asynchronous device is polled on a steady timer, also where no Observation comes: its messages are the person's
    sign of life, and between episodes, or without observation_node, the person can still move the arm. A synchronous
    device answers each Observation of a running episode. What a button says of the episode goes to session/command.
    """

    def __init__(self) -> None:
        super().__init__("teleop_node")
        self._keeper: DeviceKeeper | None = None

    def setup(self) -> None:
        """Make the device; it is opened once the node is active."""
        self.contract = self.contract_param()
        name = self.param("device", "", "input device: its name, or MODULE:CLASS of one of your own")
        settings = self.param("device_settings", "", "settings of the device, a YAML mapping")
        config = device_config(name, settings)
        simulated = self.param("simulated_cell", False, "the graph simulates the cell")
        config.refuse_arm(name, simulated)
        made = config.build(self.contract)
        check_made(made, Device, f"device = {name!r}")
        self._keeper = DeviceKeeper(made, self.contract.action_size)
        self._device = self._keeper.device
        self._operator = self._device.name
        self._topics = DeviceTopics(self, self._device, self.contract)
        self._scene = SceneTopics(self, self._answer) if self._device.looks_at_scene else None
        self._unanswered: Observation | None = None
        self._calls = Calls(self)
        self._status = self.create_publisher(TeleopStatus, "teleop_status", LATCHED)
        self._shown_status = ""
        self._next_status_ns = 0
        self._shown_trouble = ""
        self._newest: tuple[int, TickView] | None = None
        self._publisher = self.create_publisher(TeleopAction, "teleop_action", TICK)
        timeout_s = self.contract.staleness.teleop_s
        self._view_timeout_ns = round(timeout_s * 1e9)
        self._observations = self.link("observation", timeout_s, lambda: self._newest is None)
        self.create_subscription(Observation, "observation", self._on_observation, TICK)
        hz = TEND_HZ if self._device.synchronous else config.poll_hz
        if not self._device.synchronous:
            self._readings = self.link(f"device {self._device.name}", timeout_s)
        self.steady_timer(1.0 / hz, self._on_timer)

    def start(self) -> None:
        """Begin to open the device."""
        self._topics.update(self.mono_ns())
        self._keeper.tend(self.mono_ns())
        self._show_status(self.mono_ns())

    def teardown(self) -> None:
        """Close the device."""
        if self._keeper is not None:
            self._keeper.close()

    def _on_observation(self, message: Observation) -> None:
        mono_ns = self.mono_ns()
        self._observations.saw(mono_ns, message.k)
        if message.last or message.phase != Phase.RUN:
            self._newest = self._unanswered = None
            between_episodes()
            return
        try:
            purpose = Purpose.of(message.purpose).word
        except ValueError:
            return
        view = TickView(
            message.episode_id,
            message.step,
            purpose,
            message.seed,
            np.asarray(message.state, np.float32),
            pose_to_array(message.tool_pose),
        )
        self._newest = mono_ns, view
        if self.active and self._device.synchronous:
            self._unanswered = message
            self._answer()

    def _answer(self) -> None:
        """A synchronous device answers the newest tick, once what it looks at has come."""
        message = self._unanswered
        if message is None or self._newest is None:
            return
        view = self._newest[1]
        if self._scene is not None:
            scene = self._scene.of(message)
            if scene is None:
                return
            view = replace(view, scene=scene)
        self._unanswered = None
        mono_ns = self.mono_ns()
        self._topics.update(mono_ns)
        said = self._keeper.read(view, mono_ns)
        self._show_status(mono_ns)
        if said is not None:
            answer = self._message(said)
            answer.header = message.header
            answer.k = message.k
            self._publisher.publish(answer)

    def _on_timer(self) -> None:
        if not self.active:
            return
        mono_ns = self.mono_ns()
        self._calls.poll(mono_ns)
        self._topics.update(mono_ns)
        if self._device.synchronous:
            self._keeper.tend(mono_ns)
            self._show_status(mono_ns)
            return
        said = self._keeper.read(self._view(mono_ns), mono_ns)
        self._show_status(mono_ns)
        if said is None:
            return
        if said.event:
            self._tell_session(said.event, mono_ns)
        if not self._keeper.trouble:
            self._readings.saw(mono_ns)
        answer = self._message(said)
        answer.header.stamp = self.get_clock().now().to_msg()
        answer.header.frame_id = self.contract.base_frame
        self._publisher.publish(answer)

    def _view(self, mono_ns: int) -> TickView | None:
        """The newest tick of the running episode, while it is news."""
        if self._newest is None or mono_ns - self._newest[0] > self._view_timeout_ns:
            return None
        return self._newest[1]

    def _message(self, said: HumanInput) -> TeleopAction:
        answer = TeleopAction(
            device=self._device.name,
            operator_name=self._device.operator or self._operator,
            synchronous=self._device.synchronous,
            grab=said.grab,
            released=said.released,
            frame=self.contract.base_frame,
        )
        action = said.action
        if len(action) > TURN_END and math.isnan(action[TURN_END]):
            commanded = self._device.inbox.gripper
            action = action.copy()
            action[TURN_END] = -1.0 if math.isnan(commanded) else commanded
        answer.action = float32_array(action)
        return answer

    def _tell_session(self, event: str, mono_ns: int) -> None:
        """A button says how the episode ends."""
        episode_id = "" if self._newest is None else self._newest[1].episode_id
        request = SessionCommand.Request(
            graph_id=self.graph_id, command=COMMANDS[event], episode_id=episode_id, by=self._operator
        )
        log = self.get_logger()

        def told(answer: SessionCommand.Response) -> None:
            (log.info if answer.success else log.error)(f"{event} by {self._operator}: {answer.message}")

        def failed(reason: str) -> None:
            log.error(f"{event} by {self._operator} is lost: {reason}")

        self._calls.call(SessionCommand, "session/command", request, mono_ns, COMMAND_TIMEOUT_S, told, failed)

    @property
    def _trouble(self) -> str:
        """Why nobody can drive with this device now, and the fix; empty: it works."""
        keeper, device = self._keeper, self._device
        if keeper.trouble:
            return keeper.trouble
        if not keeper.ready:
            return f"device {device.name} is being opened"
        if not device.heard:
            return (
                f"device {device.name} is connected and has said nothing yet: press one of its buttons or move it; "
                f"`inril devices live {device.name}` shows what comes"
            )
        if keeper.waits_for_rest:
            return f"device {device.name} is held or pushed: let go of it once"
        return ""

    def _show_status(self, mono_ns: int) -> None:
        trouble = self._trouble
        if trouble == self._shown_status and mono_ns < self._next_status_ns:
            return
        kind = _DIGITS.sub("#", self._keeper.trouble)  # how long it has lasted is no news
        if kind != self._shown_trouble:
            self._shown_trouble = kind
            if kind:
                self.get_logger().error(self._keeper.trouble)
            else:
                self.get_logger().info(f"device {self._device.name} is there")
        self._shown_status, self._next_status_ns = trouble, mono_ns + STATUS_PERIOD_NS
        message = TeleopStatus(
            boot_id=self.boot_id,
            device=self._device.name,
            operator_name=self._device.operator or self._operator,
            synchronous=self._device.synchronous,
            trouble=trouble,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)


def main() -> None:
    """Entry point."""
    run_node(TeleopNode)


if __name__ == "__main__":
    main()
