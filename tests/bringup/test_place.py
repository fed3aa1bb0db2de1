"""The place of a graph: one at a time, known at once, free when its holder is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from inril_bringup import place as places
from inril_bringup.place import Place, PlaceError, PlaceTaken, hold_place, holder, place_of

HOLD = """
import sys
from pathlib import Path
from inril_bringup import place
place._folder = lambda: Path(sys.argv[1])
held = place.hold_place(place.Place(7, "left"), {"graph_id": "A-1.2", "run_dir": "/runs/A"})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "places"
    monkeypatch.setattr(places, "_folder", lambda: folder)
    return folder


def test_a_place_is_held_by_one_and_free_after_kill_9(folder: Path) -> None:
    """Pins two graphs that start at the same time, and a place that a dead one blocks."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        told = holder(Place(7, "left"))
        assert told is not None and (told["pid"], told["graph_id"]) == (process.pid, "A-1.2")
        with pytest.raises(PlaceTaken, match=r"namespace /left.*A-1\.2.*/runs/A.*namespace:=.*inril -n left down"):
            hold_place(Place(7, "left"), {})
        hold_place(Place(7), {}).close()
        hold_place(Place(8, "left"), {}).close()
        process.send_signal(signal.SIGKILL)
    assert holder(Place(7, "left")) is None
    hold_place(Place(7, "left"), {}).close()


@pytest.mark.parametrize("text", ["abc", "-1", "233", "1.5", "٣", "1 2"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    """Pins ten nodes that die of ROS_DOMAIN_ID, one by one, again and again."""
    with pytest.raises(PlaceError, match="give an integer from 0 to 232"):
        place_of({"ROS_DOMAIN_ID": text})


def test_an_unset_domain_is_0() -> None:
    assert place_of({}) == place_of({"ROS_DOMAIN_ID": ""}) == Place(0)
    assert place_of({"ROS_DOMAIN_ID": "42"}, "/left/") == Place(42, "left")


def test_a_folder_of_somebody_else_is_not_used(folder: Path) -> None:
    """Pins a folder in /tmp that another user made first, to be asked instead of the arbiter."""
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(PlaceError, match="mode 700"):
        hold_place(Place(1), {})


def test_the_path_of_the_socket_fits_whatever_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a graph without `inril disarm` because its namespace is long."""
    monkeypatch.undo()
    longest, other = Place(232, "/".join(["a" * 60] * 4)), Place(232, "/".join(["a" * 60] * 5))
    assert len(str(longest.socket)) < 100 and longest.socket != other.socket
