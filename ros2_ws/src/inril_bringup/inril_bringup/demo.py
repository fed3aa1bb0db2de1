"""The whole of it on the simulated arm: demonstrate, pre-train, evaluate, fine-tune, evaluate, report."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import yaml

from inril_bringup.programs import die_with_parent
from inril_core.data.manage import open_index
from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.run import RunPaths, open_run
from inril_core.session.ledger import Ledger
from inril_core.session.offline import mark_offline
from inril_core.session.plan import parse_plan
from inril_core.session.states import ExitCode
from inril_core.vocabulary import Mark

CONTRACTS = {"state": "insert_leg", "pixels": "insert_leg_pixels"}
"""What the policy is given: poses, as a tracker says them, or two pictures."""
DEMOS = {"state": 12, "pixels": 60}
LOOK_AROUND_STEPS = 60
"""At the start of each demonstration from pixels."""
PIXELS_ENCODER_UPDATES = 4000
"""At most; minutes on one core."""


def run(arguments: argparse.Namespace) -> int:
    """Run all parts in order; the last line printed is one JSON object. Returns the exit code."""
    began_s = time.monotonic()
    run_dir = (arguments.run_dir or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")).absolute()
    demos_dir = run_dir / "demos"
    opened = open_run(run_dir)
    _same_settings(run_dir, arguments)
    print(f"inril demo: everything of this run is in {_short(run_dir)}", flush=True)

    from inril_core.finetune.config import load_config

    contract = CONTRACTS[arguments.obs]
    preset = arguments.preset if arguments.obs == "state" else str(_for_pixels(run_dir, arguments.preset))
    config = load_config(preset)
    steps = config.schedule.budget_steps if arguments.steps is None else arguments.steps
    common = {"contract": contract, "seed": arguments.seed, "arm_at_start": "true", "unattended": "true"}
    if arguments.part_noise:
        common["part_noise"] = arguments.part_noise
    lockstep = f"eval:{arguments.eval_episodes}:episodes,train:{steps}:steps,eval:{arguments.eval_episodes}:episodes"
    real_time = f"{lockstep},train:{arguments.real_time_seconds}:seconds"
    initial = run_dir / "pretrained.inril"
    tuned = {
        **common,
        "run_dir": run_dir,
        "demos": demos_dir,
        "initial_weights": initial,
        "preset": preset,
    }

    took_s: dict[str, float] = {}
    demos = DEMOS[arguments.obs] if arguments.demos is None else arguments.demos
    shown = {**common, "run_dir": demos_dir, "plan": f"demo:{demos}:episodes"}
    if arguments.obs == "pixels":
        shown["device_settings"] = f"{{look_around_steps: {LOOK_AROUND_STEPS}}}"
    with _stage(1, f"the scripted human shows the task {demos} times", took_s, "demonstrations"):
        _graph("collect_demos", shown)
        if arguments.obs == "pixels":
            _mark_looking_around(demos_dir)
    with _stage(2, "behaviour cloning from the recordings", took_s, "cloning"):
        if not initial.exists():
            _inril(
                "pretrain",
                *("--demos", str(demos_dir), "--out", str(initial), "--preset", preset),
                *("--run-dir", str(run_dir), "--seed", str(arguments.seed), "--contract", contract),
            )
    with _stage(3, "evaluation, fine-tuning and evaluation in lockstep", took_s, "lockstep"):
        _graph("finetune", {**tuned, "plan": lockstep, "real_time_factor": 0.0})
    code = 0
    if arguments.real_time_seconds > 0:
        with _stage(4, f"{arguments.real_time_seconds} s in real time, learning goes on", took_s, "real_time"):
            code = _graph("finetune", {**tuned, "plan": real_time, "real_time_factor": 1.0}, may_be_cut=True)
    with _stage(5, "report", took_s, "report"):
        from inril_core.evaluation.report import summary, write_report

        report = write_report(opened.paths.root)
        result = summary(opened.paths.root)
    result["wall_s"] = round(time.monotonic() - began_s, 1)
    result["stages_s"] = took_s
    result["report"] = _short(report)
    if code:
        print(
            f"inril demo: the {arguments.real_time_seconds} s in real time were cut by a fault (above): this machine "
            "does not keep the control rate beside its other work; everything before it is in the report. "
            f"To measure again: inril demo --run-dir {_short(run_dir)}",
            file=sys.stderr,
            flush=True,
        )
    print(f"open {_short(report)}", flush=True)
    print(json.dumps(result), flush=True)
    return code


def _same_settings(run_dir: Path, arguments: argparse.Namespace) -> None:
    """A run that goes on must go on as it was begun."""
    path = run_dir / "demo.json"
    settings = {
        k: getattr(arguments, k) for k in ("preset", "demos", "steps", "eval_episodes", "seed", "obs", "part_noise")
    }
    if not path.exists():
        write_atomically(path, json.dumps(settings).encode() + b"\n")
        return
    before = json.loads(path.read_text())
    changed = [f"{k}: {before.get(k)!r} != {v!r}" for k, v in settings.items() if before.get(k) != v]
    if changed:
        raise ConfigError(
            f"{run_dir} was begun with other settings ({', '.join(changed)}); give the same or a new --run-dir"
        )


def _mark_looking_around(demos_dir: Path) -> None:
    """The steps in which the scripted human looked around are there for the encoder, not to be imitated."""
    index = open_index(RunPaths(demos_dir).episodes)
    for entry in index.entries:
        if not index.said(entry).stretches:
            last = min(LOOK_AROUND_STEPS, entry.steps) - 1
            mark_offline(demos_dir, entry.episode_id, (0, last), "inril demo", time.time_ns(), Mark.FAILURE)


def _for_pixels(run_dir: Path, preset: str) -> Path:
    """The preset with encoders that are fitted on their own before cloning, and fixed."""
    from inril_core.finetune.config import load_config

    config = load_config(preset)
    seeing: dict[str, Any] = {"encoder": {"trained_by": "key_poses"}}
    parts = {"base": seeing} if hasattr(config.policy, "base") else {}
    changed = {
        "base": str(Path(preset).absolute()) if preset.endswith((".yaml", ".yml")) else preset,
        "name": f"{config.name}_pixels",
        "policy": {**seeing, **parts},
        "pretrain": {"encoder": {"updates": min(config.pretrain.encoder.updates, PIXELS_ENCODER_UPDATES)}},
    }
    path = run_dir / "pixels.yaml"
    write_atomically(path, yaml.safe_dump(changed, sort_keys=False).encode())
    return path


def _graph(name: str, values: dict[str, object], may_be_cut: bool = False) -> int:
    """Run a graph to the end of its plan; nothing is started where an interrupted run has been there already.

    Returns:
        0, or, if it `may_be_cut`, the code that says that only a person could have gone on.
    """
    plan = parse_plan(str(values["plan"]))
    ledger = Ledger(open_run(str(values["run_dir"])).paths.session)
    if all(ledger.progress(index).done(segment) for index, segment in enumerate(plan)):
        print("done already", flush=True)
        return 0
    words = (f"{key}:={value}" for key, value in values.items())
    return _inril("up", name, *words, allowed=(0, ExitCode.NOBODY_CAME) if may_be_cut else (0,))


def _inril(*words: str, allowed: Sequence[int] = (0,)) -> int:
    """Run an `inril` command in a process of its own, which has loaded what we have; its output is ours.

    Raises:
        ConfigError: its exit code is not one of those allowed.
    """
    from inril_bringup.cli import main

    code = _run_child(partial(main, words))
    if code not in allowed:
        raise ConfigError(f"`inril {' '.join(words[:2])}` ended with {code}; its last lines above say why")
    return code


def _run_child(command: Callable[[], object]) -> int:
    """Run a command to its end in a fork of this process. Whatever ends us ends it in order: Ctrl-C, SIGTERM, a closed
    terminal, kill -9. Nothing may have been computed here before that leaves threads behind.
    """
    told: list[int] = []
    child: multiprocessing.process.BaseProcess | None = None

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        if child is not None:
            child.terminate()

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = [signal.signal(number, pass_on) for number in numbers]
    prepare = die_with_parent(number=signal.SIGTERM)

    def in_child() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        prepare()
        os.environ["PYTHONUNBUFFERED"] = "1"
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(line_buffering=True)
        command()

    sys.stdout.flush()
    try:
        started = multiprocessing.get_context("fork").Process(target=in_child)
        started.start()
        child = started
        if told:  # between the two lines above
            child.terminate()
        child.join()
    except KeyboardInterrupt:
        # The terminal has sent Ctrl-C to the child as well: it is stopping in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if child is not None:
            child.join()
        raise
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if told:
        raise KeyboardInterrupt
    assert child.exitcode is not None
    return child.exitcode


@contextlib.contextmanager
def _stage(number: int, text: str, took_s: dict[str, float], name: str) -> Iterator[None]:
    """Say which part begins, and note how long it took."""
    print(f"\n[{number}/5] {text}", flush=True)
    began_s = time.monotonic()
    yield
    took_s[name] = round(time.monotonic() - began_s, 1)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
