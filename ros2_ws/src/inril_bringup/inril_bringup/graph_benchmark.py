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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from inril_common.executor import EXECUTORS
from inril_common.measuring import cpu_s
from inril_common.sampling import PROFILE, read_samples

from inril_bringup.environment import dds_environment
from inril_bringup.graph_report import Scenario, ScenarioResult, Ticks, Variant, report, ticks_of
from inril_bringup.programs import interrupt
from inril_bringup.shown_camera import chosen_cameras, draw_pictures
from inril_bringup.supervisor import STATUS_FILE
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.files import check_writable, read_sound_lines, write_atomically
from inril_core.finetune.metrics import METRICS_NAME
from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger

PRESET = "weighted_sum"
DEMOS = 12
"""Demonstrations that the finetune graph starts from."""
TIMEOUT_S = 300.0
ALONE_S = 20.0
"""Longest time for which the learner is measured with nothing beside it."""
POLL_S = 0.1
STILL_S = 30.0
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
BEHIND_CONTROLLERS = {
    "description": "The policy drives an arm behind the topics of ros2_control; two cameras are recorded.",
    "nodes": ["robot_node", "camera_node", "safety_monitor", "observation_node", "policy_node", "arbiter_node"]
    + ["recorder_node", "store_node", "session_node", "lifecycle_manager"],
    "defaults": {
        "arm": "ros2_control",
        "arm_settings": "{mode_topic: robot_mode, recovery: error_recovery, connect_s: 60.0}",
        "without_teleop_check": "teleop_check_ros2_control_insert_leg",  # a simulated arm
        "full_rate": True,
    },
    "parameters": {
        "observation_node": {"expected_subscribers": "observation:3,episode_outcome:1"},
        "policy_node": {"expected_subscribers": "policy_action:1"},
        "arbiter_node": {"expects_teleop": False, "expects_device": False},
        "session_node": {"expects_learner": False},
    },
}


def environment(variant: Variant, domain: int) -> dict[str, str]:
    """Of processes in a DDS domain."""
    return {**os.environ, **dds_environment(os.environ), **variant.environment(), "ROS_DOMAIN_ID": str(domain)}


class Graph:
    """`inril up` as a child process, stopped at the end."""

    def __init__(
        self, name: str, run_dir: Path, variant: Variant, domain: int, profile: Path | None = None, **arguments: object
    ) -> None:
        self.run_dir = run_dir
        self.arm_count = 0
        """How often it was armed because it stood still, at first too where nothing arms it at the start."""
        self._log = run_dir.with_suffix(".log")
        words = [f"{key}:={value}" for key, value in {"run_dir": run_dir, "arm_at_start": "true", **arguments}.items()]
        self._environment = environment(variant, domain) | ({} if profile is None else {PROFILE: str(profile)})
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inril_bringup.cli", "up", name, *words],
                env=self._environment,
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

    def until(self, condition: Callable[[], Any], what: str, longest_s: float = TIMEOUT_S) -> None:
        """Wait; the graph must not end meanwhile. Where it does nothing for `STILL_S`, arm as its operator would.

        Raises:
            RuntimeError: it ended, or the time is over; with the end of its log.
        """
        deadline_s = time.monotonic() + longest_s
        episodes, still_since_s = self.steps()[0], time.monotonic()
        while not condition():
            if (now := self.steps()[0]) != episodes:
                episodes, still_since_s = now, time.monotonic()
            elif time.monotonic() - still_since_s > STILL_S:
                self._arm()
                still_since_s = time.monotonic()
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                text = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"no {what}; exit code {self._process.poll()}; the end of {self._log}:\n{text}")
            time.sleep(POLL_S)

    def _arm(self) -> None:
        command = [sys.executable, "-m", "inril_bringup.cli", "arm"]
        subprocess.run(command, env=self._environment, capture_output=True, timeout=TIMEOUT_S, check=False)
        self.arm_count += 1

    def finish(self) -> None:
        """Wait for the end of its plan."""
        self._process.wait(timeout=TIMEOUT_S)

    def stop(self) -> None:
        """Ctrl-C."""
        interrupt(self._process)


