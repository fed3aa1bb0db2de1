"""Pins: a start that is laid out by the wrong picture, and a file that nobody can read and nobody is told of."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inril_core.console.messages import WantedStart
from inril_core.console.wanted import LARGEST_BYTES, WantedStarts


def put(path: Path, grey: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), grey, np.uint8)).save(path)


def grey_of(jpeg: str) -> float:
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(jpeg)))).mean())


def test_a_start_s_own_picture_goes_before_the_one_for_all(tmp_path: Path) -> None:
    starts = WantedStarts(tmp_path / "starts", ("front", "wrist"))
    assert starts.of(7) == WantedStart(-1, ()), "no folder is no trouble"
    put(tmp_path / "starts" / "front.png", 40)
    put(tmp_path / "starts" / "7-front.jpg", 200)
    put(tmp_path / "starts" / "7-side.png", 90)
    own, other = starts.of(7), starts.of(8)
    assert [picture.camera for picture in own.pictures] == ["front"], "of the contract's cameras alone"
    assert (own.start, other.start) == (7, 8)
    assert grey_of(own.pictures[0].jpeg) == pytest.approx(200, abs=2)
    assert grey_of(other.pictures[0].jpeg) == pytest.approx(40, abs=2)
    assert starts.of(-1) == WantedStart(-1, ()), "nothing is laid out"


def test_a_picture_that_is_taken_again_is_read_again(tmp_path: Path) -> None:
    starts = WantedStarts(tmp_path, ("front",))
    put(tmp_path / "front.png", 40)
    first = starts.of(7)
    assert starts.of(7) is first
    put(tmp_path / "front.png", 200)
    assert grey_of(starts.of(7).pictures[0].jpeg) == pytest.approx(200, abs=2)


@pytest.mark.parametrize("spoil", [b"", b"no picture", None])
def test_what_cannot_be_shown_is_named_with_the_cure(tmp_path: Path, spoil: bytes | None) -> None:
    path = tmp_path / "front.png"
    if spoil is None:
        with path.open("wb") as file:
            file.truncate(LARGEST_BYTES + 1)
    else:
        path.write_bytes(spoil)
    (shown,) = WantedStarts(tmp_path, ("front",)).of(7).pictures
    assert not shown.jpeg
    assert "front.png" in shown.trouble and "inril camera snapshot front" in shown.trouble
