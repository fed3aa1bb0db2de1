"""What a person says of episodes: how the running one ends, pause and resume, and labels, also long after."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from inril_core.vocabulary import COMMANDS, LABELS

WORDS = {
    "success": "end the running episode as a success",
    "failure": "end the running episode as a failure",
    "discard": "end the running episode; it does not count and is done again from the same start",
    "redo": "the running episode, or between episodes the last one that counted, does not count and is done again",
    "pause": "no further episode begins, no end of the session; a running one goes on, a reset is cancelled",
    "resume": "go on after a pause",
    "ready": "the cell is laid out (reset:=by_hand)",
}

# Modules that import ROS are imported where they are used: `inril --help` must not wait for them.


def add(commands: argparse._SubParsersAction, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `inril episode` and `inril label`."""
    say = add_command(
        commands, "episode", episode, "end, discard or repeat an episode, pause the session, confirm a reset",
        "success", "failure --tag dropped", "pause",
    )  # fmt: skip
    what = "; ".join(f"{word}: {meaning}" for word, meaning in WORDS.items())
    say.add_argument("word", choices=list(WORDS), metavar="WORD", help=what)
    say.add_argument("--episode-id", default="", help="refuse if it is another episode (default: any)")
    tag = "why a trial of an evaluation failed, one of the plan's failure tags"
    say.add_argument("--tag", default="", help=f"with failure: {tag}")
    mark = add_command(
        commands, "label", label, "label an ended episode, also after its graph has stopped",
        "mine-0-train-00012-a1b2c3 failure", "runs/demos demos-0-demo-00003-a1b2c3 success",
    )  # fmt: skip
    mark.add_argument("run_dir", type=Path, nargs="?", help="folder of the run; needed when its graph is not up")
    mark.add_argument("episode_id", help="from `inril status` or the name of its file")
    mark.add_argument("label", choices=list(LABELS))
    mark.add_argument("--tag", default="", help=f"{tag}; while its graph is up")


def episode(arguments: argparse.Namespace) -> int:
    """Tell the running session."""
    from inril_msgs.srv import SessionCommand

    from inril_bringup import operate

    with operate.meant(arguments.namespace) as person:
        request = SessionCommand.Request(
            graph_id=person.graph_id(),
            command=COMMANDS[arguments.word],
            episode_id=arguments.episode_id,
            by=operate.person_name(),
            tag=arguments.tag,
        )
        print(person.call(SessionCommand, "session/command", request).message)
    return 0


def label(arguments: argparse.Namespace) -> int:
    """Label through the session where the run's graph is up, otherwise on disk."""
    from inril_bringup import operate
    from inril_core.session.offline import GraphIsUp, label_offline

    by = operate.person_name()
    if arguments.run_dir is not None:
        try:
            print(
                label_offline(
                    arguments.run_dir,
                    arguments.episode_id,
                    LABELS[arguments.label].success,
                    by,
                    time.time_ns(),
                    arguments.tag,
                )
            )
            return 0
        except GraphIsUp:
            pass
    from inril_msgs.srv import LabelEpisode

    with operate.meant(arguments.namespace) as person:
        code = LABELS[arguments.label]
        request = LabelEpisode.Request(
            graph_id=person.graph_id(), episode_id=arguments.episode_id, label=code, by=by, tag=arguments.tag
        )
        answer = person.call(LabelEpisode, "session/label_episode", request)
    print(
        answer.message
        or f"{arguments.episode_id} is labelled {arguments.label}{arguments.tag and f', {arguments.tag}'}"
    )
    return 0
