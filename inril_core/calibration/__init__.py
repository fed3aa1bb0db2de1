"""Calibration of cameras and of their place on or beside the arm: intrinsics, hand-eye, base tag, latency.

Names: ``T_a_b`` takes coordinates in frame b to frame a (4x4, metres). Camera frames are optical frames (REP 103: x
right, y down, z forward); base and gripper are the arm's. Distances are in metres, image distances in pixels.
"""
