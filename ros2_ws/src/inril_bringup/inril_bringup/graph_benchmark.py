"""`python -m inril_bringup.graph_benchmark`: what a control step costs each node, and how punctual it is.

Runs the shipped graphs in lockstep and in real time, without and with the learner, on an idle machine and beside two
busy processes, and writes docs/results/graph.md. CPU time is read from /proc, times and ages from the recording: the
measurement puts nothing into the graph. A run of a part of the scenarios (`--scenarios`) replaces only their rows.
`--against` runs the nodes of another checkout and of this one in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from inril_common.executor import EXECUTORS
from inril_common.measuring import cpu_s
from inril_common.sampling import PROFILE, read_samples

from inril_bringup.environment import dds_environment
from inril_bringup.graph_report import Scenario, ScenarioResult, Ticks, Variant, report, ticks_of
from inril_bringup.supervisor import STATUS_FILE
from inril_core.contract import load_contract
from inril_core.policies import load_policy, save_policy
from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger

PRESET = "weighted_sum"
DEMOS = 12
"""Demonstrations that the finetune graph starts from."""
TIMEOUT_S = 300.0
POLL_S = 0.02
SCENARIOS = (
    Scenario("lockstep"),
    Scenario("lockstep, learner", learner=True),
    Scenario("10 Hz", 10),
    Scenario("10 Hz, learner", 10, learner=True),
    Scenario("10 Hz, 2 busy processes", 10, busy=2),
    Scenario("20 Hz", 20),
    Scenario("50 Hz", 50),
    Scenario("50 Hz, 2 busy processes", 50, busy=2),
    Scenario("100 Hz", 100),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


class Graph:
    """`inril up` as a child process, stopped at the end."""

    def __init__(
        self, name: str, run_dir: Path, variant: Variant, domain: int, profile: Path | None = None, **arguments: object
    ) -> None:
        self.run_dir = run_dir
        self._log = run_dir.with_suffix(".log")
        words = [f"{key}:={value}" for key, value in {"run_dir": run_dir, "arm_at_start": "true", **arguments}.items()]
        environment = {
            **os.environ,
            **dds_environment(os.environ),
            **variant.environment(),
            "ROS_DOMAIN_ID": str(domain),
            **({} if profile is None else {PROFILE: str(profile)}),
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inril_bringup.cli", "up", name, *words],
                env=environment,
                cwd=variant.checkout,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def steps(self) -> tuple[int, int]:
        """Finished episodes, and their steps."""
        results = read_ledger(RunPaths(self.run_dir).session).values
        return len(results), sum(result.steps for result in results)

    def cpu_s(self) -> dict[str, float]:
        """CPU time of each node so far."""
        nodes = json.loads((self.run_dir / STATUS_FILE).read_text())["nodes"]
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


@dataclass(frozen=True)
class Start:
    """What the graphs start from."""

    folder: Path
    demos: Path
    weights: Path

    def arguments(self, scenario: Scenario) -> tuple[str, dict[str, object]]:
        """The graph of a scenario and its arguments."""
        if scenario.learner:
            given: dict[str, object] = {"demos": self.demos, "initial_weights": self.weights, "preset": PRESET}
        else:
            given = {"initial_weights": self.weights}
            if scenario.rate_hz not in (None, 10):
                given = self._at_rate(scenario.rate_hz or 0)
        given |= {"plan": "train:1000000:steps", "real_time_factor": 0.0 if scenario.rate_hz is None else 1.0}
        return ("finetune" if scenario.learner else "deploy"), given

    def _at_rate(self, rate_hz: int) -> dict[str, object]:
        """The packaged contract at another rate, steps scaled so that the arm is as fast; the policy says so."""
        path, weights = self.folder / f"at_{rate_hz}_hz.yaml", self.folder / f"at_{rate_hz}_hz.inril"
        packaged = load_contract("insert_leg")
        written = yaml.safe_load(packaged.text)
        slower = packaged.control_rate_hz / rate_hz
        written["control_rate_hz"] = float(rate_hz)
        written["episode_length_steps"] = round(packaged.episode_length_steps / slower)
        for name in ("translation_scale_m", "rotation_scale_rad"):
            written["action"][name] *= slower
        for name in ("max_translation_step_m", "max_rotation_step_rad"):
            written["limits"][name] *= slower
        path.write_text(yaml.safe_dump(written))
        contract = load_contract(path)
        policy, facts = load_policy(self.weights)
        own = {"interface_digest": contract.interface_digest, "contract_text": contract.text}
        save_policy(weights, policy, {**facts, **own})
        return {"contract": path, "initial_weights": weights}


def prepare(folder: Path, domain: int) -> Start:
    """Demonstrations and a cloned policy."""
    demos, weights = folder / "demos", folder / "pretrained.inril"
    graph = Graph("collect_demos", demos, Variant("this"), domain, plan=f"demo:{DEMOS}:episodes")
    try:
        graph.finish()
    finally:
        graph.stop()
    command = [sys.executable, "-m", "inril_bringup.cli", "pretrain", "--demos", str(demos), "--out", str(weights)]
    command += ["--preset", PRESET, "--run-dir", str(folder / "pretrain")]
    subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
    return Start(folder, demos, weights)


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
    start: Start, scenario: Scenario, variant: Variant, run_dir: Path, domain: int, seconds: float, profile: Path | None
) -> ScenarioResult:
    """Run a scenario: the first episode warms up, then it is measured for `seconds`."""
    name, arguments = start.arguments(scenario)
    with busy_processes(scenario.busy):
        graph = Graph(name, run_dir, variant, domain, profile, **arguments)
        try:
            graph.until(lambda: graph.steps()[0] >= 1, "first episode")
            begin_s, begin_unix_ns, before, (_, first) = time.monotonic(), time.time_ns(), graph.cpu_s(), graph.steps()
            graph.until(lambda: time.monotonic() - begin_s >= seconds and graph.steps()[1] > first, "end")
            wall_s, end_unix_ns = time.monotonic() - begin_s, time.time_ns()
            after, (_, last) = graph.cpu_s(), graph.steps()
        finally:
            graph.stop()
    recorded = Ticks() if scenario.rate_hz is None else ticks_of(run_dir, begin_unix_ns, end_unix_ns)
    steps = last - first if scenario.rate_hz is None else recorded.count
    results = read_ledger(RunPaths(run_dir).session).values
    return ScenarioResult(
        steps=steps,
        steps_per_s=steps / wall_s,
        cpu_ms={n: 1e3 * (after[n] - before[n]) / max(steps, 1) for n in before if n in after},
        late_ticks=sum(result.late_ticks for result in results),
        faulty_episodes=sum(not result.valid for result in results),
        seconds=wall_s,
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
    variants = [Variant(f"executor {name}" if name != "inril" else "this", name) for name in arguments.executors]
    if arguments.against is not None:
        variants.insert(0, Variant("before", "inril", str(arguments.against.absolute())))
    with tempfile.TemporaryDirectory(prefix="inril-graph-benchmark-") as temporary:
        folder = Path(temporary)
        start = _start(arguments.start or folder / "start", arguments.domain)
        kept = Path() if arguments.out is None else arguments.out.with_suffix(".json")
        found: dict[str, Any] = json.loads(kept.read_text()) if arguments.out is not None and kept.exists() else {}
        for name in arguments.scenarios:
            results: dict[str, list[ScenarioResult]] = {variant.name: [] for variant in variants}
            for repetition in range(arguments.repetitions):
                for variant in variants if repetition % 2 == 0 else variants[::-1]:
                    run_dir = folder / f"{variant.name}-{name}-{repetition}".replace(" ", "_").replace(",", "")
                    result = measure(start, BY_NAME[name], variant, run_dir, arguments.domain, arguments.seconds, None)
                    results[variant.name].append(result)
                    print(f"{name}, {variant.name}: {result.line()}", flush=True)
            for variant in variants:
                key = "scenarios" if variant.name == "this" and len(variants) == 1 else f"compared/{variant.name}"
                found.setdefault(key, {})[name] = [asdict(result) for result in results[variant.name]]
        if arguments.profile:
            found["profile"] = _profile(start, BY_NAME[arguments.scenarios[0]], folder, arguments)
        text = report(found, SCENARIOS)
        if arguments.out is None:
            print(text)
        else:
            kept.write_text(json.dumps(found, indent=1) + "\n")
            arguments.out.write_text(text)


def _start(folder: Path, domain: int) -> Start:
    if (folder / "pretrained.inril").exists():
        return Start(folder, folder / "demos", folder / "pretrained.inril")
    folder.mkdir(parents=True, exist_ok=True)
    return prepare(folder, domain)


def _profile(start: Start, scenario: Scenario, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Where a tick of a scenario goes: samples of the nodes' stacks, scaled to their CPU time per tick."""
    samples = folder / "samples"
    samples.mkdir()
    result = measure(
        start, scenario, Variant("this"), folder / "profiled", arguments.domain, arguments.seconds, samples
    )
    shares = read_samples(samples)
    return {
        node: {what: share * result.cpu_ms[node] for what, share in of_node.items()}
        for node, of_node in shares.items()
        if node in result.cpu_ms
    } | {"scenario": scenario.name}


if __name__ == "__main__":
    main()
