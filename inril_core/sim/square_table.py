"""Parts of the simulated scenes: furniture-bench's square_table (Heo et al. 2023), top and leg, with an unthreaded peg.

Frames: see `inril_core.contract.square_table`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources

import mujoco
import numpy as np

from inril_core.contract.square_table import HOLE_RADIUS_M, LEG_GRASP_M, LEG_TIP_M

TOP_SIZE_M = (0.1625, 0.1625, 0.03125)
HOLE_OFFSET_M = 0.05625  # of each hole from the middle of the top, along x and y
BLOCK_HALF_M = (0.015, 0.015, 0.03125)
CHAMFER_M = (0.002, 0.003)  # of the peg's end: radially and along
TIP_IN_LEG_M = np.array(LEG_TIP_M)
GRASP_IN_LEG_M = np.array(LEG_GRASP_M)
GRASP_WIDTH_M = 2 * BLOCK_HALF_M[1] + 0.005  # a gripper target up to this grasps

_RING_SIDES = 12
_RING_DEPTH_M = 0.010
_CUT_HALF_M = 0.0159  # of the square that the ring fills
PEG_SIDES = 48
_DRAWN_SIDES = 64

Camera = tuple[tuple[float, float, float], tuple[float, float, float], float]
"""Eye and the point looked at, m, base frame; vertical field of view, degrees."""


def table_spec(
    clearance_m: float, timestep_s: float, cameras: Mapping[str, Camera], peg_sides: int = PEG_SIDES
) -> mujoco.MjSpec:
    """The bench with the Panda and the leg; the table top's body is still empty.

    clearance_m: hole radius minus peg radius, m. timestep_s: physics step, s.
    """
    folder = resources.files("inril_core.sim") / "mjcf"
    files = {name: (folder / name).read_bytes() for name in ("panda.xml", "square_table.xml")}
    spec = mujoco.MjSpec.from_string(files["square_table.xml"].decode(), include=files)
    spec.option.timestep = timestep_s
    _add_peg(spec, clearance_m, peg_sides)
    for name, (eye, centre, fovy_deg) in cameras.items():
        spec.worldbody.add_camera(name=name, pos=eye, quat=_look_at(eye, centre), fovy=fovy_deg)
    return spec


def add_hole(spec: mujoco.MjSpec, hole_m: np.ndarray, low_m: np.ndarray, high_m: np.ndarray) -> None:
    """A sheet of the table top from `low_m` to `high_m` [2] with a hole whose rim's centre is `hole_m` [3].

    A square cut with a ring of boxes in it. All in the top's frame, whose z is 0 at the top's lower face.
    """
    body, cut = spec.body("table_top"), _CUT_HALF_M
    for x_m, y_m in (
        ((low_m[0], hole_m[0] - cut), (low_m[1], high_m[1])),
        ((hole_m[0] + cut, high_m[0]), (low_m[1], high_m[1])),
        ((hole_m[0] - cut, hole_m[0] + cut), (low_m[1], hole_m[1] - cut)),
        ((hole_m[0] - cut, hole_m[0] + cut), (hole_m[1] + cut, high_m[1])),
    ):
        centre = [sum(x_m) / 2, sum(y_m) / 2, TOP_SIZE_M[2] / 2]
        half = [(x_m[1] - x_m[0]) / 2, (y_m[1] - y_m[0]) / 2, TOP_SIZE_M[2] / 2]
        body.add_geom(spec.find_default("top"), pos=centre, size=half)
    half_width = math.tan(math.pi / _RING_SIDES) * (HOLE_RADIUS_M + _RING_DEPTH_M)
    for angle in np.linspace(0.0, 2 * math.pi, _RING_SIDES, endpoint=False):
        middle = (HOLE_RADIUS_M + _RING_DEPTH_M / 2) * np.array([math.cos(angle), math.sin(angle)])
        body.add_geom(
            spec.find_default("top"),
            pos=[*(hole_m[:2] + middle), TOP_SIZE_M[2] / 2],
            quat=[math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)],
            size=[_RING_DEPTH_M / 2, half_width, TOP_SIZE_M[2] / 2],
            group=3,  # not drawn: faces that lie on one another flicker
        )
    add_shade(spec, (float(hole_m[0]), float(hole_m[1]), 0.0006))


def add_shade(spec: mujoco.MjSpec, pos_m: tuple[float, float, float]) -> None:
    """A dark disc of a hole's size on the table top, drawn only."""
    body = spec.body("table_top")
    body.add_geom(spec.find_default("skin"), pos=pos_m, size=[HOLE_RADIUS_M, 0.0002, 0.0], material="shade")


def add_drawn_rims(spec: mujoco.MjSpec, holes_m: list[np.ndarray]) -> None:
    """What is seen of each ring: a face from the circle to the cut's square, and the hole's wall."""
    angles = np.linspace(0.0, 2 * math.pi, _DRAWN_SIDES, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    square = circle / np.abs(circle).max(axis=1, keepdims=True) * _CUT_HALF_M
    circle *= HOLE_RADIUS_M
    rings = [(circle, 0.0), (square, 0.0), (circle, -TOP_SIZE_M[2]), (circle, 0.0)]
    corners = np.vstack([np.column_stack([xy, np.full(_DRAWN_SIDES, z)]) for xy, z in rings])
    faces = []
    for lower, upper in ((0, 1), (2, 3)):
        for i in range(_DRAWN_SIDES):
            j = (i + 1) % _DRAWN_SIDES
            a, b, c, d = (ring * _DRAWN_SIDES + k for ring, k in ((lower, i), (lower, j), (upper, j), (upper, i)))
            faces += [a, d, c, a, c, b]
    spec.add_mesh(
        name="rim",
        uservert=corners.ravel(),
        userface=faces,
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    for hole_m in holes_m:
        spec.body("table_top").add_geom(
            spec.find_default("skin"),
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname="rim",
            pos=hole_m,
            material="top",
        )


def _add_peg(spec: mujoco.MjSpec, clearance_m: float, sides: int) -> None:
    """A prism with a chamfered end. Its edges are those of `PEG_SIDES`, whose flats lie on the circle
    of the clearance."""
    radius = (HOLE_RADIUS_M - clearance_m) / math.cos(math.pi / PEG_SIDES)
    top, end = -BLOCK_HALF_M[2], TIP_IN_LEG_M[2]
    rings = ((radius, top), (radius, end + CHAMFER_M[1]), (radius - CHAMFER_M[0], end))
    angles = np.linspace(0.0, 2 * math.pi, sides, endpoint=False)
    corners = [(r * math.cos(angle), r * math.sin(angle), z) for r, z in rings for angle in angles]
    spec.add_mesh(name="peg", uservert=np.array(corners).ravel())
    mesh = mujoco.mjtGeom.mjGEOM_MESH
    spec.body("leg").add_geom(spec.find_default("leg"), name="leg_peg", type=mesh, meshname="peg", material="peg")


def _look_at(eye: tuple[float, float, float], centre: tuple[float, float, float]) -> np.ndarray:
    """Quaternion (MuJoCo's wxyz) of a camera at `eye` that looks at `centre`, upright."""
    back = np.subtract(eye, centre) / np.linalg.norm(np.subtract(eye, centre))
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([right, np.cross(back, right), back]).ravel())
    return quat
