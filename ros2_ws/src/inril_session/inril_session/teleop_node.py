"""What the person at the input device asks for, in the graph."""

from __future__ import annotations

import numpy as np
from inril_common.convert import float32_array, pose_to_array
from inril_common.node import InrilNode, between_episodes, run_node
from inril_common.qos import TICK
from inril_msgs.msg import Observation, TeleopAction

from inril_core.plugins import check_made
from inril_core.teleop import Device, HumanInput, TickView, device_config
from inril_core.teleop.common.keeper import DeviceKeeper
from inril_core.vocabulary import Phase, Purpose

TEND_HZ = 2.0
"""How often a synchronous device that failed is looked after; it speaks when it is asked."""


class TeleopNode(InrilNode):
    """Publishes what the person does: teleop_action.

    An asynchronous device is polled on a steady timer, also where no Observation comes: its messages are the person's
    sign of life, and between episodes, or without observation_node, the person can still move the arm. A synchronous
    device answers each Observation of a running episode.
    """

    def __init__(self) -> None:
        super().__init__("teleop_node")

    def setup(self) -> None:
        """Make the device; it is opened once the node is active."""
        self.contract = self.contract_param()
        name = self.param("device", "scripted", "input device: its name, or MODULE:CLASS of one of your own")
        settings = self.param("device_settings", "", "settings of the device, a YAML mapping")
        operator = self.param("operator_name", "", "who is at the device; empty: the device itself")
        config = device_config(name, settings)
        made = config.build(self.contract)
        check_made(made, Device, f"device = {name!r}")
        self._keeper = DeviceKeeper(made, self.contract.action_size)
        self._device = self._keeper.device
        self._operator = operator or self._device.name
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
        self._keeper.tend(self.mono_ns())

    def teardown(self) -> None:
        """Close the device."""
        keeper = getattr(self, "_keeper", None)
        if keeper is not None:
            keeper.close()

    def _on_observation(self, message: Observation) -> None:
        mono_ns = self.mono_ns()
        self._observations.saw(mono_ns, message.k)
        if message.last or message.phase != Phase.RUN:
            self._newest = None
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
        if not self.active or not self._device.synchronous:
            return
        said = self._keeper.read(view, mono_ns)
        self._show_trouble()
        if said is not None:
            answer = self._message(said)
            answer.header = message.header
            answer.k = message.k
            self._publisher.publish(answer)

    def _on_timer(self) -> None:
        if not self.active:
            return
        mono_ns = self.mono_ns()
        if self._device.synchronous:
            self._keeper.tend(mono_ns)
            self._show_trouble()
            return
        said = self._keeper.read(self._view(mono_ns), mono_ns)
        self._show_trouble()
        if said is None:
            return
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
            operator_name=self._operator,
            synchronous=self._device.synchronous,
            grab=said.grab,
            released=said.released,
            frame=self.contract.base_frame,
        )
        answer.action = float32_array(said.action)
        return answer

    def _show_trouble(self) -> None:
        trouble = self._keeper.trouble
        if trouble != self._shown_trouble:
            self._shown_trouble = trouble
            if trouble:
                self.get_logger().error(trouble)
            else:
                self.get_logger().info(f"device {self._device.name} is there")


def main() -> None:
    """Entry point."""
    run_node(TeleopNode)


if __name__ == "__main__":
    main()
