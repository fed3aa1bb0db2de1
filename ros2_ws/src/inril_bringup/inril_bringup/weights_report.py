"""What `weights_benchmark` found, as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field

LEAST_MB = 16
TARGET = 1.3
WAYS = {
    "socket": "raw socket",
    "socket_sha256": "raw socket, SHA-256 of what came",
    "dds": "raw DDS message",
    "link": "inril, one file system",
    "tcp": "inril, other file system or host",
}


@dataclass
class Measured:
    """What was measured with packs of one size."""

    pack_bytes: int
    ms: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    """By way: until the other side has the bytes and this one knows it; of inril, until the first action is here."""
    write_ms: list[float] = field(default_factory=list)
    idle_tick_ms: list[float] = field(default_factory=list)
    push_tick_ms: list[float] = field(default_factory=list)
    """Of ticks while a pack was on its way: observation to answer."""


def row(name: str, values: dict[int, list[float]], sockets: dict[int, list[float]] | None) -> str:
    """A line of the table: medians, and the ratio to the socket in the same round."""
    cells = []
    for size, found in values.items():
        if not found:
            cells.append("not measured")
            continue
        text = f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        if sockets is not None:
            ratio = statistics.median(a / b for a, b in zip(found, sockets[size], strict=True))
            text += f", x{ratio:.2f}"
        cells.append(text)
    return f"| {name} | " + " | ".join(cells) + " |"


def page(found: dict[int, Measured], arguments: list[str], rounds: int) -> str:
    """The page."""
    sockets = {size: of.ms["socket"] for size, of in found.items()}
    command = " ".join(["python -m inril_bringup.weights_benchmark", *arguments])
    lines = [
        "# From published weights to the first action",
        "",
        f"`{command}`, {rounds} rounds, all ways in turns in each; {platform.machine()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f} while it ran. Milliseconds, median (least to most); x: median of the "
        "ratios to the raw socket of the same round.",
        "",
        "| | " + " | ".join(f"{size} MB" for size in found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for way, name in WAYS.items():
        lines.append(row(name, {size: of.ms[way] for size, of in found.items()}, None if way == "socket" else sockets))
    lines += [
        "",
        "* **raw socket**: TCP over loopback to another process, which receives into memory that it has used before, "
        "checks and keeps nothing, and answers one byte. The second row also computes the SHA-256 of what came.",
        "* **raw DDS message**: one `std_msgs/UInt8MultiArray` over the graph's UDP transport, reliable, acknowledged "
        "by a message.",
        "* **inril**: from `policy_weights` being published until the first `policy_action` of that version is back, "
        "with a real `policy_node` that acts all the time: the next observation comes 2 ms after an answer, or after "
        "as long as inference takes if that is longer. In between lie: offer and signature, pull, BLAKE3 digest of all "
        "bytes, parsing, all numbers finite, trial on the last observations beside the acting policy, and the swap; "
        "the disk follows. On one file system the pull is a hard link and a read; "
        "elsewhere the bytes go over TCP. A slower control rate adds up to a period.",
        "",
        "## What a push costs otherwise",
        "",
        "| | " + " | ".join(f"{size} MB" for size in found) + " |",
        "|---|" + "---|" * len(found),
        row(
            "learner writes and hashes the pack, before it is published",
            {s: of.write_ms for s, of in found.items()},
            None,
        ),
        row("a tick while nothing comes", {s: of.idle_tick_ms for s, of in found.items()}, None),
        row("a tick while a pack is pulled and checked", {s: of.push_tick_ms for s, of in found.items()}, None),
        "",
        "A tick is an observation published until its answer is here; of a large network it is mostly inference.",
        "",
    ]
    return "\n".join(lines)


def verdict(found: dict[int, Measured]) -> str:
    """Whether the bound on the ratio to the socket holds, size by size."""
    lines = []
    for size, of in found.items():
        for way in ("link", "tcp"):
            if size >= LEAST_MB and of.ms[way]:
                ratio = statistics.median(a / b for a, b in zip(of.ms[way], of.ms["socket"], strict=True))
                lines.append(
                    f"{size} MB, {WAYS[way]}: x{ratio:.2f}, {'within' if ratio <= TARGET else 'above'} {TARGET}"
                )
    return "\n".join(lines)
