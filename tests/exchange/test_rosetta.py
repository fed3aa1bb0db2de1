"""Pins: a bag that was recorded by a rosetta contract and whose numbers are put in another order."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("rosbags", reason="needs the extra `data`")

from inril_core.errors import ConfigError  # noqa: E402
from inril_core.exchange.importing import import_episodes, write_map  # noqa: E402
from inril_core.exchange.mapping import read_map  # noqa: E402
from inril_core.exchange.rosbag_read import read_rosbag  # noqa: E402
from inril_core.exchange.rosetta import read_rosetta  # noqa: E402
from tests.exchange.test_rosbag import write  # noqa: E402

NEW = """
robot_type: test_arm
robot_interface: ros2
fps: 20
x-qos: &qos {reliability: best_effort, depth: 10}
observations:
  observation.images.top:
    channel: {topic: /image, type: sensor_msgs/msg/Image, qos: *qos}
    align: {strategy: hold, timeline: header}
    apply: [resize: [2, 2]]
  observation.state:
    - channel: {topic: /joints, type: sensor_msgs/msg/JointState, qos: *qos}
      align: {strategy: hold, timeline: header}
      select: [position.b, position.a]
      apply: [rad2deg]
    - channel: {topic: /pose, type: geometry_msgs/msg/PoseStamped}
      align: {strategy: hold, timeline: header}
      select: [pose.position.x]
actions:
  action:
    channel: {topic: /command, type: std_msgs/msg/Float64MultiArray, safety: hold}
    align: {strategy: hold, timeline: receive}
"""
OLD = """
robot_type: test_arm
fps: 20
observations:
  - {key: observation.images.top, topic: /image, type: sensor_msgs/msg/Image, image: {shape: [2, 2]}}
  - key: observation.state
    topic: /joints
    type: sensor_msgs/msg/JointState
    selector: {names: [position.b, position.a]}
  - key: observation.state
    topic: pose
    type: geometry_msgs/msg/PoseStamped
    selector: {names: [pose.position.x]}
actions:
  - key: action
    publish: {topic: /command, type: std_msgs/msg/Float64MultiArray}
"""


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Joint b is twice joint a, which counts by one each 20 ms, as the pose's x does."""
    return write(tmp_path / "bag")


def contract(folder: Path, text: str) -> Path:
    path = folder / "rosetta.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [NEW, OLD])
def test_both_forms_of_the_file_say_the_same(tmp_path: Path, bag: Path, text: str) -> None:
    said = read_rosetta(contract(tmp_path, text))
    assert said.rate_hz == 20.0 and said.images == {"observation.images.top": "/image"}
    assert said.topics == {
        "observation.state": ["/joints:position.b", "/joints:position.a", "/pose:pose.position.x"],
        "action": ["/command:data"],
    }
    found = read_rosbag(bag, said.topics, said.rate_hz)
    assert found.rate_hz == 20.0 and found.stamps_s is not None
    # from the first pose, number 8 at 0.16 s, each 50 ms; joints are newest each 100 ms, until the last at 1.1 s
    assert found.stamps_s[:3] == pytest.approx([0.0, 0.05, 0.1])
    assert found.columns["observation.state"][:3].tolist() == [[10.0, 5.0, 8.0], [20.0, 10.0, 10.0], [20.0, 10.0, 13.0]]
    assert len(found.stamps_s) == 19 and found.columns["action"].shape == (19, 2)


def test_the_mapping_holds_topics_and_clock_and_reads_the_bag_again(tmp_path: Path, bag: Path) -> None:
    out = tmp_path / "map.yaml"
    write_map(bag, out, "insert_leg", rosetta=contract(tmp_path, NEW))
    text = out.read_text()
    assert "observation.state[3], action[2], /image (image)" in text.replace("\n#   ", ", ")
    filled = yaml.safe_load(text)
    assert filled["images"] == {"front": "???"} and filled["clock"] == 20.0 and filled["rate_hz"] is None
    filled["observation"] = {
        name: {"from": "observation.state[0]", "unit": field["unit"].replace("?", "") or "1", "frame": "base"}
        for name, field in filled["observation"].items()
    }
    filled |= {"success": "all", "images": {"front": "/image"}, "action": {"from": "action", "kind": "normalised"}}
    out.write_text(yaml.safe_dump(filled))
    map_ = read_map(out)
    assert read_rosbag(bag, map_.topics, map_.clock).columns["observation.state"].shape == (19, 3)
    with pytest.raises(ConfigError, match="tip_in_hole_m"):  # one number is no position: the bag was read until there
        import_episodes(bag, tmp_path / "run", out)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "observations or actions are missing"),
        ("[1", "not YAML"),
        ("{observations: {}, actions: {}, fps: .nan}", "fps = nan"),
        ("{observations: {}, actions: {}, fps: true}", "fps = True"),
        ("{observations: 3, actions: {}, fps: 1}", "must be streams by key"),
        ("{observations: [3], actions: {}, fps: 1}", "no stream with a key"),
        ("{observations: {a: {channel: {topic: /a}}}, actions: {}, fps: 1}", "a: topic or type is missing"),
        ("{observations: {a: {topic: /a, type: b, select: x}}, actions: {}, fps: 1}", "a: select must be a list"),
    ],
)
def test_what_is_no_contract_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_rosetta(contract(tmp_path, text))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rosetta(tmp_path / "absent.yaml")


def test_a_name_or_place_that_the_bag_lacks_is_named(bag: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing is called 'c'; there are \['a', 'b'\]"):
        read_rosbag(bag, {"f": "/joints:position.c"}, 10.0)
    with pytest.raises(ConfigError, match="'7' is number 7 of 2"):
        read_rosbag(bag, {"f": "/command:data.7"}, 10.0)
    with pytest.raises(ConfigError, match="clock is missing"):
        read_rosbag(bag, {"f": "/joints:position"}, "")
    with pytest.raises(ConfigError, match="give a topic, or a rate in Hz"):
        read_rosbag(bag, {"f": "/joints:position"}, float("nan"))
    with pytest.raises(ConfigError, match="fewer than two steps at 0.1 Hz"):
        read_rosbag(bag, {"f": "/joints:position"}, 0.1)
