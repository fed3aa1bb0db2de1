"""Pins: the first second of every correction, and what led to it, is in the recording: whatever a person does from the
first reading on, through the real device, arbiter and recorder nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_common.qos import EVENT
from inril_msgs.msg import EpisodeEvent, Observation
from inril_msgs.srv import Arm
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from inril_core.data import read_episode
from inril_core.data.finalise import RESULT
from inril_core.data.handovers import corrections
from inril_core.run import RunPaths
from inril_core.vocabulary import Handover, Source
from tests.teleop.cell import CONTRACT
from tests.teleop.test_topics import ARM, AXES, GRAB, HAND_BACK, reads, with_peer

FORWARD = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
UP = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
SECOND = round(CONTRACT.control_rate_hz)
BEFORE, AFTER = 4, 3


def test_the_first_second_of_each_correction_is_recorded(tmp_path: Path) -> None:
    with with_peer(recorder=True, device="joy", expects_policy=True, run_dir=str(tmp_path)) as (cell, peer):
        events = cell.client.create_publisher(EpisodeEvent, "/episode_event", EVENT)
        cell.until(events.get_subscription_count, "recorder")
        reads(cell, peer, peer.joy, lambda: cell.devices and not cell.devices[-1].trouble, "joystick")
        reads(cell, peer, peer.joy, lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")
        event: dict[str, Any] = {"episode_id": "e", "run_id": "run", "purpose": Observation.PURPOSE_TRAIN}
        event |= {"max_steps": 200, "seed": 3}
        events.publish(EpisodeEvent(event=EpisodeEvent.BEGIN, **event))
        asked: list[int] = []
        for _ in range(2):
            for _ in range(BEFORE):
                reads(cell, peer, peer.joy, lambda: True, "rest")
                cell.tick(FORWARD)
            reads(cell, peer, lambda: peer.joy(UP, GRAB), lambda: cell.said[-1].grab, "grab")
            asked.append(len(cell.executed))  # the step that the next tick is
            for _ in range(SECOND):
                reads(cell, peer, lambda: peer.joy(UP, GRAB), lambda: True, "hold of the button")
                cell.tick(FORWARD)
            reads(cell, peer, lambda: peer.joy(AXES, HAND_BACK), lambda: cell.said[-1].released, "hand-back")
        for _ in range(AFTER):
            reads(cell, peer, peer.joy, lambda: True, "rest")
            cell.tick(FORWARD)
        steps = len(cell.executed)
        cell.observation(last=True, purpose=Observation.PURPOSE_TRAIN)
        events.publish(EpisodeEvent(event=EpisodeEvent.END, **event))
        path = RunPaths(tmp_path).episodes / "e.mcap"
        cell.until(lambda: cell.pass_time() and path.exists(), "finished recording")

    episode = read_episode(path)
    assert episode.steps == steps == 2 * (BEFORE + SECOND) + AFTER
    for first in asked:
        second = slice(first, first + SECOND)
        assert (episode.source[second] == Source.HUMAN).all(), "from the first tick after the grab"
        np.testing.assert_allclose(episode.proposed[second], [[0, 0, 1, 0, 0, 0]] * SECOND, atol=1e-6)
    found = corrections(episode.source, episode.stamps_ns)
    assert [c.first_step for c in found] == asked
    assert all(0 <= c.before_step < c.first_step for c in found)

    marks, grabs, shadow = [], [], []
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        (listed,) = (record.metadata["corrections"] for record in reader.iter_metadata() if record.name == RESULT)
        for _, channel, _, message in reader.iter_decoded_messages():
            if channel.topic == "/executed_action" and message.handover:
                marks.append((message.step, message.handover))
            elif channel.topic == "/teleop_action":
                grabs.append(message.grab)
            elif channel.topic == "/policy_action":
                shadow.append(list(message.action))
    assert json.loads(listed) == [list(c) for c in found]
    wanted = [(asked[0], Handover.TAKEOVER), (asked[0] + SECOND, Handover.HAND_BACK)]
    wanted += [(asked[1], Handover.TAKEOVER), (asked[1] + SECOND, Handover.HAND_BACK)]
    assert marks == wanted
    assert any(grabs), "what the device said is there too"
    assert len(shadow) == steps and all(action == FORWARD for action in shadow), "and what the policy would have done"
