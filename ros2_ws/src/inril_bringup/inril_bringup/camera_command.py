"""`inril camera`: one picture of a running camera, and how the scene should lie blended over how it lies."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from inril_core.data import EpisodeUnreadable, read_episode
from inril_core.errors import ConfigError
from inril_core.files import check_writable, write_atomically
from inril_core.hardware.cameras.overlay import blended

SUMMARY = "cameras of a running graph: take a picture, lay the wanted scene over the live one"
EXAMPLES = (
    "snapshot front --out wanted.png",
    "overlay front --reference wanted.png --out overlay.png --watch",
    "overlay front --reference runs/demos/episodes/EPISODE.mcap --out overlay.png",
)
TIMEOUT_S = 10.0
WATCH_S = 0.5
"""Between two pictures of `--watch`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril camera`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    snapshot = actions.add_parser("snapshot", help="write the newest image to a file")
    overlay = actions.add_parser("overlay", help="write a reference blended over the newest image to a file")
    for each in (snapshot, overlay):
        each.add_argument("camera", metavar="CAMERA", help="its name in the contract")
        each.add_argument("--out", type=Path, required=True, help="PNG or JPEG to write; replaced as a whole")
    overlay.add_argument(
        "--reference", type=Path, required=True, help="picture, or episode (.mcap), whose first image of it is taken"
    )
    overlay.add_argument("--image", default="", help="name of the episode's image (default: the camera's name)")
    overlay.add_argument("--share", type=float, default=0.5, help="of the reference, 0 to 1 (default: %(default)s)")
    overlay.add_argument("--watch", action="store_true", help="write again and again; Ctrl-C ends")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    from inril_bringup.operate import operator

    check_writable(arguments.out)
    reference = None
    if arguments.action == "overlay":
        reference = reference_image(arguments.reference, arguments.image or arguments.camera)
    with operator(arguments.namespace) as person:
        while True:
            live = person.image(arguments.camera, TIMEOUT_S)
            write_picture(arguments.out, live if reference is None else blended(live, reference, arguments.share))
            if reference is None or not arguments.watch:
                print(f"{arguments.out}: {live.shape[1]}x{live.shape[0]} pixels of camera {arguments.camera}")
                return 0
            person.pause(WATCH_S)


def reference_image(path: Path, image: str) -> np.ndarray:
    """uint8[h, w, 3]: a picture, or the first image of a recorded episode.

    Args:
        path: of a picture (PNG, JPEG) or of an episode (.mcap).
        image: name of the contract's image, for an episode.

    Raises:
        ConfigError: neither, or the episode holds no such image.
    """
    if path.suffix == ".mcap":
        try:
            images = read_episode(path).images
        except EpisodeUnreadable as error:
            raise ConfigError(str(error)) from error
        if image not in images:
            raise ConfigError(f"{path}: no image {image!r}; it has {', '.join(sorted(images)) or 'none'}")
        return np.asarray(images[image][0])
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: cannot be read as a picture ({error}); give a PNG, JPEG or episode") from error


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Replace a picture as a whole, so that a viewer never loads half of it.

    Raises:
        ConfigError: the suffix is of no picture, or the file cannot be written.
    """
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise ConfigError(f"--out {path}: give a name that ends with {', '.join(kinds)}")
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kinds[path.suffix.lower()])
    try:
        write_atomically(path, data.getvalue())
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror or error}); give another one") from error
