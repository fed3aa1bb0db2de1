"""Trials of a gate's candidate and reference in a process of their own: ``python -m ... FOLDER < pipe``.

The process ends with its parent: whoever starts it holds the other end of its standard input, which closes however the
parent dies. One JSON line on standard output says which weights were loaded, then one each pair of trials.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from inril_core.errors import InrilError
from inril_core.files import read_lines
from inril_core.finetune.local import succeeds
from inril_core.finetune.shadow import CANDIDATE_NAME, REFERENCE_NAME, REQUEST_NAME, Loaded, Pair, Request
from inril_core.networks.compute import use_one_thread
from inril_core.policies import load_policy
from inril_core.policies.files import policy_sha256
from inril_core.tasks import make_task

NICE = 10


def run_trials(folder: Path, out: TextIO) -> None:
    """Run what the folder's request asks for.

    Raises:
        ConfigError: request, task or weights cannot be read.
    """
    request = read_lines(folder / REQUEST_NAME, Request)[0]
    candidate, reference = (load_policy(folder / name)[0].eval() for name in (CANDIDATE_NAME, REFERENCE_NAME))
    task = make_task(request.task)
    try:
        _say(out, Loaded(policy_sha256(candidate), policy_sha256(reference)))
        for seed in range(request.first_seed, request.first_seed + request.trials):
            _say(out, Pair(seed, succeeds(task, candidate, seed), succeeds(task, reference, seed)))
    finally:
        task.close()


def _say(out: TextIO, fact: Loaded | Pair) -> None:
    out.write(json.dumps(asdict(fact)) + "\n")
    out.flush()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not the buffered stdin, whose lock would be missed when the interpreter ends
    os._exit(1)


def main() -> int:
    """Entry point; returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a simulator prints is no outcome
    sys.stdout = sys.stderr  # unbuffered: an error that ends it comes last
    os.nice(NICE)
    use_one_thread()
    try:
        run_trials(Path(sys.argv[1]), out)
    except InrilError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
