"""Between messages and arrays. Quaternions are xyzw, poses are x y z then quaternion."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Twist
from sensor_msgs.msg import Image


def float32_array(values: np.ndarray) -> array.array[float]:
    """The fast path into a `float32[]` field."""
    return array.array("f", np.ascontiguousarray(values, dtype=np.float32).tobytes())


def byte_array(data: bytes) -> array.array[int]:
    """The fast path into a `uint8[]` field."""
    return array.array("B", data)


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(time_ns: int) -> Time:
    """Stamp of a time in nanoseconds, zero or later."""
    return Time(sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000)


def pose_to_array(pose: Pose) -> np.ndarray:
    """float64[7]: position in metres, quaternion xyzw."""
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def array_to_pose(values: np.ndarray) -> Pose:
    """The inverse of `pose_to_array`."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = map(float, values[:3])
    q = pose.orientation
    q.x, q.y, q.z, q.w = map(float, values[3:7])
    return pose


def twist_to_array(twist: Twist) -> np.ndarray:
    """float64[6]: linear m/s, angular rad/s."""
    a, b = twist.linear, twist.angular
    return np.array([a.x, a.y, a.z, b.x, b.y, b.z])


def array_to_twist(values: np.ndarray) -> Twist:
    """The inverse of `twist_to_array`."""
    twist = Twist()
    twist.linear.x, twist.linear.y, twist.linear.z = map(float, values[:3])
    twist.angular.x, twist.angular.y, twist.angular.z = map(float, values[3:6])
    return twist


def image_to_array(image: Image) -> np.ndarray:
    """uint8[height, width, 3] of an rgb8 image.

    Raises:
        ValueError: another encoding, or a buffer that does not fit the announced size.
    """
    if image.encoding != "rgb8" or len(image.data) != image.height * image.width * 3:
        raise ValueError(
            f"image {image.header.frame_id!r}: {image.encoding} {image.width}x{image.height} with "
            f"{len(image.data)} bytes; rgb8 with {image.height * image.width * 3} bytes is expected"
        )
    return np.frombuffer(image.data, dtype=np.uint8).reshape(image.height, image.width, 3)


def array_to_image(pixels: np.ndarray, stamp: Time, frame_id: str) -> Image:
    """An rgb8 message of uint8[height, width, 3]."""
    height, width, _ = pixels.shape
    image = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    image.header.stamp = stamp
    image.header.frame_id = frame_id
    image.data = byte_array(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
    return image
