"""No jolt when control changes hands: the first actions of whoever takes over are shortened as far as it needs.

A change of hands asks for a new velocity at once. What a contract allows from one tick to the next is a velocity that
changes by its largest step per period, as between full speed and standstill. The new step is therefore shortened, in
its own direction, until it differs from the step before by no more. It is never bent towards the old motion, so the arm
moves only as the one who has control asks, and a reversal at full speed takes two ticks.
"""

from __future__ import annotations

import math

from inril_core.transforms import Vector3

ROUNDING = 1e-9
"""A step at its limit, up to rounding, is within it."""


def share(asked: Vector3, before: Vector3, most: float) -> float:
    """Largest s in [0, 1] with ``|s * asked - before| <= most``; 0 where there is none.

    asked, before: steps of one tick (m) or turns (rad). most: of the contract, likewise.
    """
    ax, ay, az = asked
    bx, by, bz = before
    if math.hypot(ax - bx, ay - by, az - bz) <= most * (1.0 + ROUNDING):
        return 1.0
    square = ax * ax + ay * ay + az * az
    along = ax * bx + ay * by + az * bz
    room = most * most - (bx * bx + by * by + bz * bz)
    root = along * along + square * room
    if root < 0.0 or square == 0.0:
        return 0.0
    return min(max((along + math.sqrt(root)) / square, 0.0), 1.0)
