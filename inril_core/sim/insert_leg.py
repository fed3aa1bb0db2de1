"""The insert_leg scene: a fixed table top with one ring hole, a free leg, and the Panda.

The geometry is that of furniture-bench's square_table (Heo et al. 2023), with an unthreaded peg.

Frames. `hole`: centre of the hole on the top's upper face, z up. `leg`: centre of the leg's block, z from the
peg to the block, so that it equals the hole's orientation when seated and not turned. The leg's `tip` is the
middle of the peg's end.
"""

from __future__ import annotations

import math
from importlib import resources

import mujoco
import numpy as np

from inril_core.control.features import LEG_TIP_M

TOP_SIZE_M = (0.1625, 0.1625, 0.03125)
HOLE_RADIUS_M = 0.0125
HOLE_OFFSET_M = 0.05625  # of each hole from the middle of the top, along x and y
HOLE_POSITION_M = np.array([0.50, 0.0, TOP_SIZE_M[2]])
BLOCK_HALF_M = (0.015, 0.015, 0.03125)
CHAMFER_M = (0.002, 0.003)  # of the peg's end: radially and along
TIP_IN_LEG_M = np.array(LEG_TIP_M)
GRASP_IN_LEG_M = np.array([0.0, 0.0, 0.0115])  # where the tool holds the leg

# Tool pose with the leg upright and its yaw 0: z down, the fingers close along base x. Joint 7 then has room
# for the start's yaw of either sign and the clockwise turn after it.
TOOL_IN_LEG_QUAT = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)  # xyzw

_RING_SIDES = 12
_RING_DEPTH_M = 0.010
_CUT_HALF_M = 0.0159  # of the square that the ring fills
_PEG_SIDES = 48
_DRAWN_SIDES = 64
_OTHER_HOLES_M = [(2 * HOLE_OFFSET_M, 0.0), (0.0, 2 * HOLE_OFFSET_M), (2 * HOLE_OFFSET_M, 2 * HOLE_OFFSET_M)]
_CAMERAS = {  # eye and the point looked at, m, base frame; vertical field of view, degrees
    "front": ((0.92, -0.50, 0.36), (0.51, 0.02, 0.11), 34.0),
    "overview": ((1.45, -1.05, 0.85), (0.33, 0.02, 0.28), 38.0),
    "close": ((0.66, -0.24, 0.17), (0.505, 0.0, 0.06), 36.0),
}


def scene(clearance_m: float, timestep_s: float) -> mujoco.MjModel:
    """The compiled cell.

    clearance_m: hole radius minus peg radius, m. timestep_s: physics step, s.
    """
    folder = resources.files("inril_core.sim") / "mjcf"
    files = {name: (folder / name).read_bytes() for name in ("panda.xml", "insert_leg.xml")}
    spec = mujoco.MjSpec.from_string(files["insert_leg.xml"].decode(), include=files)
    spec.option.timestep = timestep_s
    _add_table_top(spec)
    _add_drawn_rim(spec)
    _add_peg(spec, clearance_m)
    for name, (eye, centre, fovy_deg) in _CAMERAS.items():
        spec.worldbody.add_camera(name=name, pos=eye, quat=_look_at(eye, centre), fovy=fovy_deg)
    return spec.compile()


def _add_table_top(spec: mujoco.MjSpec) -> None:
    """A sheet with a square cut, a ring of boxes in the cut, and the other three holes painted on."""
    body, hole, cut = spec.body("table_top"), HOLE_POSITION_M, _CUT_HALF_M
    low = hole[:2] + HOLE_OFFSET_M - np.array(TOP_SIZE_M[:2]) / 2
    high = low + TOP_SIZE_M[:2]
    for x_m, y_m in (
        ((low[0], hole[0] - cut), (low[1], high[1])),
        ((hole[0] + cut, high[0]), (low[1], high[1])),
        ((hole[0] - cut, hole[0] + cut), (low[1], hole[1] - cut)),
        ((hole[0] - cut, hole[0] + cut), (hole[1] + cut, high[1])),
    ):
        centre = [sum(x_m) / 2, sum(y_m) / 2, TOP_SIZE_M[2] / 2]
        half = [(x_m[1] - x_m[0]) / 2, (y_m[1] - y_m[0]) / 2, TOP_SIZE_M[2] / 2]
        body.add_geom(spec.find_default("top"), pos=centre, size=half)
    half_width = math.tan(math.pi / _RING_SIDES) * (HOLE_RADIUS_M + _RING_DEPTH_M)
    for angle in np.linspace(0.0, 2 * math.pi, _RING_SIDES, endpoint=False):
        middle = (HOLE_RADIUS_M + _RING_DEPTH_M / 2) * np.array([math.cos(angle), math.sin(angle)])
        body.add_geom(
            spec.find_default("top"),
            pos=[*(hole[:2] + middle), TOP_SIZE_M[2] / 2],
            quat=[math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)],
            size=[_RING_DEPTH_M / 2, half_width, TOP_SIZE_M[2] / 2],
            group=3,  # not drawn: faces that lie on one another flicker
        )
    painted = [(hole[0], hole[1], 0.0006)]
    painted += [(hole[0] + x, hole[1] + y, TOP_SIZE_M[2]) for x, y in _OTHER_HOLES_M]
    for pos in painted:
        skin = spec.find_default("skin")
        body.add_geom(skin, pos=pos, size=[HOLE_RADIUS_M, 0.0002, 0.0], material="shade")


def _add_drawn_rim(spec: mujoco.MjSpec) -> None:
    """What is seen of the ring: a face from the circle to the cut's square, and the hole's wall."""
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
    body = spec.body("table_top")
    body.add_geom(
        spec.find_default("skin"),
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname="rim",
        pos=HOLE_POSITION_M,
        material="top",
    )


def _add_peg(spec: mujoco.MjSpec, clearance_m: float) -> None:
    """A prism of 48 sides with a chamfered end. Its flats lie on the circle of the clearance."""
    radius = (HOLE_RADIUS_M - clearance_m) / math.cos(math.pi / _PEG_SIDES)
    top, end = -BLOCK_HALF_M[2], TIP_IN_LEG_M[2]
    rings = ((radius, top), (radius, end + CHAMFER_M[1]), (radius - CHAMFER_M[0], end))
    angles = np.linspace(0.0, 2 * math.pi, _PEG_SIDES, endpoint=False)
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
