"""The human's voice in the graph, whatever the device."""

from __future__ import annotations

import numpy as np
from inril_common.convert import float32_array
from inril_common.node import InrilNode, run_node
from inril_common.qos import TICK
from inril_msgs.msg import Observation, TeleopAction

from inril_core.experts.scripted import make_expert
from inril_core.teleop.scripted import Device, ScriptedHuman, TickView, parse_takeover_steps

PURPOSE_NAMES = {
    Observation.PURPOSE_DEMO: "demo",
    Observation.PURPOSE_TRAIN: "train",
    Observation.PURPOSE_EVAL: "eval",
}


class TeleopNode(InrilNode):
    """Answers each Observation of a running episode with what the human does: /teleop_action."""

    def __init__(self) -> None:
        super().__init__("teleop_node")

    def setup(self) -> None:
        """Open the device."""
        self.param("run_dir", "runs/run", "folder of this run")
        self.param("real_time_factor", 0.0, "not used: the device answers ticks", 0.0, 100.0)
        self._operator = self.param("operator_name", "", "who is at the device; empty: the device itself")
        self._device = self._open_device()
        self._publisher = self.create_publisher(TeleopAction, "teleop_action", TICK)
        self._observations = self.link("observation", self.contract.staleness.teleop_s)
        self.create_subscription(Observation, "observation", self._on_observation, TICK)

    def _open_device(self) -> Device:
        self.contract = self.contract_param()
        self.param("device", "scripted", "input device", choices=["scripted"])
        noise = self.param("expert_noise", 0.0, "standard deviation added to each action component", 0.0, 2.0)
        bias_m = self.param("expert_bias_m", 0.0, "error of where it believes the hole to be, m", 0.0, 0.05)
        hesitation = self.param("expert_hesitation", 0.0, "probability per step of pausing", 0.0, 1.0)
        takeover = self.param("takeover_steps", "", "FIRST:END steps in which it takes over outside demos")
        expert = make_expert(self.contract, noise, bias_m, hesitation)
        return ScriptedHuman(expert, parse_takeover_steps(takeover))

    def _on_observation(self, message: Observation) -> None:
        self._observations.saw(self.mono_ns(), message.k)
        purpose = PURPOSE_NAMES.get(message.purpose)
        if not self.active or message.last or message.phase != Observation.PHASE_RUN or purpose is None:
            return
        state = np.asarray(message.state, np.float32)
        human = self._device.read(TickView(message.episode_id, message.step, purpose, message.seed, state))
        answer = TeleopAction(
            device=self._device.name,
            operator_name=self._operator or self._device.name,
            k=message.k if self._device.synchronous else 0,
            synchronous=self._device.synchronous,
            grab=human.grab,
            released=human.released,
            frame="base",
        )
        answer.header.stamp = message.header.stamp
        answer.header.frame_id = message.header.frame_id
        answer.action = float32_array(human.action)
        self._publisher.publish(answer)


def main() -> None:
    """Entry point."""
    run_node(TeleopNode)


if __name__ == "__main__":
    main()
