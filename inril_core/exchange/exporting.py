"""Writing the episodes of a run in a format that others read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from inril_core.data.episode import Episode
from inril_core.data.index import EpisodeIndex
from inril_core.data.manage import open_run_index
from inril_core.data.select import Selection, listed, selected
from inril_core.errors import ConfigError
from inril_core.exchange.columns import contract_of
from inril_core.exchange.lerobot_write import Frames, LeRobotWriter
from inril_core.exchange.plain import PlainWriter
from inril_core.exchange.robomimic_write import RobomimicWriter
from inril_core.output import Output, is_marked

Format = Literal["lerobot", "hdf5", "parquet"]
FORMATS = ("lerobot", "hdf5", "parquet")
RATE_TOLERANCE = 0.05
"""Largest relative difference between the rate of the stamps and the contract's that is not told."""
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    format: str
    episodes: int
    steps: int
    warnings: tuple[str, ...]


class _Writer(Protocol):
    def write(self, episode: Episode) -> None: ...


def export_run(
    run_dir: Path,
    out: Path,
    format: Format,
    selection: Selection | None = None,
    images: bool = True,
    frames: Frames = "video",
    replace: bool = False,
    on_progress: OnProgress = lambda done, total, name: None,
) -> Exported:
    """Write the selected episodes of a run into ``out``, one at a time; it is whole or absent.

    Raises:
        ConfigError: no such run, nothing is selected, ``out`` is there already, an episode cannot be read or does not
            fit the others, a library is missing, or the disk is full.
    """
    selection = selection or Selection()
    index = open_run_index(run_dir)
    if not listed(index, selection):
        raise ConfigError(f"{run_dir}: no episode fits; `inril data list {run_dir}` shows what there is")
    ours = _is_hdf5 if format == "hdf5" else partial(is_marked, kind=format)
    with Output(out, replace, ours) as output:
        if format == "hdf5":
            writer = RobomimicWriter(output.part)
            try:
                done = _write_all(writer, index, selection, images, on_progress)
                writer.close()
            finally:
                writer.abandon()
        elif format == "lerobot":
            output.part.mkdir()
            lerobot = LeRobotWriter(output.part, _rate_hz(index, selection), frames)
            done = _write_all(lerobot, index, selection, images, on_progress)
            lerobot.close()
        else:
            output.part.mkdir()
            plain = PlainWriter(output.part)
            done = _write_all(plain, index, selection, images, on_progress)
            plain.close("parquet")
        episodes, steps, warnings = done
        if not episodes:
            raise ConfigError(f"{run_dir}: no episode fits; widen the conditions")
        output.commit()
    return Exported(output.path, format, episodes, steps, tuple(warnings))


def _write_all(
    writer: _Writer, index: EpisodeIndex, selection: Selection, images: bool, on_progress: OnProgress
) -> tuple[int, int, list[str]]:
    episodes, steps, warnings = 0, 0, []
    for _, episode in selected(index, selection, images, on_progress):
        writer.write(episode)
        episodes, steps = episodes + 1, steps + episode.steps
        warnings += _warnings(episode)
    return episodes, steps, warnings


def _warnings(episode: Episode) -> list[str]:
    contract = contract_of(episode.contract_text)
    found = [] if episode.complete else [f"{episode.episode_id}: is incomplete; {episode.steps} steps are whole"]
    span_s = float(episode.stamps_ns[-1] - episode.stamps_ns[0]) / 1e9
    if contract is not None and span_s > 0.0:
        rate_hz = episode.steps / span_s
        if abs(rate_hz / contract.control_rate_hz - 1.0) > RATE_TOLERANCE:
            found.append(
                f"{episode.episode_id}: its stamps say {rate_hz:.2f} Hz, the contract {contract.control_rate_hz:g} Hz; "
                "formats without stamps state the contract's"
            )
    return found


def _rate_hz(index: EpisodeIndex, selection: Selection) -> float:
    for _, episode in selected(index, selection, images=False):
        contract = contract_of(episode.contract_text)
        if contract is None:
            raise ConfigError(
                f"{episode.episode_id}: its task has no contract, and so no rate; export --format parquet"
            )
        return contract.control_rate_hz
    raise ConfigError("no episode fits; widen the conditions")


def _is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"
