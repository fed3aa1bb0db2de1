"""What the processes of a graph inherit."""

from __future__ import annotations

from pathlib import Path

from inril_bringup.environment import child_environment

OWN = Path("/home/me/inril/.venv")


def test_another_ros_is_left_out_and_everything_else_stays() -> None:
    """Pins nodes that import the rclpy of a sourced native Jazzy, built for another Python."""
    given = {
        "PYTHONPATH": f"/opt/ros/jazzy/lib/python3.12:/home/me/mine:{OWN}/lib:/ws/install/lib/python3",
        "LD_LIBRARY_PATH": f"{OWN}/lib:/opt/ros/jazzy/lib:/usr/local/cuda/lib64",
        "AMENT_PREFIX_PATH": f"/ws/install:/opt/ros/jazzy:{OWN}",
        "ROS_DOMAIN_ID": "7",
    }
    made = child_environment(given, OWN)
    assert made["PYTHONPATH"] == f"/home/me/mine:{OWN}/lib"
    assert made["LD_LIBRARY_PATH"] == f"{OWN}/lib:/usr/local/cuda/lib64"
    assert made["AMENT_PREFIX_PATH"] == str(OWN)
    assert made["ROS_DOMAIN_ID"] == "7"


def test_shared_memory_is_not_used_by_default_but_may_be() -> None:
    """Pins a node that is deaf after kill -9 and a restart, because others cleared its port away."""
    name = "FASTDDS_BUILTIN_TRANSPORTS"
    assert child_environment({}, OWN)[name] == "UDPv4"
    assert child_environment({name: "DEFAULT"}, OWN)[name] == "DEFAULT"


def test_the_network_is_not_asked_by_default_but_may_be() -> None:
    """Pins a graph that everybody on the network can command, and an operator's choice that is overruled."""
    assert child_environment({}, OWN)["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert (
        child_environment({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, OWN)["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    )
