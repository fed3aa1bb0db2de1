"""The reward of FurnitureBench's one_leg, asked of the package furniture-bench itself (Heo et al. 2023)."""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import warnings
from typing import Any

import numpy as np

from inril_core.errors import ConfigError
from inril_core.transforms import quat_multiply

_TOP, _LEG, _PARTS = 0, 4, 5  # indices in furniture-bench's square_table
# furniture-bench's parts have y where ours have z: a quarter turn about x.
_THEIRS_IN_OURS_QUAT = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))  # xyzw


class AssemblyReward:
    """`compute_assemble` of furniture-bench's `one_leg`: 1 when the leg is newly assembled with the top.

    Its rule, read in version 0.1: the leg's pose relative to the top is within 10, 5 (along the hole) and 10 mm
    of its place in any of the four holes, and each axis within acos 0.94 (20 deg) of the top's; the leg's
    heading counts, although its four sides look alike.

    Raises:
        ConfigError: furniture-bench or what it imports is not installed; the message says how to.
    """

    def __init__(self) -> None:
        self._furniture = _furniture()
        self._poses = np.zeros(7 * _PARTS, np.float32)
        self._poses[6::7] = 1.0
        self._found = np.zeros(_PARTS, bool)
        self._found[[_TOP, _LEG]] = True

    def reset(self) -> None:
        """Nothing is assembled."""
        self._furniture.reset()

    def __call__(self, top_pose: np.ndarray, leg_pose: np.ndarray) -> int:
        """Newly assembled pairs, 0 or 1.

        top_pose, leg_pose: float64[7], m and xyzw, of the middle of the top and of the leg's block; z along the
        hole's axis and from the peg to the block.
        """
        for index, pose in ((_TOP, top_pose), (_LEG, leg_pose)):
            quat = quat_multiply(pose[3:].tolist(), _THEIRS_IN_OURS_QUAT)
            self._poses[7 * index : 7 * index + 7] = (*pose[:3], *quat)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is assembled
            return int(self._furniture.compute_assemble(self._poses, self._found))


def _furniture() -> Any:
    """furniture-bench's `one_leg`. Importing it takes a second or two: it brings numba and OpenCV."""
    try:
        import libusb_package

        # pyrealsense2, which furniture-bench imports, wants libusb in the process; not every system has one.
        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # it uses gym and torch.jit, which say at length that they are old
            from furniture_bench.furniture import furniture_factory
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"one_leg asks furniture-bench whether the leg is assembled, and it cannot be imported ({error}). Run "
            "`make extras`, or from the repository's root: pip install -c constraints.txt -e '.[furniture]' && "
            "pip install --no-deps furniture-bench==0.1 (with its dependencies it cannot be installed any more)"
        ) from error
    return furniture_factory("one_leg")
