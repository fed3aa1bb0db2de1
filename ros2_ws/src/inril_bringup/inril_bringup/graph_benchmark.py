"""`python -m inril_bringup.graph_benchmark`: what a control step costs each node, in lockstep.

Runs the shipped graphs with each executor in turn and reads the nodes' CPU time from /proc: the measurement puts
nothing into the graph. A step here is a step of an episode in the session's ledger; what happens between episodes is
counted with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inril_common.executor import EXECUTORS
from inril_common.measuring import cpu_s, mean_ratio

from inril_bringup.environment import dds_environment
from inril_bringup.supervisor import STATUS_FILE
from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger

PRESET = "weighted_sum"
GRAPHS = ("collect_demos", "finetune")
DEMOS = 12
"""Demonstrations that the finetune graph starts from."""
NOT_NODES_OF_THE_TICK = ("sim_cell", "learner_node")
"""Left out of the sum: a simulator and a learner cost what they compute."""
TIMEOUT_S = 540.0
POLL_S = 0.02


@dataclass(frozen=True)
class Sample:
    """What one run of a graph cost."""

    steps: int
    steps_per_s: float
    cpu_ms: dict[str, float]
    """Of each node, per control step."""

    @property
    def tick_cpu_ms(self) -> float:
        """Of all nodes but the simulator and the learner, per control step."""
        return sum(ms for node, ms in self.cpu_ms.items() if node not in NOT_NODES_OF_THE_TICK)


class Graph:
    """`inril up` as a child process, stopped at the end."""

    def __init__(self, name: str, run_dir: Path, executor: str, domain: int, **arguments: object) -> None:
        self._run_dir = run_dir
        self._log = run_dir.with_suffix(".log")
        words = [f"{key}:={value}" for key, value in {"run_dir": run_dir, "arm_at_start": "true", **arguments}.items()]
        environment = {
            **os.environ,
            **dds_environment(os.environ),
            "ROS_DOMAIN_ID": str(domain),
            "INRIL_EXECUTOR": executor,
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inril_bringup.cli", "up", name, *words],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def steps(self) -> tuple[int, int]:
        """Finished episodes, and their steps."""
        results = read_ledger(RunPaths(self._run_dir).session).values
        return len(results), sum(result.steps for result in results)

    def cpu_s(self) -> dict[str, float]:
        """CPU time of each node so far."""
        nodes = json.loads((self._run_dir / STATUS_FILE).read_text())["nodes"]
        return {name: cpu_s(node["pid"]) for name, node in nodes.items() if node["pid"] is not None}

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait; the graph must not end meanwhile.

        Raises:
            RuntimeError: it ended, or the time is over; with the end of its log.
        """
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                text = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"no {what}; exit code {self._process.poll()}; the end of {self._log}:\n{text}")
            time.sleep(POLL_S)

    def finish(self) -> None:
        """Wait for the end of its plan."""
        self._process.wait(timeout=TIMEOUT_S)

    def stop(self) -> None:
        """Ctrl-C."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)


def measure(graph: Graph, steps: int) -> Sample:
    """Wait for the first two episodes, then measure over whole episodes until `steps` are done."""
    try:
        graph.until(lambda: graph.steps()[0] >= 2, "second episode")
        begin_s, before, (_, first) = time.monotonic(), graph.cpu_s(), graph.steps()
        graph.until(lambda: graph.steps()[1] - first >= steps, f"{steps} steps")
        end_s, after, (_, last) = time.monotonic(), graph.cpu_s(), graph.steps()
    finally:
        graph.stop()
    done = last - first
    cost = {name: 1e3 * (after[name] - before[name]) / done for name in before if name in after}
    return Sample(done, done / (end_s - begin_s), cost)


def prepare(folder: Path, domain: int) -> dict[str, object]:
    """Demonstrations and a cloned policy: arguments of the finetune graph."""
    demos, weights = folder / "demos", folder / "pretrained.inril"
    graph = Graph("collect_demos", demos, "inril", domain, plan=f"demo:{DEMOS}:episodes")
    try:
        graph.finish()
    finally:
        graph.stop()
    command = [sys.executable, "-m", "inril_bringup.cli", "pretrain", "--demos", str(demos), "--out", str(weights)]
    command += ["--preset", PRESET, "--run-dir", str(folder / "pretrain")]
    subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
    return {"demos": demos, "initial_weights": weights, "preset": PRESET, "plan": "train:100000:steps"}


def table(name: str, executors: Sequence[str], samples: dict[str, list[Sample]]) -> str:
    """CPU time of each node per control step, the mean of the runs of each executor."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    nodes = sorted(set().union(*(sample.cpu_ms for some in samples.values() for sample in some)))
    rows = [(node, *(mean([s.cpu_ms.get(node, 0.0) for s in samples[e]]) for e in executors)) for node in nodes]
    rows.append(("all but cell, learner", *(mean([s.tick_cpu_ms for s in samples[e]]) for e in executors)))
    rows.append(("control steps/s", *(mean([s.steps_per_s for s in samples[e]]) for e in executors)))
    lines = [f"\n{name}, lockstep: CPU [ms] per control step", f"{'':24}" + "".join(f"{e:>10}" for e in executors)]
    lines += [f"{row[0]:24}" + "".join(f"{value:10.2f}" for value in row[1:]) for row in rows]
    if len(executors) == 2:
        pairs = list(zip(*(samples[e] for e in executors), strict=True))
        lines.append(f"{executors[1]} / {executors[0]}, geometric mean [95 % interval]:")
        lines.append(
            f"  CPU per step without cell and learner: {mean_ratio([b.tick_cpu_ms / a.tick_cpu_ms for a, b in pairs])}"
        )
        lines.append(f"  steps/s: {mean_ratio([b.steps_per_s / a.steps_per_s for a, b in pairs])}")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--executors", nargs="+", choices=list(EXECUTORS), default=["rclpy", "inril"])
    parser.add_argument("--steps", type=int, default=500, help="of each measurement (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "101")))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inril-graph-benchmark-") as name:
        folder = Path(name)
        of_graph: dict[str, dict[str, object]] = {"collect_demos": {"plan": "demo:100000:episodes"}}
        if "finetune" in arguments.graphs:
            of_graph["finetune"] = prepare(folder, arguments.domain)
        for graph in arguments.graphs:
            samples: dict[str, list[Sample]] = {executor: [] for executor in arguments.executors}
            for repetition in range(arguments.repetitions):
                order = arguments.executors if repetition % 2 == 0 else arguments.executors[::-1]
                for executor in order:
                    run_dir = folder / f"{graph}-{executor}-{repetition}"
                    running = Graph(graph, run_dir, executor, arguments.domain, **of_graph[graph])
                    sample = measure(running, arguments.steps)
                    samples[executor].append(sample)
                    print(
                        f"{graph} {repetition} {executor}: {sample.steps} steps, {sample.steps_per_s:.1f} steps/s, "
                        f"{sample.tick_cpu_ms:.2f} ms CPU per step without cell and learner",
                        flush=True,
                    )
            print(table(graph, arguments.executors, samples), flush=True)


if __name__ == "__main__":
    main()
