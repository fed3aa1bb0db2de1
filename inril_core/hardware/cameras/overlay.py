"""How a scene should lie, over how it lies: a reference image blended over the live one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from inril_core.errors import ConfigError


def blended(live: np.ndarray, reference: np.ndarray, share: float = 0.5) -> np.ndarray:
    """uint8[H, W, 3], as large as ``live``: ``share`` of the reference, the rest of the live image.

    Args:
        reference: uint8[h, w, 3], of the same part of the scene; scaled to the live image.
        share: 0 to 1.

    Raises:
        ConfigError: the images have other proportions, so they show other parts of the scene.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"share = {share}: must be in [0, 1]")
    (height, width), (high, wide) = live.shape[:2], reference.shape[:2]
    if abs(width * high - wide * height) > 0.02 * width * high:
        raise ConfigError(
            f"the reference is {wide}x{high} pixels and the live image {width}x{height}: other proportions; "
            "take the reference with the same camera and resolution"
        )
    if (height, width) != (high, wide):
        scaled = Image.fromarray(reference).resize((width, height), Image.Resampling.BILINEAR)
        reference = np.asarray(scaled)
    mixed = live.astype(np.float32) * (1.0 - share) + reference.astype(np.float32) * share
    return np.rint(mixed).astype(np.uint8)