@dataclass(frozen=True)
class Start:
    """What the graphs of one control rate start from, in a folder that later runs use again."""

    folder: Path
    rate_hz: int

    @property
    def contract(self) -> Path:
        """The packaged contract at this rate."""
        return self.folder / "contract.yaml"

    @property
    def demos(self) -> Path:
        """Demonstrations of the scripted expert."""
        return self.folder / "demos"

    @property
    def weights(self) -> Path:
        """A policy cloned from them."""
        return self.folder / "pretrained.inril"

    def arguments(self, scenario: Scenario, updates_per_s: float) -> tuple[str, dict[str, object]]:
        """The graph of a scenario and its arguments. updates_per_s: what the learner does when it is alone."""
        given: dict[str, object] = {"contract": self.contract, "initial_weights": self.weights}
        if scenario.learner:
            given |= {"demos": self.demos, "preset": self._preset(scenario, updates_per_s)}
        given |= {"plan": "train:1000000:steps", "realtime": str(scenario.realtime).lower()}
        if scenario.controllers:
            pictures = draw_pictures(self.folder, ("front", "wrist"))
            given |= {"contract": self._contract_with(pictures), "cameras": chosen_cameras(pictures)}
            graph = self.folder / "behind_controllers.yaml"
            graph.write_text(yaml.safe_dump(BEHIND_CONTROLLERS))
            return str(graph), given | {"arm_at_start": "false"}
        given["real_time_factor"] = 0.0 if scenario.rate_hz is None else 1.0
        return ("finetune" if scenario.learner else "deploy"), given

    def _preset(self, scenario: Scenario, updates_per_s: float) -> Path:
        """The preset without its warm-ups; in real time it has more updates due than it can make."""
        path = self.folder / f"{scenario.name.replace(' ', '_').replace(',', '')}.yaml"
        schedule: dict[str, object] = {"warmup_steps": 100, "critic_warmup_updates": 0, "rewards_before_actor": 0}
        schedule["budget_steps"] = 10_000_000
        given: dict[str, object] = {"base": PRESET, "name": path.stem, "schedule": schedule}
        if scenario.rate_hz is not None:
            schedule["utd"] = 100.0
            given["push_every_updates"] = max(1, round(updates_per_s))
        path.write_text(yaml.safe_dump(given))
        return path

    def _contract_with(self, cameras: Iterable[str]) -> Path:
        """The contract with the images of cameras, in every episode."""
        path = self.folder / "with_cameras.yaml"
        written = yaml.safe_load(self.contract.read_text())
        written["images"] = [{"name": name, "camera": name, "width_px": 84, "height_px": 84} for name in cameras]
        path.write_text(yaml.safe_dump(written))
        return path

    def make(self, domain: int) -> None:
        """Write what is missing."""
        if self.weights.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_contract()
        plan = f"demo:{DEMOS}:episodes"  # a run that was cut goes on
        graph = Graph("collect_demos", self.demos, Variant("this"), domain, plan=plan, contract=self.contract)
        try:
            graph.finish()
        finally:
            graph.stop()
        command = [sys.executable, "-m", "inril_bringup.cli", "pretrain", "--contract", str(self.contract)]
        command += ["--demos", str(self.demos), "--out", str(self.weights), "--preset", PRESET]
        command += ["--run-dir", str(self.folder / "pretrain")]
        subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)

    def _write_contract(self) -> None:
        """Steps are scaled so that the arm is as fast at any rate."""
        packaged = load_contract("insert_leg")
        written = yaml.safe_load(packaged.text)
        slower = packaged.control_rate_hz / self.rate_hz
        written["control_rate_hz"] = float(self.rate_hz)
        written["episode_length_steps"] = round(packaged.episode_length_steps / slower)
        for name in ("translation_scale_m", "rotation_scale_rad"):
            written["action"][name] *= slower
        for name in ("max_translation_step_m", "max_rotation_step_rad"):
            written["limits"][name] *= slower
        self.contract.write_text(yaml.safe_dump(written))


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


@contextlib.contextmanager
def controllers(contract: object, environment: dict[str, str]) -> Iterator[None]:
    """The simulated arm behind the topics of ros2_control."""
    command = [sys.executable, "-m", "inril_hardware.simulated_controllers", "--ros-args", "-p"]
    process = subprocess.Popen([*command, f"contract:={contract}"], env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        interrupt(process)


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
        recorded = ticks_of(run_dir, begin_unix_ns, end_unix_ns, scenario.rate_hz)
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
        starts: dict[int, Start] = {}
        for rate_hz in sorted({_rate_hz(scenario) for scenario in wanted}):
            starts[rate_hz] = Start((arguments.start or folder / "start") / f"{rate_hz}_hz", rate_hz)
            starts[rate_hz].make(arguments.domain)
        alone_s = min(arguments.seconds, ALONE_S)
        alone = updates_per_s_alone(alone_s) if any(scenario.learner for scenario in wanted) else 0.0
        found: dict[str, Any] = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
        for name in arguments.scenarios:
            results: dict[str, list[ScenarioResult]] = {variant.name: [] for variant in variants}
            scenario = BY_NAME[name]
            graphs = starts[_rate_hz(scenario)].arguments(scenario, alone)
            for repetition in range(arguments.repetitions):
                for variant in variants if repetition % 2 == 0 else variants[::-1]:
                    run_dir = folder / f"{variant.name}-{name}-{repetition}".replace(" ", "_").replace(",", "")
                    result = measure(graphs, scenario, variant, run_dir, arguments.domain, arguments.seconds, None)
                    results[variant.name].append(result)
                    print(f"{name}, {variant.name}: {result.line()}", flush=True)
            for variant in variants:
                key = "scenarios" if variant.name == "this" and len(variants) == 1 else f"compared/{variant.name}"
                found.setdefault(key, {})[name] = [asdict(result) for result in results[variant.name]]
        if alone:
            found["updates_per_s_alone"] = alone
        if arguments.profile:
            graphs = starts[_rate_hz(wanted[0])].arguments(wanted[0], alone)
            found["profile"] = _profile(graphs, wanted[0], folder, arguments)
        text = report(found, SCENARIOS)
        if kept is None:
            print(text)
        else:
            write_atomically(kept, (json.dumps(found, indent=1) + "\n").encode())
            write_atomically(arguments.out, text.encode())


def _rate_hz(scenario: Scenario) -> int:
    return scenario.rate_hz or round(load_contract("insert_leg").control_rate_hz)


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
