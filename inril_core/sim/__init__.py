"""The simulated cell: physics, pictures, a scripted expert and an in-process environment."""

import os

# MuJoCo chooses its OpenGL loader when it is first imported; without a display only EGL can draw.
os.environ.setdefault("MUJOCO_GL", "egl")
