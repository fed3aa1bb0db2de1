"""`python -m inril_bringup.graph_benchmark`: what a control step costs each node, and how punctual it is.

Runs the shipped graphs in lockstep and in real time, without and with the learner, on an idle machine and beside two
busy processes, and writes docs/results/graph.md. In lockstep the learner makes the preset's updates per step; in real
time it has always more to do, and pushes weights each second. In the last scenario the arm is behind the topics of
ros2_control in a process of its own, and two cameras of 640x480 at 30 Hz are recorded beside it. CPU time is read from
/proc, times and ages from the recording: the measurement puts nothing into the graph. A run of a part of the scenarios
(`--scenarios`) replaces only their rows. `--against` runs the nodes of another checkout and of this one in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inril_common.executor import EXECUTORS
from inril_common.sampling import read_samples

from inril_bringup.graph_report import Scenario, ScenarioResult, Ticks, Variant, report, ticks_of
from inril_bringup.graph_runs import PRESET, TIMEOUT_S, Graph, Start, controllers, environment
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.files import check_writable, read_sound_lines, write_atomically
from inril_core.finetune.metrics import METRICS_NAME
from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger

ALONE_S = 20.0
"""Longest time for which the learner is measured with nothing beside it."""
LONGEST_REASON = 120
"""Characters."""
SCENARIOS = (
    Scenario("lockstep"),
    Scenario("lockstep, learner", learner=True),
    Scenario("10 Hz", 10),
    Scenario("10 Hz, learner", 10, learner=True),
    Scenario("10 Hz, 2 busy processes", 10, busy=2),
    Scenario("25 Hz", 25),
    Scenario("50 Hz", 50),
    Scenario("50 Hz, learner", 50, learner=True),
    Scenario("50 Hz, learner, realtime", 50, learner=True, realtime=True),
    Scenario("50 Hz, 2 busy processes", 50, busy=2),
    Scenario("10 Hz, ros2_control, 2 cameras", 10, controllers=True),
)
# The simulated cell can be driven at 10, 25 and 50 Hz: its period is a multiple of five physics steps of 4 ms.
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def updates_per_s_alone(seconds: float) -> float:
    """Updates/s of wall time of the preset's learner with nothing beside it, in a process of its own."""
    command = [sys.executable, "-m", "inril_core.bench.learner_alone", PRESET, "--seconds", str(seconds)]
    return float(subprocess.run(command, check=True, timeout=TIMEOUT_S, capture_output=True, text=True).stdout)


def updates_of(run_dir: Path) -> int:
    """Updates that the learner of a run has reported."""
    values = read_sound_lines(RunPaths(run_dir).learner / METRICS_NAME, dict).values
    return int(values[-1]["updates"]) if values else 0


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Others that use the processors."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait(timeout=10)


