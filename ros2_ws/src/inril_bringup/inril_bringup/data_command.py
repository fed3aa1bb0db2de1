"""`inril data`: look at a run's episodes, leave some out, annotate them, and exchange them with other projects."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inril_bringup import data_exchange
from inril_bringup.data_selection import add_conditions, person, progress, selection_of
from inril_bringup.run_dir import RunDirInUse, lock_run_dir
from inril_core.errors import ConfigError
from inril_core.vocabulary import LABELS, MARKS, outcome_word

SHOWN = 8
"""Policy versions and the like that a line names."""
SUMMARY = "list, check, annotate, export and import a run's episodes"
EXAMPLES = (
    "list runs/demos --json",
    "verify runs/demos",
    "export runs/demos out/demos --format lerobot --outcome success",
    "import theirs.hdf5 --write-map map.yaml --contract one_leg_low",
    "import theirs.hdf5 runs/theirs --map map.yaml",
    "annotate runs/demos demos-0-demo-00003-a1b2c3 --mark 12-30=failure --label failure",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = _adder(actions)
    add("list", _list, "episodes with length, success, outliers, and what was dropped")
    add("info", _info, "what a run holds in numbers: episodes, steps, sources, versions, images")
    add("verify", _verify, "look at every file: digest, steps, rates, gaps, numbers; exit 1 when something is bad")
    drop = add(
        "drop", _drop, "leave an episode out of training, also of a running learner's; its file stays", as_json=False
    )
    drop.add_argument("episode", metavar="EPISODE", help="its id, from `inril data list`")
    drop.add_argument("--undo", action="store_true", help="take it in again")
    added = add("add", _add, "list an episode file of another run", as_json=False)
    added.add_argument("file", type=Path, metavar="FILE", help="an .mcap file that inril recorded")
    annotate = add("annotate", _annotate, "say afterwards how an episode went; its recording stays", as_json=False)
    annotate.add_argument("episode", metavar="EPISODE", help="its id, from `inril data list`")
    annotate.add_argument("--label", choices=list(LABELS), help="unknown takes a label back")
    annotate.add_argument(
        "--mark",
        action="append",
        default=[],
        metavar="FIRST-LAST=WORD",
        help="mark steps as failure, recovery or correction; none takes marks back; may be given several times",
    )
    annotate.add_argument(
        "--reward", action="append", default=[], metavar="FIRST-LAST=VALUE", help="give steps this reward"
    )
    replay = add("replay", _replay, "feed the executed actions to the simulated cell; how far off is the tool?")
    replay.add_argument(
        "--most-m", type=float, metavar="M", help="exit 1 where the tool is farther off than this, in metres"
    )
    add_conditions(replay)
    data_exchange.add_arguments(actions, add)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    return int(arguments.do(arguments))


def _adder(actions: Any) -> Callable[..., argparse.ArgumentParser]:
    def add(
        name: str,
        do: Callable[[argparse.Namespace], int],
        summary: str,
        as_json: bool = True,
        run_dir: bool = True,
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary[:1].upper() + summary[1:] + "."
        )
        parser.set_defaults(do=do)
        if run_dir:
            parser.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
        if as_json:
            parser.add_argument("--json", action="store_true", help="JSON instead of lines")
        return parser

    return add


def _changing(arguments: argparse.Namespace, change: Callable[[], str]) -> int:
    """Change a run's list while no graph runs in its folder."""
    from inril_core.data.manage import open_run_index

    open_run_index(arguments.run_dir)  # before a lock makes the folder
    try:
        with lock_run_dir(arguments.run_dir):
            print(change())
    except RunDirInUse as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(
            f"{arguments.run_dir}: {error.strerror or error}; make the folder writable for you"
        ) from error
    return 0


def _drop(arguments: argparse.Namespace) -> int:
    from inril_core.data.manage import drop_episode

    drop_episode(arguments.run_dir, arguments.episode, *person(), not arguments.undo)
    print(f"{arguments.episode}: {'taken in again' if arguments.undo else 'left out of training'}")
    return 0


def _add(arguments: argparse.Namespace) -> int:
    from inril_core.data.manage import add_episode

    def change() -> str:
        entry = add_episode(arguments.run_dir, arguments.file)
        return f"added {entry.episode_id}, {entry.purpose}, {entry.steps} steps"

    return _changing(arguments, change)


