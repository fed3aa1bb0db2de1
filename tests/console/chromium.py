"""Headless Chromium, and what is done with a page whoever drives it."""

from __future__ import annotations

import ctypes
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
]
"""Without a GPU, as root."""
SIZES = {"desk": {"width": 1280, "height": 800}, "tablet": {"width": 1024, "height": 768}}
COLOURS = 128
"""Of a picture in the documentation: small, and no difference to the eye."""


def missing() -> str:
    """Why there is no browser on this machine, and the fix; empty: there is one."""
    if _program() is None:
        return "no Chromium on this machine: apt-get install chromium"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        return f"playwright cannot be imported ({error}): make setup"
    return ""


def _program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, driven by playwright.

    As root it would raise its own priority above that of the nodes (nice -8) and starve the simulated arm on a small
    machine, so what this process starts from here on may not raise its priority.
    """
    from playwright.sync_api import sync_playwright

    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)  # without the right to, nothing happens

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=_program(), args=FLAGS, timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def operators_page(browser: Any, name: str, size: str, patient_ms: float) -> Iterator[Any]:
    """The console's page as a person of this name opens it; without an address yet.

    size: of `SIZES`; a tablet has a touch screen.
    """
    context = browser.new_context(viewport=SIZES[size], has_touch=size == "tablet")
    context.add_init_script(f"localStorage.setItem('inril name', '{name}')")
    page = context.new_page()
    page.set_default_timeout(patient_ms)
    try:
        yield page
    finally:
        context.close()


def save_picture(page: Any, path: Path) -> None:
    """A screenshot as a small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
