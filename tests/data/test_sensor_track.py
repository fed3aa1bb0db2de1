"""Pins: joints and torques that are lost, belong to another step, or fill the disk because the driver is fast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inril_msgs.msg import RobotState
from rclpy.serialization import serialize_message

from inril_core.data import read_episode
from inril_core.data.sensor_track import Sample, SensorTrack, header_stamp_ns
from tests.data.synthetic import PERIOD_NS, Synthetic, fill
from tests.data.test_episode_router import LONG, SECOND, feed, kinds, recorder


@given(
    samples=st.lists(st.integers(0, 50), unique=True).map(sorted),
    wanted=st.lists(st.integers(0, 50), min_size=1, unique=True).map(sorted),
    data=st.data(),
)
def test_each_observation_gets_the_newest_that_is_not_later_whatever_comes_first(samples, wanted, data):
    track, found = SensorTrack(), []
    left, right = list(samples), list(wanted)
    while left or right:
        if right and (not left or data.draw(st.booleans())):
            track.want("e", right.pop(0))
        else:
            track.hear(Sample(left.pop(0), 0, b""))
        found += track.take()
    found += track.close("e")
    best = [max((s for s in samples if s <= stamp), default=None) for stamp in wanted]
    assert [sample.stamp_ns for _, sample in found] == sorted({stamp for stamp in best if stamp is not None})


@given(sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 2**32 - 1))
def test_the_stamp_is_read_without_decoding_the_rest(sec, nanosec):
    message = RobotState()
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    assert header_stamp_ns(serialize_message(message)) == sec * SECOND + nanosec


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", b"\x07\x01" + bytes(20)])
def test_bytes_that_are_no_message_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match="/robot_state"):
        recorder(tmp_path).handle("/robot_state", data, 0, 0)


def test_joints_torques_and_parts_are_read_back_with_their_stamps(tmp_path):
    made = Synthetic(steps=5, measured=True)
    path = made.record(tmp_path)
    assert read_episode(path).measured is None, "who does not ask does not pay"
    measured = read_episode(path, measured=True).measured
    np.testing.assert_array_equal(measured.joint_torque_nm, made.arrays["joint_torque_nm"])
    np.testing.assert_array_equal(measured.joint_position_rad, made.arrays["joint_torque_nm"] + 1.0)
    np.testing.assert_array_equal(measured.robot_stamps_ns, [made.stamp_ns(step) for step in range(6)])
    np.testing.assert_array_equal(measured.gripper_width_m, np.full(6, 0.03))
    assert sorted(measured.part_poses) == ["hole", "leg"]
    np.testing.assert_allclose(measured.part_poses["leg"][:, 0], 0.1 * np.arange(6))
    with pytest.raises(ValueError, match="read-only"):
        measured.joint_torque_nm[0] = 0.0


def test_a_recording_without_them_says_so(tmp_path):
    assert read_episode(Synthetic().record(tmp_path), measured=True).measured is None


def test_a_step_of_which_the_arm_said_nothing_is_nan(tmp_path):
    made = Synthetic(steps=3, measured=True)
    messages = [m for m in made.messages() if m[0] != "/robot_state" or m[1].seq >= 2]
    recording = recorder(tmp_path)
    feed(recording, messages)
    measured = read_episode(recording.poll(LONG)[0], measured=True).measured
    assert measured.robot_stamps_ns.tolist() == [-1, -1, made.stamp_ns(2), made.stamp_ns(3)]
    assert np.isnan(measured.joint_torque_nm[:2]).all() and np.isfinite(measured.joint_torque_nm[2:]).all()


def test_what_was_said_before_begin_is_taken_for_the_first_step_alone(tmp_path):
    """The cell tells where it is when it is laid out, before anybody begins the episode."""
    made = Synthetic(steps=2, measured=True)
    early = [fill(RobotState(), made.stamp_ns(0) - n * SECOND) for n in range(500, 0, -1)]
    recording = recorder(tmp_path)
    feed(recording, [("/robot_state", message) for message in early])
    feed(recording, [m for m in made.messages() if m[0] != "/robot_state"])
    path = recording.poll(LONG)[0]
    assert kinds(path)["/robot_state"] == 1
    measured = read_episode(path, measured=True).measured
    assert measured.robot_stamps_ns.tolist() == [made.stamp_ns(0) - SECOND] * 3, "an old stamp shows that it is old"


def test_a_fast_driver_costs_no_more_disk_than_a_slow_one(tmp_path):
    made = Synthetic(steps=4, measured=True)
    recording = recorder(tmp_path)
    for topic, message in made.messages():
        if topic == "/observation":
            stamps = range(made.stamp_ns(message.step) - PERIOD_NS + 1_000_000, made.stamp_ns(message.step), 1_000_000)
            feed(recording, [("/robot_state", fill(RobotState(), stamp)) for stamp in stamps])
        if topic != "/robot_state":
            feed(recording, [(topic, message)])
    path = recording.poll(LONG)[0]
    assert kinds(path)["/robot_state"] == 5
    measured = read_episode(path, measured=True).measured
    assert (np.array([made.stamp_ns(s) for s in range(5)]) - measured.robot_stamps_ns <= 1_000_000).all()


def test_the_last_step_waits_briefly_for_its_measurement(tmp_path):
    made = Synthetic(steps=2, measured=True)
    messages = list(made.messages())
    final = max(number for number, (topic, _) in enumerate(messages) if topic == "/robot_state")
    late = messages.pop(final)
    recording = recorder(tmp_path, linger_s=0.05)
    feed(recording, messages, now_ns=SECOND)
    assert recording.poll(SECOND + 49_000_000) == []
    feed(recording, [late], now_ns=SECOND + 49_000_000)
    path = recording.poll(SECOND + 49_000_000)[0]
    assert kinds(path)["/robot_state"] == 3


def test_a_clock_that_was_set_back_starts_anew():
    track = SensorTrack()
    for stamp in (100, 200, 10, 20):
        track.hear(Sample(stamp, 0, b""))
    track.want("e", 25)
    assert [sample.stamp_ns for _, sample in [*track.take(), *track.close("e")]] == [20]
