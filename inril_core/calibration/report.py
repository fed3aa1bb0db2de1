"""What a calibration found, as lines and as a page with pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration.hand_eye import HandEye
from inril_core.calibration.hand_eye_fit import Problem, predicted
from inril_core.calibration.intrinsics import Intrinsics
from inril_core.errors import ConfigError


def hand_eye_text(found: HandEye) -> str:
    """Lines for a person."""
    position, q = found.T[:3, 3], Rotation.from_matrix(found.T[:3, :3]).as_quat()
    held = found.held_out
    rejected = ", ".join(f"{i} ({_px(found.errors_px[i])})" for i in found.rejected) or "none"
    methods = "; ".join(
        f"{name} {1e3 * m:.2f} mm {math.degrees(rad):.3f} deg" for name, (m, rad) in found.methods.items()
    )
    corners = sum(map(len, found.rejected_corners.values()))
    return "\n".join(
        [
            f"{found.data.name_X} ({found.data.mode}, {len(found.used)} of {len(found.errors_px)} poses)",
            f"  position_m       {position[0]:+.5f} {position[1]:+.5f} {position[2]:+.5f}  "
            f"(std {1e3 * found.position_std_m:.2f} mm)",
            f"  quaternion_xyzw  {q[0]:+.6f} {q[1]:+.6f} {q[2]:+.6f} {q[3]:+.6f}  "
            f"(std {math.degrees(found.angle_std_rad):.3f} deg)",
            f"  residual         {found.residual_px:.3f} px; held out: {held.residual_px:.3f} px, "
            f"{1e3 * held.position_m:.2f} mm, {math.degrees(held.angle_rad):.3f} deg",
            f"  rejected poses   {rejected}; rejected corners of others: {corners}",
            f"  board size       {found.board_scale:.4f} +- {found.board_scale_std:.4f} of what was given",
            f"  closed forms     {methods}",
        ]
    )


def _px(error: float) -> str:
    return f"{error:.1f} px" if math.isfinite(error) else "behind the camera"


_PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px sans-serif;max-width:60em;margin:2em auto}}img{{max-width:100%}}
pre{{background:#f4f4f4;padding:1em;overflow:auto}}</style>
<h1>{title}</h1><pre>{text}</pre>{pictures}
"""


def write_page(folder: Path, name: str, text: str, pictures: dict[str, str]) -> Path:
    """Write ``name.html`` that shows lines and pictures (file name: caption) of its folder.

    Raises:
        ConfigError: the folder cannot be written.
    """
    import html

    shown = "".join(f'<h2>{html.escape(c)}</h2><img src="{html.escape(p)}" alt="">' for p, c in pictures.items())
    path = folder / f"{name}.html"
    try:
        path.write_text(_PAGE.format(title=html.escape(name), text=html.escape(text), pictures=shown))
    except OSError as error:
        raise ConfigError(f"--report {folder}: cannot be written ({error.strerror or error}); give another") from error
    return path


