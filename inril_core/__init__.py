"""inril without ROS: contract, data, policies, safety, weights, fine-tuning and simulation."""

import os

# MuJoCo chooses its OpenGL loader when it is first imported, by whoever; without a display only EGL can draw.
os.environ.setdefault("MUJOCO_GL", "egl")

__version__ = "0.1.0"
