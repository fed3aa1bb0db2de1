"""Draws the node graph as docs/assets/graph.svg: `python docs/assets/make_graph.py`."""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1260, 650
STYLE = """
svg{--paper:#fff;--host:#f3f5f8;--box:#fff;--ink:#1a1f26;--soft:#56606d;--edge:#7a8694;
--tick:#2367b5;--learn:#c2571a}
@media (prefers-color-scheme:dark){
svg{--paper:#14181d;--host:#1c2229;--box:#272f38;--ink:#e8ebef;--soft:#a9b3bf;--edge:#8b97a5;
--tick:#6fb0f2;--learn:#f09a5e}}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--ink)}
.paper{fill:var(--paper)} .host{fill:var(--host)} .box{fill:var(--box);stroke:var(--edge);stroke-width:1.2}
.name{font-size:14px;font-weight:650;text-anchor:middle}
.role{font-size:11.5px;fill:var(--soft);text-anchor:middle}
.title{font-size:14px;font-weight:650;fill:var(--soft)}
.topic{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12px;fill:var(--soft)}
path{fill:none;stroke-width:2;stroke-linejoin:round}
.halo{stroke:var(--host);stroke-width:8}
.tick{stroke:var(--tick)} .learn{stroke:var(--learn)} .call{stroke:var(--edge);stroke-width:1.5}
.record{stroke:var(--edge);stroke-width:1.5;stroke-dasharray:5 4}
.fill-tick{fill:var(--tick)} .fill-learn{fill:var(--learn)} .fill-call,.fill-record{fill:var(--edge)}
"""
HOSTS = (
    ("robot host", 16, 44, 956, 590),
    ("learner host, or the same", 988, 44, 256, 590),
)
# name, what it does (lines), left, top, width, height
NODES = (
    ("sim_cell", ("the simulated arm,", "or a robot's node"), 40, 222, 150, 84),
    ("safety_monitor", ("permits motion from what", "the arm measures alone"), 240, 98, 190, 76),
    ("observation_node", ("joins, checks ages,", "opens tick k"), 312, 222, 160, 84),
    ("policy_node", ("answers tick k;", "swaps checked weights"), 568, 222, 158, 84),
    ("teleop_node", ("the human, real", "or scripted"), 568, 98, 158, 76),
    ("arbiter_node", ("who is in control, limits,", "watchdogs; closes tick k"), 794, 222, 158, 84),
    ("session_node", ("resets, runs, labels", "the plan's episodes"), 40, 432, 150, 84),
    ("recorder_node", ("every step on disk", "before it counts"), 312, 432, 160, 84),
    ("store_node", ("serves finished", "episodes"), 568, 432, 158, 84),
    (
        "lifecycle_manager",
        ("activates in order, re-activates what was restarted, stops in reverse",),
        40,
        556,
        912,
        56,
    ),
    (
        "learner_node",
        ("interleaves RL and imitation,", "separates their gradients,", "pushes weights"),
        1012,
        424,
        208,
        100,
    ),
)
# class, corner points from tail to head
EDGES = (
    ("tick", ((190, 264), (312, 264))),
    ("tick", ((472, 264), (568, 264))),
    ("tick", ((726, 264), (794, 264))),
    ("tick", ((726, 136), (836, 136), (836, 222))),
    ("tick", ((916, 222), (916, 74), (115, 74), (115, 222))),
    ("tick", ((190, 236), (202, 236), (202, 154), (240, 154))),
    ("tick", ((240, 118), (170, 118), (170, 222))),
    ("record", ((873, 306), (873, 340), (392, 340), (392, 432))),
    ("call", ((90, 432), (90, 306))),
    ("call", ((150, 432), (150, 376), (342, 376), (342, 306))),
    ("call", ((190, 474), (312, 474))),
    ("learn", ((472, 474), (568, 474))),
    ("learn", ((726, 474), (1012, 474))),
    ("learn", ((1116, 424), (1116, 388), (647, 388), (647, 306))),
)
# text, x, y, anchor
LABELS = (
    ("/robot_state", 251, 238, "middle"),
    ("/part_poses", 251, 254, "middle"),
    ("/camera/*/image", 251, 282, "middle"),
    ("/observation", 520, 254, "middle"),
    ("/policy_action", 760, 212, "middle"),
    ("/teleop_action", 736, 128, "start"),
    ("/target", 500, 67, "middle"),
    ("/safety_permit", 234, 108, "end"),
    ("/executed_action and the rest of the tick", 660, 358, "start"),
    ("/cell/reset", 97, 346, "start"),
    ("begin, end episode", 246, 394, "middle"),
    ("/episode_event", 251, 466, "middle"),
    ("MCAP files", 520, 466, "middle"),
    ("/episode_ready, then pulled in chunks", 738, 466, "start"),
    ("/policy_weights (signed, latched)", 738, 408, "start"),
)
KEY = (("tick", "control tick"), ("learn", "learning"), ("record", "recording"), ("call", "service or event"))
ARROW = 9


def drawing() -> str:
    """The whole picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="The nodes of inril and the topics between them">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
        *(host(*values) for values in HOSTS),
        *(edge(*values) for values in EDGES),
        *(node(*values) for values in NODES),
        *(f'<text class="topic" x="{x}" y="{y}" text-anchor="{a}">{escape(t)}</text>' for t, x, y, a in LABELS),
        *(key(i, *values) for i, values in enumerate(KEY)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def host(title: str, left: int, top: int, width: int, height: int) -> str:
    """A computer."""
    return (
        f'<text class="title" x="{left + 4}" y="{top - 12}">{escape(title)}</text>'
        f'<rect class="host" x="{left}" y="{top}" width="{width}" height="{height}" rx="12"/>'
    )


def node(name: str, role: tuple[str, ...], left: int, top: int, width: int, height: int) -> str:
    """A process."""
    middle = left + width / 2
    first = top + height / 2 - 8 * (len(role) - 1) - 3
    lines = "".join(
        f'<text class="role" x="{middle}" y="{first + 18 + 15 * i}">{escape(line)}</text>'
        for i, line in enumerate(role)
    )
    return (
        f'<rect class="box" x="{left}" y="{top}" width="{width}" height="{height}" rx="9"/>'
        f'<text class="name" x="{middle}" y="{first}">{escape(name)}</text>{lines}'
    )


def edge(kind: str, points: tuple[tuple[int, int], ...]) -> str:
    """A line with an arrow head at its last point."""
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    base = (x1 - ARROW * dx, y1 - ARROW * dy)
    line = "M" + " L".join(f"{x} {y}" for x, y in (*points[:-1], base))
    side = (dy * ARROW / 2, dx * ARROW / 2)
    head = f"{x1},{y1} {base[0] + side[0]},{base[1] + side[1]} {base[0] - side[0]},{base[1] - side[1]}"
    return (
        f'<path class="halo" d="{line}"/><path class="{kind}" d="{line}"/>'
        f'<polygon class="fill-{kind}" points="{head}"/>'
    )


def key(index: int, kind: str, text: str) -> str:
    """What a colour means."""
    y = 84 + 24 * index
    return (
        f'<path class="{kind}" d="M1012 {y} L1048 {y}"/>'
        f'<text class="role" style="text-anchor:start" x="1058" y="{y + 4}">{escape(text)}</text>'
    )


if __name__ == "__main__":
    Path(__file__).with_name("graph.svg").write_text(drawing())
