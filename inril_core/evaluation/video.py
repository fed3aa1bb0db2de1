"""Two episodes of one start as films that browsers play, made again from what was recorded."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inril_core.contract import contract_from_text
from inril_core.data.episode import Episode
from inril_core.errors import InrilError

if TYPE_CHECKING:
    from inril_core.sim.render import EpisodeRenderer

WIDTH_PX, HEIGHT_PX = 480, 360
INSET_PX = (144, 108)
BAND_PX = 30
AFTER_END_S = 1.5


class NoVideo(InrilError):
    """An episode cannot be shown; the message says why."""


def films(episodes: Sequence[Episode], captions: Sequence[str]) -> list[str]:
    """One film per episode as a data URI (MP4, H.264), all equally long, so that they stay in step.

    Simulated episodes are rendered again from `qpos`; of others the recorded camera images are shown.
    Each frame carries its caption, the step, and at the end whether the episode succeeded.

    Raises:
        NoVideo: neither `qpos` nor images were recorded, or no images and this machine cannot render.
    """
    rate_hz = contract_from_text(episodes[0].contract_text).control_rate_hz
    frames = max(e.steps for e in episodes) + 1 + round(AFTER_END_S * rate_hz)
    return [_film(e, caption, frames, rate_hz) for e, caption in zip(episodes, captions, strict=True)]


def encode(frames: Iterator[np.ndarray], rate_hz: float) -> bytes:
    """An MP4 (H.264, yuv420p: what every browser plays) of uint8[HEIGHT_PX, WIDTH_PX, 3] frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate_hz).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": "26", "preset": "medium"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _film(episode: Episode, caption: str, frames: int, rate_hz: float) -> str:
    try:
        data = encode(_captioned(_rendered(episode), episode, caption, frames), rate_hz)
    except NoVideo:
        if not episode.images:
            raise
        data = encode(_captioned(_recorded(episode), episode, caption, frames), rate_hz)
    return "data:video/mp4;base64," + base64.b64encode(data).decode()


def _rendered(episode: Episode) -> Iterator[Image.Image]:
    from inril_core.sim.render import EpisodeRenderer  # loads MuJoCo

    if episode.qpos is None:
        raise NoVideo(f"episode {episode.episode_id}: neither the simulator's state nor camera images were recorded")
    renderer = None
    try:
        renderer = EpisodeRenderer(contract_from_text(episode.contract_text), shadows=False)
        for qpos in episode.qpos:
            yield _composed(renderer, qpos)
    except InrilError as error:
        raise NoVideo(str(error)) from error
    finally:
        if renderer is not None:
            renderer.close()


def _composed(renderer: EpisodeRenderer, qpos: np.ndarray) -> Image.Image:
    """The hole from near, with the whole arm in a corner."""
    picture = Image.fromarray(renderer.image(qpos, "close", WIDTH_PX, HEIGHT_PX))
    inset = Image.fromarray(renderer.image(qpos, "overview", *INSET_PX))
    picture.paste(inset, (WIDTH_PX - INSET_PX[0] - 8, 8))
    return picture


def _recorded(episode: Episode) -> Iterator[Image.Image]:
    name = sorted(episode.images)[0]
    shown = np.searchsorted(episode.image_steps[name], np.arange(episode.steps + 1), side="right") - 1
    for index in np.maximum(shown, 0):
        yield Image.fromarray(episode.images[name][index]).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)


def _captioned(pictures: Iterator[Image.Image], episode: Episode, caption: str, frames: int) -> Iterator[np.ndarray]:
    verdict = {
        True: ("succeeded", "#2f9e5b"),
        False: ("failed", "#c8452f"),
        None: ("not labelled", "#8a8a8a"),
    }
    font = ImageFont.load_default(size=16)
    count = 0
    last: Image.Image | None = None
    for count, picture in enumerate(pictures, start=1):
        last = picture
        ended = count > episode.steps
        text, colour = verdict[episode.success] if ended else (f"step {count - 1}", "#1d232b")
        yield banded(picture, caption, f"{text}, step {episode.steps}" if ended else text, colour, font)
    assert last is not None  # an episode has two observations at least
    text, colour = verdict[episode.success]
    closing = banded(last, caption, f"{text}, step {episode.steps}", colour, font)
    for _ in range(frames - count):
        yield closing


def banded(
    picture: Image.Image,
    left: str,
    right: str,
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> np.ndarray:
    """A frame uint8[HEIGHT_PX, WIDTH_PX, 3] with a band below that holds two texts."""
    shown = picture.convert("RGB")
    draw = ImageDraw.Draw(shown)
    draw.rectangle((0, HEIGHT_PX - BAND_PX, WIDTH_PX, HEIGHT_PX), fill=colour)
    middle = HEIGHT_PX - BAND_PX // 2
    draw.text((10, middle), left, fill="white", font=font, anchor="lm")
    draw.text((WIDTH_PX - 10, middle), right, fill="white", font=font, anchor="rm")
    return np.asarray(shown)
