"""The graphs that `graph_benchmark` measures, and what they start from."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from inril_common.measuring import cpu_s
from inril_common.sampling import PROFILE

from inril_bringup.environment import dds_environment
from inril_bringup.graph_report import Scenario, Variant
from inril_bringup.programs import interrupt
from inril_bringup.shown_camera import chosen_cameras, draw_pictures
from inril_bringup.supervisor import STATUS_FILE
from inril_core.contract import load_contract
from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger

PRESET = "weighted_sum"
DEMOS = 12
"""Demonstrations that the finetune graph starts from."""
TIMEOUT_S = 300.0
POLL_S = 0.1
STILL_S = 30.0
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
    cameras: tuple[str, ...] = ()
    """Whose images are recorded; none: those of the packaged contract, in demonstrations."""

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
            graph = self.folder / "behind_controllers.yaml"
            graph.write_text(yaml.safe_dump(BEHIND_CONTROLLERS))
            cameras = chosen_cameras(draw_pictures(self.folder, self.cameras))
            return str(graph), given | {"arm_at_start": "false", "cameras": cameras}
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
        if self.cameras:
            written["images"] = [{"name": n, "camera": n, "width_px": 84, "height_px": 84} for n in self.cameras]
        self.contract.write_text(yaml.safe_dump(written))


@contextlib.contextmanager
def controllers(contract: object, environment: dict[str, str]) -> Iterator[None]:
    """The simulated arm behind the topics of ros2_control."""
    command = [sys.executable, "-m", "inril_hardware.simulated_controllers", "--ros-args", "-p"]
    process = subprocess.Popen([*command, f"contract:={contract}"], env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        interrupt(process)
