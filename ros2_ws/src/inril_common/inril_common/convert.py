"""Between messages and arrays. Quaternions are xyzw, poses are x y z then quaternion."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Twist
from sensor_msgs.msg import Image

from inril_core.control.pixels import check_layout, rgb_pixels


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


def check_image(image: Image) -> None:
    """Check that `image_to_array` can convert an image, at a cost that does not grow with it.

    Raises:
        BadMeasurement: an unknown encoding, or a buffer that does not fit the announced size.
    """
    check_layout(image.encoding, image.height, image.width, image.step, len(image.data))


def image_to_array(image: Image) -> np.ndarray:
    """uint8[height, width, 3], red first, of an image in one of `pixels.ENCODINGS`.

    Raises:
        BadMeasurement: as `check_image`.
    """
    size = image.height, image.width, image.step
    return rgb_pixels(image.encoding, *size, bool(image.is_bigendian), memoryview(image.data))


def array_to_image(pixels: np.ndarray, stamp: Time, frame_id: str) -> Image:
    """An rgb8 message of uint8[height, width, 3]."""
    height, width, _ = pixels.shape
    image = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    image.header.stamp = stamp
    image.header.frame_id = frame_id
    image.data = byte_array(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
    return image
