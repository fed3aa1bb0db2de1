"""The page of `recording_benchmark`: what was recorded and lost, what it cost, and why images are JPEGs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field

from inril_hardware.camera_topics import JPEG_QUALITY

from inril_bringup.shown_camera import HEIGHT, NOISE, PICTURES, RATE_HZ, WIDTH

CAMERAS = ("close", "front", "wrist")
STATE_HZ = 100
EPISODE_S = 30.0


@dataclass
class Episode:
    """What one recording holds, against what was sent."""

    images: int = 0
    lost_images: int = 0
    """Of those between the first and the last."""
    states: int = 0
    lost_states: int = 0
    steps: int = 0
    lost_steps: int = 0
    raw_bytes: int = 0
    seconds: float = 0.0
    finishing_s: float = 0.0


@dataclass
class Result:
    """Of the whole run."""

    episodes: list[Episode] = field(default_factory=list)
    seconds: float = 0.0
    cpu_share: dict[str, float] = field(default_factory=dict)
    """By process, of one core."""
    peak_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Codec:
    """What one image costs."""

    name: str
    encode_ms: float
    decode_ms: float
    kilobytes: float
    psnr_db: float


def page(minutes: float, result: Result, codecs: list[Codec]) -> str:
    """The page, in Markdown. minutes: that were asked for."""
    episodes = result.episodes
    total = {name: sum(getattr(e, name) for e in episodes) for name in vars(Episode())}
    rows = [
        ("images", total["images"], total["lost_images"]),
        ("states of the arm", total["states"], total["lost_states"]),
        ("steps", total["steps"], total["lost_steps"]),
    ]
    jpeg = next(codec for codec in codecs if codec.name.startswith(f"JPEG {JPEG_QUALITY}"))
    film = next(codec for codec in codecs if codec.name.startswith("H.264"))
    parts = [
        "# What recording three cameras costs",
        f"    .venv/bin/python -m inril_bringup.recording_benchmark --minutes {minutes:g} "
        "--out docs/results/recording.md",
        f"{len(CAMERAS)} cameras of {WIDTH}x{HEIGHT} at {RATE_HZ} Hz, the arm's state at {STATE_HZ} Hz, 10 control "
        f"steps a second, `full_rate:=true`; {len(episodes)} episodes of {EPISODE_S:g} s. {platform.machine()}, "
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load average at the end "
        f"{os.getloadavg()[0]:.1f}. The pictures are drawn from the simulated cell, with noise of standard deviation "
        f"{NOISE:g}; no camera was plugged in, so the cost of USB is not in these numbers.",
        _table(("", "recorded", "lost"), [[name, str(count), str(lost)] for name, count, lost in rows]),
        f"Written: {total['raw_bytes'] / total['seconds'] / 1e6:.2f} MB/s. An episode is finished "
        f"{max(e.finishing_s for e in episodes):.1f} s after its end at the latest.",
        _table(
            ("process", "CPU, of one core", "memory at most, MB"),
            [
                [name.rpartition(".")[2], f"{share:.2f}", f"{result.peak_mb[name]:.0f}"]
                for name, share in result.cpu_share.items()
            ],
        ),
        "camera_node encodes, recorder_node writes what it is sent. The recorder's memory holds the episode that is "
        "being finished.",
        "## JPEG or H.264",
        f"One thread, {PICTURES} images of the front camera; CPU time per image.",
        _table(
            ("coding", "encode, ms", "decode, ms", "kB", "PSNR, dB"),
            [
                [c.name, f"{c.encode_ms:.2f}", f"{c.decode_ms:.2f}", f"{c.kilobytes:.1f}", f"{c.psnr_db:.1f}"]
                for c in codecs
            ],
        ),
        f"Chosen: JPEG {JPEG_QUALITY}. H.264 (ultrafast) takes {film.encode_ms / jpeg.encode_ms:.1f} times the CPU "
        f"time and {film.kilobytes / jpeg.kilobytes:.2f} of the disk. CPU time is what the robot's host lacks while it "
        "acts, and each JPEG stands alone: a lost image, or a killed recorder, costs no other image. `inril data "
        "export` writes H.264 afterwards.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