def measure(
    graphs: tuple[str, dict[str, object]],
    scenario: Scenario,
    variant: Variant,
    run_dir: Path,
    domain: int,
    seconds: float,
    profile: Path | None,
) -> ScenarioResult:
    """Run a scenario: the first episode and first updates warm up, then it is measured for `seconds`."""
    name, arguments = graphs
    behind = controllers(arguments["contract"], environment(variant, domain)) if scenario.controllers else None
    with busy_processes(scenario.busy), behind or contextlib.nullcontext():
        graph = Graph(name, run_dir, variant, domain, profile, **arguments)
        try:
            graph.until(lambda: graph.steps()[0] >= 1, "first episode")
            if scenario.learner:
                graph.until(lambda: updates_of(run_dir), "first updates")
            begin_s, begin_unix_ns, before, (_, first) = time.monotonic(), time.time_ns(), graph.cpu_s(), graph.steps()
            armed = graph.arm_count
            updates = updates_of(run_dir)
            graph.until(
                lambda: time.monotonic() - begin_s >= seconds and graph.steps()[1] > first, "end", seconds + TIMEOUT_S
            )
            wall_s, end_unix_ns = time.monotonic() - begin_s, time.time_ns()
            after, (_, last) = graph.cpu_s(), graph.steps()
            updates = updates_of(run_dir) - updates
            results = read_ledger(RunPaths(run_dir).session).values  # before the stop cuts the running episode
        finally:
            graph.stop()
    recorded = Ticks()
    if scenario.rate_hz is not None:
        recorded = ticks_of(run_dir, load_contract(str(arguments["contract"])), begin_unix_ns, end_unix_ns)
    steps = last - first if scenario.rate_hz is None else recorded.count
    return ScenarioResult(
        steps=steps,
        steps_per_s=steps / wall_s,
        cpu_ms={n: 1e3 * (after[n] - before[n]) / max(steps, 1) for n in before if n in after},
        late_ticks=sum(result.late_ticks for result in results),
        faulty_episodes=sum(not result.valid for result in results),
        seconds=wall_s,
        updates_per_s=updates / wall_s if scenario.learner else None,
        arm_count=graph.arm_count - armed,
        reasons=dict(Counter(result.reason[:LONGEST_REASON] for result in results if not result.valid)),
        ticks=recorded,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", nargs="+", choices=list(BY_NAME), default=list(BY_NAME), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=1, help="of each comparison (default: %(default)s)")
    parser.add_argument("--against", type=Path, help="another checkout: its nodes in turn with this one's")
    parser.add_argument("--executors", nargs="+", choices=list(EXECUTORS), default=["inril"])
    parser.add_argument("--profile", action="store_true", help="a table of where a tick goes, of the first scenario")
    parser.add_argument("--start", type=Path, help="folder to keep demonstrations and policy in, for the next run")
    parser.add_argument("--out", type=Path, help="Markdown file; its numbers are kept beside it as .json")
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "101")))
    arguments = parser.parse_args()
    kept = None if arguments.out is None else arguments.out.with_suffix(".json")
    if kept is not None:
        try:
            check_writable(kept)
            check_writable(arguments.out)
        except ConfigError as error:
            raise SystemExit(str(error)) from error
    variants = [Variant(f"executor {name}" if name != "inril" else "this", name) for name in arguments.executors]
    if arguments.against is not None:
        variants.insert(0, Variant("before", "inril", str(arguments.against.absolute())))
    with tempfile.TemporaryDirectory(prefix="inril-graph-benchmark-") as temporary:
        folder = Path(temporary)
        wanted = [BY_NAME[name] for name in arguments.scenarios]
        starts: dict[str, Start] = {}
        for scenario in wanted:
            start = starts[scenario.name] = _start(scenario, arguments.start or folder / "start")
            start.make(arguments.domain)
        alone_s = min(arguments.seconds, ALONE_S)
        alone = updates_per_s_alone(alone_s) if any(scenario.learner for scenario in wanted) else 0.0
        found: dict[str, Any] = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
        if alone:
            found["updates_per_s_alone"] = alone
        for name in arguments.scenarios:
            results: dict[str, list[ScenarioResult]] = {variant.name: [] for variant in variants}
            scenario = BY_NAME[name]
            graphs = starts[name].arguments(scenario, alone)
            for repetition in range(arguments.repetitions):
                for variant in variants if repetition % 2 == 0 else variants[::-1]:
                    run_dir = folder / f"{variant.name}-{name}-{repetition}".replace(" ", "_").replace(",", "")
                    result = measure(graphs, scenario, variant, run_dir, arguments.domain, arguments.seconds, None)
                    results[variant.name].append(result)
                    print(f"{name}, {variant.name}: {result.line()}", flush=True)
            for variant in variants:
                key = "scenarios" if variant.name == "this" and len(variants) == 1 else f"compared/{variant.name}"
                found.setdefault(key, {})[name] = [asdict(result) for result in results[variant.name]]
            _keep(found, arguments.out)
        if arguments.profile:
            graphs = starts[wanted[0].name].arguments(wanted[0], alone)
            found["profile"] = _profile(graphs, wanted[0], folder, arguments)
            _keep(found, arguments.out)
        if arguments.out is None:
            print(report(found, SCENARIOS))


def _keep(found: dict[str, Any], out: Path | None) -> None:
    """Write what was found so far: a later scenario that fails takes nothing with it."""
    if out is not None:
        write_atomically(out.with_suffix(".json"), (json.dumps(found, indent=1) + "\n").encode())
        write_atomically(out, report(found, SCENARIOS).encode())


def _start(scenario: Scenario, folder: Path) -> Start:
    rate_hz = scenario.rate_hz or round(load_contract("insert_leg").control_rate_hz)
    cameras = ("front", "wrist") if scenario.controllers else ()
    return Start(folder / "_".join([f"{rate_hz}_hz", *cameras]), rate_hz, cameras)


def _profile(
    graphs: tuple[str, dict[str, object]], scenario: Scenario, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Where a tick of a scenario goes: samples of the nodes' stacks, scaled to their CPU time per tick."""
    samples = folder / "samples"
    samples.mkdir()
    result = measure(
        graphs, scenario, Variant("this"), folder / "profiled", arguments.domain, arguments.seconds, samples
    )
    shares = read_samples(samples)
    return {
        node: {what: share * result.cpu_ms[node] for what, share in of_node.items()}
        for node, of_node in shares.items()
        if node in result.cpu_ms
    } | {"scenario": scenario.name}


if __name__ == "__main__":
    main()