def _annotate(arguments: argparse.Namespace) -> int:
    from inril_core.session.offline import label_offline, mark_offline

    marks = [(_mark(word), steps) for word, steps in map(_stretch, arguments.mark)]
    rewards = [(_reward(word), steps) for word, steps in map(_stretch, arguments.reward)]
    if arguments.label is None and not marks and not rewards:
        raise ConfigError("annotate: give --label, --mark or --reward")
    run_dir, name = arguments.run_dir, arguments.episode

    for mark, steps in marks:
        print(mark_offline(run_dir, name, steps, *person(), mark=mark))
    for reward, steps in rewards:
        print(mark_offline(run_dir, name, steps, *person(), reward=reward))
    if arguments.label is None:
        return 0
    success = LABELS[arguments.label].success
    # a running graph's session would not hear of it, and its ledger has one writer: `inril label` asks it
    return _changing(arguments, lambda: label_offline(run_dir, name, success, *person()))


def _stretch(text: str) -> tuple[str, tuple[int, int]]:
    steps, _, word = text.partition("=")
    first, _, last = steps.partition("-")
    if not word or not first.isdecimal() or not (last or first).isdecimal():
        raise ConfigError(f"annotate: {text!r}: must be like 12-30=failure, or 7=0.5 for the reward of one step")
    return word, (int(first), int(last or first))


def _mark(word: str) -> Any:
    if word not in MARKS:
        raise ConfigError(f"annotate: --mark {word!r}: must be one of {', '.join(MARKS)}")
    return MARKS[word]


def _reward(word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise ConfigError(f"annotate: --reward {word!r}: must be a number") from error


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
    for listed in listing.episodes:
        entry = listed.entry
        marks = ["dropped"] * listed.dropped + [listed.problem] * bool(listed.problem)
        marks += ["incomplete"] * (not entry.complete)
        marks += list(entry.problems)
        marks += [f"outlier: step {o.step} {o.field} = {o.value:.6g}" for o in listed.outliers[:3]]
        marks += [f"{len(listed.outliers) - 3} more outliers"] * (len(listed.outliers) > 3)
        said = f"{outcome_word(listed.success):<10}"
        print(f"{entry.episode_id}  {entry.purpose:<5} {entry.steps:>4} steps  {said} {'; '.join(marks)}".rstrip())
    for problem in listing.problems:
        print(problem)
    for path in listing.unlisted:
        print(f"{path}: not in the list and not used; list it with `inril data add`, or remove it")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from inril_core.data.inspect import describe_run

    with progress(arguments, "reading") as on_progress:
        info = describe_run(arguments.run_dir, on_progress)
    if arguments.json:
        print(json.dumps(info.as_json()))
        return 0
    for name, value in info.as_json().items():
        if value in ({}, [], None):
            continue
        if isinstance(value, dict):
            more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
            value = ", ".join(f"{key} {count}" for key, count in list(value.items())[:SHOWN]) + more
        elif isinstance(value, float):
            value = f"{value:.4g}"
        elif isinstance(value, list):
            value = "\n  ".join(["", *value])
        print(f"{name}: {value}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from inril_core.data.inspect import verify_run

    found = []
    with progress(arguments, "verifying") as on_progress:
        found = list(verify_run(arguments.run_dir, on_progress))
    bad = [verified for verified in found if verified.problems]
    if arguments.json:
        print(json.dumps({"good": len(found) - len(bad), "bad": len(bad), "files": [asdict(v) for v in found]}))
        return 1 if bad else 0
    for verified in bad:
        print(f"{verified.episode_id}: {'; '.join(verified.problems)}")
    print(f"{len(found) - len(bad)} of {len(found)} files are good")
    return 1 if bad else 0


def _replay(arguments: argparse.Namespace) -> int:
    from inril_core.data.manage import open_run_index
    from inril_core.data.select import selected
    from inril_core.tasks.replay import replay

    index, done = open_run_index(arguments.run_dir), []
    with progress(arguments, "replaying") as on_progress:
        for _, episode in selected(index, selection_of(arguments), False, on_progress):
            done.append(replay(episode))
    if not done:
        raise ConfigError(f"{arguments.run_dir}: no episode fits; `inril data list {arguments.run_dir}` shows them")
    far = [one for one in done if arguments.most_m is not None and one.position_m > arguments.most_m]
    if arguments.json:
        print(json.dumps({"episodes": [asdict(one) for one in done], "too_far": [one.episode_id for one in far]}))
        return 1 if far else 0
    for one in done:
        print(
            f"{one.episode_id}: {one.steps} of {one.recorded_steps} steps; tool at most {one.position_m:.2e} m off "
            f"(step {one.position_step}) and {one.rotation_rad:.2e} rad (step {one.rotation_step}); "
            f"{outcome_word(one.success)}, recorded {outcome_word(one.recorded_success)}"
        )
    if far:
        print(f"{len(far)} of {len(done)} are farther off than {arguments.most_m:g} m")
    return 1 if far else 0
