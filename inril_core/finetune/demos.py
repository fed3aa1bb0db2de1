"""Demonstrations of an earlier run, read from its folder."""

from collections.abc import Callable
from pathlib import Path

from inril_core.contract import Contract
from inril_core.data.container import EpisodeUnreadable
from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.data.finalise import SUFFIX
from inril_core.data.index import IndexEntry
from inril_core.data.manage import open_index
from inril_core.data.outliers import find_outliers, observation_names
from inril_core.data.reader import read_episode
from inril_core.errors import ConfigError
from inril_core.run import RunPaths


def read_demos(run_dir: Path, contract: Contract, on_problem: Callable[[str], None]) -> list[Episode]:
    """What a run folder has to imitate, in the order in which it was recorded, with all that was said of it since:
    its demonstrations, and its training episodes in which a person took over.

    Left out is what a person dropped, and, each told to ``on_problem``: a line of the list that is not sound, a file
    that cannot be read or has changed since it was listed, a file that the list does not name, and a recording
    with an outlier (`find_outliers`), because one far frame can spoil a normaliser.

    Raises:
        ConfigError: it is no run folder, nothing is left, or a demonstration was recorded under another interface.
    """
    return [demo for demo in DemoWatch(run_dir, contract, on_problem).demos() if not demo.left_out]


class DemoWatch:
    """The demonstrations of a run folder, and what people say of them while they are in use.

    Args:
        on_problem: as `read_demos`.
        corrections: take those of training episodes, too; False where these are ingested anyhow.

    Raises:
        ConfigError: it is no run folder.
    """

    def __init__(
        self, run_dir: Path, contract: Contract, on_problem: Callable[[str], None], corrections: bool = True
    ) -> None:
        self._purposes = ("demo", "train") if corrections else ("demo",)
        self._run_dir, self._contract, self._on_problem = run_dir, contract, on_problem
        self._folder = RunPaths(run_dir.expanduser().absolute()).episodes
        self._index = open_index(self._folder)
        self._read: dict[str, int] = {}
        """Line of the list up to which each was read, by name."""

    def demos(self) -> list[Episode]:
        """As `read_demos`, and besides, with `Episode.left_out`, what a person dropped.

        Raises:
            ConfigError: as `read_demos`.
        """
        for problem in self._index.problems:
            self._on_problem(problem)
        for path in self._index.unlisted_files(SUFFIX):
            self._on_problem(
                f"{path}: is not in the run's list and not used; list it with `inril data add`, or remove it"
            )
        demos = []
        for entry in self._index.entries:
            if entry.purpose not in self._purposes or not entry.steps:
                continue
            dropped = self._index.dropped(entry.episode_id)
            demo = self._one(entry, (lambda _: None) if dropped else self._on_problem)
            if demo is None or (demo.purpose == "train" and not (demo.source == SOURCE_HUMAN).any()):
                continue
            if demo.left_out and demo.interface_digest != self._contract.interface_digest:
                continue
            self._refuse_other_interface(demo)
            demos.append(demo)
        demos = self._without_outliers(demos)
        if all(demo.left_out for demo in demos):
            raise ConfigError(
                f"demos = {self._run_dir}: no usable demonstrations in {self._folder}; record some with `inril demos`, "
                "or corrections with `inril up correct`"
            )
        self._read = {demo.episode_id: self._index.newest_line(demo.episode_id) for demo in demos}
        return demos

    def revised(self) -> list[Episode]:
        """Those of which something was said since they were read; a file that cannot be read is told.

        Raises:
            OSError: the list cannot be read.
        """
        self._index.refresh()
        found = []
        for name, line in self._read.items():
            newest = self._index.newest_line(name)
            entry = self._index.find(name)
            if newest == line or entry is None:
                continue
            demo = self._one(entry, self._on_problem)
            self._read[name] = newest
            if demo is not None:
                found.append(demo)
        return found

    def again(self) -> None:
        """What `revised` gave could not be used yet: it gives it once more."""
        self._read = dict.fromkeys(self._read, 0)
        self._index = open_index(self._folder)

    def _one(self, entry: IndexEntry, on_problem: Callable[[str], None]) -> Episode | None:
        path = self._folder / f"{entry.episode_id}{SUFFIX}"
        try:
            demo = read_episode(path, images=bool(self._contract.image_shapes))
        except EpisodeUnreadable as error:
            on_problem(f"{error}; it is left out")
            return None
        if demo.sha256 != entry.sha256:
            on_problem(f"{path}: has changed since it was listed; it is left out")
            return None
        return self._index.annotated(entry, demo)

    def _refuse_other_interface(self, demo: Episode) -> None:
        if demo.interface_digest != self._contract.interface_digest:
            raise ConfigError(
                f"demos = {self._run_dir}: {demo.episode_id} was recorded under another interface "
                f"({demo.interface_digest[:12]}) than contract {self._contract.task} "
                f"({self._contract.interface_digest[:12]}); give the demonstrations' contract, or record them again"
            )

    def _without_outliers(self, demos: list[Episode]) -> list[Episode]:
        used = [demo for demo in demos if not demo.left_out]
        far = find_outliers(used, observation_names(self._contract))
        for episode_id in dict.fromkeys(outlier.episode_id for outlier in far):
            own = [outlier for outlier in far if outlier.episode_id == episode_id]
            more = f" and {len(own) - 1} more" if len(own) > 1 else ""
            self._on_problem(f"outlier: {own[0]}{more}; the demonstration is left out (`inril data list` shows all)")
        return [demo for demo in demos if demo.episode_id not in {outlier.episode_id for outlier in far}]
