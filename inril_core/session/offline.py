"""What a person says of an episode of a run without asking its graph."""

from __future__ import annotations

import fcntl
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from inril_core.data.finalise import raw_files
from inril_core.data.index import EpisodeIndex
from inril_core.data.manage import open_index
from inril_core.errors import ConfigError, InrilError
from inril_core.run import RunPaths, open_run
from inril_core.session.ledger import Ledger
from inril_core.vocabulary import Label, Mark


class GraphIsUp(InrilError):
    """A recorder writes into this run: the session is to be asked instead."""


def label_offline(run_dir: Path, episode_id: str, success: bool | None, by: str, stamp_ns: int, tag: str = "") -> str:
    """Append a label to a run's list of episodes and to its ledger; returns what was done.

    The learner and `inril pretrain` read the newest label; the recording stays as it is.

    Args:
        success: None takes an earlier label back: nobody says any more.
        by: a person's name.
        stamp_ns: Unix time.
        tag: why it failed; episodes of a run have none.

    Raises:
        GraphIsUp: a recorder writes into this run.
        ConfigError: there is no such run or episode, it has no tags, it is an evaluation, or the disk is full.
    """
    paths = RunPaths(run_dir.expanduser().absolute())
    if not (paths.root / "run.json").exists():
        raise ConfigError(f"{paths.root}: is no folder of a run (it has no run.json); give the run_dir of the graph")
    open_run(paths.root)
    with _alone(paths):
        index = EpisodeIndex(paths.episodes)
        ledger = Ledger(paths.session)
        result = ledger.find(episode_id)
        if result is not None and paths.evaluation_plan.exists():  # its result keeps the task's own word
            words = f"{result.index} {Label.of(success).word}{tag and f' --tag {shlex.quote(tag)}'}"
            raise ConfigError(
                f"{episode_id} is a trial of an evaluation; say `inril evaluate label {shlex.quote(str(run_dir))} "
                f"{words}`"
            )
        if tag:
            raise ConfigError(f"tag = {tag!r}: only trials of an evaluation have tags; leave it out")
        if index.find(episode_id) is None:
            raise ConfigError(_unknown(paths, index, episode_id))
        try:
            if result is not None:
                ledger.append(replace(result, success=bool(success), source=by))
            index.annotate(episode_id, success, by, stamp_ns)
        except OSError as error:
            raise ConfigError(f"{paths.root}: the label is not written: {error}") from error
    return f"{episode_id} is labelled {Label.of(success).word} by {by}"


def mark_offline(
    run_dir: Path,
    episode_id: str,
    steps: tuple[int, int],
    by: str,
    stamp_ns: int,
    mark: Mark | None = None,
    reward: float | None = None,
) -> str:
    """Append a mark, or a reward, of a stretch of steps to a run's list of episodes; returns what was done.

    The run's graph may be up: its learner follows.

    Args:
        steps: first and last, both included.
        mark: `Mark.NONE` takes earlier marks of these steps back. Otherwise as `label_offline`.

    Raises:
        ConfigError: there is no such run, episode or step, or the disk is full.
    """
    paths = RunPaths(run_dir.expanduser().absolute())
    index = open_index(paths.episodes)
    if index.find(episode_id) is None:
        raise ConfigError(_unknown(paths, index, episode_id))
    try:
        stretch = index.mark(episode_id, steps, by, stamp_ns, mark, reward)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{paths.root}: the annotation is not written: {error}") from error
    said = f"reward {stretch.reward:g}" if stretch.reward is not None else str(stretch.mark)
    return f"{episode_id}, annotation {stretch.number}: steps {steps[0]} to {steps[1]} are {said}, by {by}"


def _unknown(paths: RunPaths, index: EpisodeIndex, episode_id: str) -> str:
    if any(path.stem == episode_id for path in raw_files(paths.raw)):
        return f"{episode_id} is not finished yet: the recorder does that when a graph is started in {paths.root}"
    newest = [entry.episode_id for entry in index.entries[-3:]]
    listed = f"its newest are {newest}" if newest else "it has none"
    return f"{paths.root} has no recorded episode {episode_id!r}; {listed} (episodes/episodes.jsonl)"


@contextmanager
def _alone(paths: RunPaths) -> Iterator[None]:
    """Hold the lock that a recorder holds, which is the only other one to write these lists."""
    try:
        paths.raw.mkdir(exist_ok=True)
        with (paths.raw / ".lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise GraphIsUp(f"{paths.root}: its graph is up") from error
            yield
    except OSError as error:
        raise ConfigError(f"{paths.root}: {error}; give a folder that you may write to") from error