def make_folder(folder: Path) -> None:
    """The folder of a report.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--report {folder}: cannot be made ({error.strerror or error}); give another") from error


def write_hand_eye(folder: Path, found: HandEye) -> Path:
    """A page with each pose's corners beside where the calibration predicts them, and its errors.

    Raises:
        ConfigError: the folder cannot be written.
    """
    make_folder(folder)
    _overlay(folder / "overlay.png", found)
    _errors(folder / "errors.png", found)
    pictures = {
        "overlay.png": "Corners as seen (dots, the first a cross) and as predicted from the arm's pose (rings, the "
        "first a square); red: rejected",
        "errors.png": "Error of each pose",
    }
    return write_page(folder, found.data.name_X, hand_eye_text(found), pictures)


def intrinsics_text(found: Intrinsics) -> str:
    """Lines for a person."""
    K, std = found.camera.K, found.std
    lines = [
        f"camera matrix of {found.width_px} x {found.height_px} px, from {len(found.used)} images",
        f"  fx fy px     {K[0, 0]:.2f} +- {std[0]:.2f}, {K[1, 1]:.2f} +- {std[1]:.2f}",
        f"  cx cy px     {K[0, 2]:.2f} +- {std[2]:.2f}, {K[1, 2]:.2f} +- {std[3]:.2f}",
        f"  distortion   {' '.join(f'{x:+.5f}' for x in found.camera.distortion)}",
        f"  residual     {found.residual_px:.3f} px; held out: {found.held_out_px:.3f} px",
    ]
    lines += [f"  rejected     {name}: {why}" for name, why in found.rejected.items()]
    lines += [f"  missing      {text}" for text in found.missing]
    return "\n".join(lines)


def write_intrinsics(folder: Path, found: Intrinsics) -> Path:
    """A page with where corners were seen, and how far off they are.

    Raises:
        ConfigError: the folder cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    make_folder(folder)
    seen = np.concatenate([corners for _, corners, _ in found.overlay])
    off = np.concatenate([predicted - corners for _, corners, predicted in found.overlay])
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    length = 0.03 * found.width_px / max(float(np.percentile(np.linalg.norm(off, axis=1), 95)), 1e-6)
    axes[0].plot(*seen.T, ".", markersize=2, color="tab:green")
    axes[0].quiver(*seen.T, *(length * off).T, angles="xy", scale_units="xy", scale=1.0, width=0.002, color="tab:red")
    axes[0].set(
        xlim=(0, found.width_px), ylim=(found.height_px, 0), aspect="equal", title=f"corners; errors x {length:.0f}"
    )
    names = [name for name, _, _ in found.overlay]
    each = [float(np.sqrt(np.mean(np.sum((p - c) ** 2, axis=1)))) for _, c, p in found.overlay]
    axes[1].bar(range(len(names)), each, color="tab:green")
    axes[1].set(xlabel="image", ylabel="residual, px")
    figure.savefig(folder / "corners.png", dpi=90)
    plt.close(figure)
    captions = {"corners.png": "Corners of all images with their errors; residual of each image"}
    return write_page(folder, "intrinsics", intrinsics_text(found), captions)


def _overlay(path: Path, found: HandEye) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    data = found.data
    problem = Problem(data.A, data.corners, data.board_points, data.camera)
    seen = predicted(problem, found.T, found.T_board)
    size = 2.0 * data.camera.K[:2, 2]
    # rejected poses first, so that a long recording still shows them
    shown = sorted([*found.rejected, *found.used[: max(0, 20 - len(found.rejected))]][:20])
    columns = min(5, len(shown))
    count = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(count, columns, figsize=(3.2 * columns, 2.6 * count), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, i in zip(axes.ravel(), shown, strict=False):
        colour = "tab:red" if i in found.rejected else "tab:green"
        axis.set_axis_on()
        axis.plot(*data.corners[i].T, ".", color="black", markersize=2)
        axis.plot(*data.corners[i, 0], "x", color="black", markersize=9)
        if seen[i, :, 2].min() > 0.0:
            rings = data.camera.project(seen[i])
            axis.plot(*rings.T, "o", color=colour, markersize=4, fillstyle="none", linewidth=0.5)
            axis.plot(*rings[0], "s", color=colour, markersize=9, fillstyle="none")
        axis.set(xlim=(0, size[0]), ylim=(size[1], 0), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"pose {i}: {_px(found.errors_px[i])}", fontsize=9, color=colour)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _errors(path: Path, found: HandEye) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    errors = np.where(np.isfinite(found.errors_px), found.errors_px, np.nan)
    colours = ["tab:red" if i in found.rejected else "tab:green" for i in range(len(errors))]
    figure, axis = plt.subplots(figsize=(8, 3))
    axis.bar(np.arange(len(errors)), errors, color=colours)
    axis.axhline(found.limit_px, color="black", linewidth=0.8)
    axis.set(xlabel="pose", ylabel="error, px (75th percentile)", yscale="log")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
