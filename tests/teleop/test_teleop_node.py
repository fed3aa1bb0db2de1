"""Pins: a synchronous device answers each tick of a running episode, once, with the tick's number."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_common.convert import float32_array
from inril_msgs.msg import Observation, TeleopAction
from inril_session.teleop_node import TeleopNode

from inril_core.contract import load_contract
from inril_core.experts.scripted.insert_leg import InsertLegExpert
from tests.sim.nodes import bench


def test_answers_running_ticks_only() -> None:
    contract = load_contract("insert_leg")
    state = np.random.default_rng(0).normal(size=contract.observation_size).astype(np.float32)

    def observation(k: int, **changes: object) -> Observation:
        message = Observation(k=k, episode_id="e", step=k, phase=Observation.PHASE_RUN, seed=5)
        message.purpose, message.state = Observation.PURPOSE_DEMO, float32_array(state)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    with bench(
        TeleopNode,
        device="scripted",
        simulated_cell=True,
        device_settings="{expert: {noise: 0.3}, takeover_steps: [3, 4]}",
    ) as teleop:
        answers = teleop.hear(TeleopAction, "/teleop_action")
        observations = teleop.client.create_publisher(Observation, "/observation", 10)
        teleop.until(lambda: observations.get_subscription_count() == 1, "subscription")
        for message in (
            observation(0),
            observation(1, phase=Observation.PHASE_IDLE),
            observation(2, last=True),
            observation(3, purpose=Observation.PURPOSE_TRAIN),
            observation(4, purpose=Observation.PURPOSE_TRAIN),
        ):
            observations.publish(message)
        teleop.until(lambda: len(answers) == 3, "three answers")
        assert [(a.k, a.grab, a.released) for a in answers] == [
            (0, True, False),
            (3, True, False),
            (4, False, True),
        ]
        assert all(a.synchronous and a.device == "scripted" and a.frame == "base" for a in answers)
        assert np.array_equal(answers[0].action, InsertLegExpert(contract, noise=0.3, seed=5).act(state))
