"""Pins: a bag whose topics are put together at the wrong times, or read with a topic silent."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs the extra `data`")

from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

from inril_core.errors import ConfigError  # noqa: E402
from inril_core.exchange.rosbag_read import described, is_rosbag, read_rosbag  # noqa: E402

TYPES = get_typestore(Stores.ROS2_JAZZY)
TOPICS = {"pose": "/pose:pose", "joints": "/joints:position", "command": "/command:data"}


def header(stamp_ns: int):
    time = TYPES.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id="base")


def write(path: Path, plugin=StoragePlugin.MCAP, silent_from: int = 999) -> Path:
    """Joints at 10 Hz, poses at 50 Hz from 0.15 s on, images at 10 Hz; numbers are the stamps."""
    t = TYPES.types
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        kinds = {
            "/joints": "sensor_msgs/msg/JointState",
            "/pose": "geometry_msgs/msg/PoseStamped",
            "/command": "std_msgs/msg/Float64MultiArray",
            "/image": "sensor_msgs/msg/Image",
        }
        to = {topic: (writer.add_connection(topic, kind, typestore=TYPES), kind) for topic, kind in kinds.items()}

        def send(topic, received_ns, message):
            connection, kind = to[topic]
            writer.write(connection, received_ns, TYPES.serialize_cdr(message, kind))

        for n in range(60):
            stamp = 10**18 + n * 20_000_000
            if n >= 8 and n < silent_from:
                point = t["geometry_msgs/msg/Point"](x=float(n), y=0.0, z=1.0)
                turned = t["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0)
                pose = t["geometry_msgs/msg/Pose"](position=point, orientation=turned)
                # received late: the stamp counts
                send("/pose", stamp + 15_000_000, t["geometry_msgs/msg/PoseStamped"](header=header(stamp), pose=pose))
            if n % 5 == 0:
                numbers = np.array([n, 2.0 * n])
                joints = t["sensor_msgs/msg/JointState"](
                    header=header(stamp), name=["a", "b"], position=numbers, velocity=np.zeros(2), effort=np.zeros(2)
                )
                send("/joints", stamp + 1, joints)
                layout = t["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
                send("/command", stamp, t["std_msgs/msg/Float64MultiArray"](layout=layout, data=numbers))
                row = np.full((4, 8), n, np.uint8)  # padded: 2 pixels are 6 bytes
                row[:, 0] = 200
                image = t["sensor_msgs/msg/Image"](
                    header=header(stamp), height=4, width=2, encoding="bgr8", is_bigendian=0, step=8, data=row.ravel()
                )
                send("/image", stamp, image)
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_each_step_has_the_newest_that_was_known(tmp_path, plugin):
    path = write(tmp_path / "bag", plugin)
    assert is_rosbag(path)
    found = read_rosbag(path, TOPICS, "/joints", ("/image",))
    assert found.rate_hz == pytest.approx(10.0)
    assert found.columns["joints"][:, 0].tolist() == list(range(10, 60, 5))  # from the first tick with a pose
    assert found.columns["pose"][:, 0].tolist() == list(range(10, 60, 5)) and found.columns["pose"].shape == (10, 7)
    assert found.columns["command"].shape == (10, 2)
    assert found.images["/image"].shape == (10, 4, 2, 3)
    assert found.images["/image"][0, 0, 0].tolist() == [10, 10, 200]  # bgr8


def test_what_is_missing_is_named(tmp_path):
    path = write(tmp_path / "bag", silent_from=20)
    with pytest.raises(ConfigError, match=r"pose is silent for 0\.\d+ s at 0\.\d+ s"):
        read_rosbag(path, TOPICS, "/joints")
    with pytest.raises(ConfigError, match="has no topic .*'/wrench'.*; there are /command"):
        read_rosbag(path, {"f": "/wrench:wrench"}, "/joints")
    with pytest.raises(ConfigError, match="no field 'twist'; there are .*'pose'"):
        read_rosbag(path, {"f": "/pose:twist"}, "/joints")
    with pytest.raises(ConfigError, match="a list holds no numbers|a str holds no numbers"):
        read_rosbag(path, {"f": "/joints:name"}, "/joints")
    with pytest.raises(ConfigError, match="must be /TOPIC:FIELD"):
        read_rosbag(path, {"f": "pose"}, "/joints")
    assert "/joints (sensor_msgs/msg/JointState, 12 messages)" in described(path)


def test_a_damaged_bag_is_refused(tmp_path):
    path = write(tmp_path / "bag")
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ConfigError, match="not a readable rosbag2"):
        read_rosbag(path, TOPICS, "/joints")
