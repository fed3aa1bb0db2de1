"""`inril data`: look at a run's episodes and leave some out, without a graph."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inril_bringup.run_dir import RunDirInUse, lock_run_dir
from inril_core.errors import ConfigError

SUMMARY = "list a run's episodes, and leave one out of training; no graph may run in its folder"
EXAMPLES = ("list runs/demos --json", "drop runs/demos demos-0-demo-00003-a1b2c3", "add runs/demos copied.mcap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("list", help="episodes with length, success, outliers, and what was dropped")
    show.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    show.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    drop = actions.add_parser("drop", help="leave an episode out of later training; its file stays")
    drop.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    drop.add_argument("episode", metavar="EPISODE", help="its id, from `inril data list`")
    drop.add_argument("--undo", action="store_true", help="take it in again")
    add = actions.add_parser("add", help="list an episode file of another run")
    add.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    add.add_argument("file", type=Path, metavar="FILE", help="an .mcap file that inril recorded")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    if arguments.action == "list":
        return _list(arguments)
    from inril_core.data.manage import add_episode, drop_episode, open_index
    from inril_core.run import RunPaths

    open_index(RunPaths(arguments.run_dir.expanduser().absolute()).episodes)  # before a lock makes the folder
    try:
        with lock_run_dir(arguments.run_dir):
            if arguments.action == "add":
                entry = add_episode(arguments.run_dir, arguments.file)
                print(f"added {entry.episode_id}, {entry.purpose}, {entry.steps} steps")
            else:
                drop_episode(arguments.run_dir, arguments.episode, person(), time.time_ns(), not arguments.undo)
                print(f"{arguments.episode}: {'taken in again' if arguments.undo else 'left out of later training'}")
    except RunDirInUse as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(
            f"{arguments.run_dir}: {error.strerror or error}; make the folder writable for you"
        ) from error
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from inril_core.data.manage import list_episodes

    listing = list_episodes(arguments.run_dir)
    if arguments.json:
        episodes: list[dict[str, Any]] = []
        for listed in listing.episodes:
            facts = {name: value for name, value in asdict(listed).items() if name != "entry"}
            episodes.append({**asdict(listed.entry), **facts})
        unlisted = [str(path) for path in listing.unlisted]
        print(json.dumps({"episodes": episodes, "problems": listing.problems, "unlisted": unlisted}))
        return 0
    words = {True: "success", False: "failure", None: "unlabelled"}
    for listed in listing.episodes:
        entry = listed.entry
        marks = ["dropped"] * listed.dropped + [listed.problem] * bool(listed.problem)
        marks += ["incomplete"] * (not entry.complete)
        marks += [f"outlier: step {o.step} {o.field} = {o.value:.6g}" for o in listed.outliers[:3]]
        marks += [f"{len(listed.outliers) - 3} more outliers"] * (len(listed.outliers) > 3)
        said = f"{words[listed.success]:<10}"
        print(f"{entry.episode_id}  {entry.purpose:<5} {entry.steps:>4} steps  {said} {'; '.join(marks)}".rstrip())
    for problem in listing.problems:
        print(problem)
    for path in listing.unlisted:
        print(f"{path}: not in the list and not used; list it with `inril data add`, or remove it")
    return 0


def person() -> str:
    """Who sits at this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"
