"""What `graph_benchmark` found, as Markdown."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from inril_common.convert import stamp_to_ns
from inril_common.decoding import decoder
from inril_common.measuring import mean_ratio
from inril_msgs.msg import Observation
from mcap.reader import make_reader

from inril_core.contract import Contract
from inril_core.data.schemas import OBSERVATION
from inril_core.run import RunPaths

NOT_NODES_OF_THE_TICK = ("sim_cell", "learner_node")
"""Left out of the sum: a simulator and a learner cost what they compute."""
PERCENTILES = (50.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True)
class Scenario:
    """A graph and what runs beside it."""

    name: str
    rate_hz: int | None = None
    """Control rate; None: lockstep."""
    learner: bool = False
    """The learner trains and pushes weights."""
    busy: int = 0
    """Other processes that use a processor each."""
    realtime: bool = False
    """Nodes of the tick run before ordinary processes (`realtime:=true`)."""
    controllers: bool = False
    """The arm is behind ros2_control's topics in another process, and two cameras see it."""


@dataclass(frozen=True)
class Variant:
    """Whose nodes run."""

    name: str
    executor: str = "inril"
    checkout: str | None = None
    """Whose Python code runs; None: this one's. The messages are this one's always."""

    def environment(self) -> dict[str, str]:
        """Of its processes, besides what they have anyway."""
        chosen = {"INRIL_EXECUTOR": self.executor}
        if self.checkout is not None:
            packages = sorted(path.parent for path in Path(self.checkout).glob("ros2_ws/src/*/setup.py"))
            chosen["PYTHONPATH"] = os.pathsep.join(map(str, [self.checkout, *packages]))
        return chosen


@dataclass(frozen=True)
class Ticks:
    """Of the Observations in a recording, in real time."""

    count: int = 0
    period_ms: list[float] = field(default_factory=list)
    """Time between two ticks of an episode: `PERCENTILES`."""
    error_ms: list[float] = field(default_factory=list)
    """How far that time is from the contract's: `PERCENTILES`."""
    late_5_ms: int = 0
    """Ticks that came more than 5 ms after their period was over."""
    age_ms: dict[str, list[float]] = field(default_factory=dict)
    """Of each link at the tick: median and largest."""


@dataclass(frozen=True)
class ScenarioResult:
    """What one run of a scenario gave."""

    steps: int
    steps_per_s: float
    cpu_ms: dict[str, float]
    """Of each node, per control step."""
    late_ticks: int
    faulty_episodes: int
    """That do not count; see `reasons`."""
    seconds: float
    ticks: Ticks
    updates_per_s: float | None = None
    """Of the learner, over the whole time; None: there was none."""
    arm_count: int = 0
    """How often the measurement had to arm again, because nothing moved any more."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why episodes do not count, and how many."""

    @property
    def tick_cpu_ms(self) -> float:
        """Of all nodes but the simulator and the learner, per control step."""
        return sum(ms for node, ms in self.cpu_ms.items() if node not in NOT_NODES_OF_THE_TICK)

    def line(self) -> str:
        """For the console."""
        return (
            f"{self.steps} steps in {self.seconds:.0f} s, {self.steps_per_s:.1f} steps/s, {self.tick_cpu_ms:.2f} ms "
            f"CPU a step without cell and learner, {self.late_ticks} late, {self.ticks.late_5_ms} by over 5 ms, "
            f"{self.faulty_episodes} episodes with faults, armed again {self.arm_count} times"
            + ("" if self.updates_per_s is None else f", {self.updates_per_s:.0f} updates/s")
        )


def ticks_of(run_dir: Path, contract: Contract, begin_ns: int, end_ns: int) -> Ticks:
    """The Observations of a run that are stamped between two times of the system clock."""
    links, rate_hz = contract.links, contract.control_rate_hz
    decode = decoder(Observation)
    periods_ms: list[float] = []
    ages_ms: dict[str, list[float]] = {link: [] for link in links}
    count = 0
    for path in sorted(RunPaths(run_dir).episodes.glob("*.mcap")):
        with path.open("rb") as file:
            found = [decode(message.data) for _, _, message in make_reader(file).iter_messages(topics=[OBSERVATION])]
        inside = [one for one in found if begin_ns <= stamp_to_ns(one.header.stamp) <= end_ns]
        count += len(inside)
        stamps_ns = sorted(stamp_to_ns(one.header.stamp) for one in inside)
        periods_ms += [(later - earlier) * 1e-6 for earlier, later in pairwise(stamps_ns)]
        for one in inside:
            for link, age_s in zip(links, one.link_age_s, strict=False):
                ages_ms[link].append(1e3 * age_s)
    errors_ms = np.array(periods_ms) - 1e3 / rate_hz
    ages = {link: np.array(of_link)[np.isfinite(of_link)] for link, of_link in ages_ms.items()}
    return Ticks(
        count,
        np.percentile(periods_ms, PERCENTILES).tolist() if periods_ms else [],
        np.percentile(np.abs(errors_ms), PERCENTILES).tolist() if periods_ms else [],
        int((errors_ms > 5.0).sum()),
        {link: [float(np.median(of_link)), float(of_link.max())] for link, of_link in ages.items() if len(of_link)},
    )


def report(found: Mapping[str, Any], scenarios: Sequence[Scenario]) -> str:
    """The whole file. found: results as JSON values, as `graph_benchmark` keeps them."""
    parts = [
        "# What a control step costs, and how punctual it is",
        "By `make bench-graph` (`python -m inril_bringup.graph_benchmark --help`). CPU time is that of the node's "
        "process, user and system, from /proc; one step is one Observation and what follows from it. "
        f"Written on {os.cpu_count()} cores, {_processor()}, load average when it ended "
        f"{' '.join(f'{load:.1f}' for load in os.getloadavg())}: on a machine that others use too, compare ratios.",
    ]
    main = {name: [_result(one) for one in some] for name, some in found.get("scenarios", {}).items()}
    if main:
        parts += ["## Scenarios", _scenario_table(main, scenarios), _cpu_table(main, scenarios)]
        parts += [_reasons(main), _age_table(main, scenarios)]
        if "updates_per_s_alone" in found:
            parts.append(
                f"With nothing beside it, the learner makes {found['updates_per_s_alone']:.0f} updates/s "
                "(`python -m inril_core.bench.learner_alone`). In lockstep it makes two updates per step, as the "
                "preset asks; in real time it has always more to do, and pushes weights each second. An error is how "
                "far the time between two ticks is from the contract's period."
            )
    compared = {key.split("/", 1)[1]: value for key, value in found.items() if key.startswith("compared/")}
    if compared:
        parts += ["## Compared", _comparisons(compared)]
    if "profile" in found:
        parts += [f"## Where a step goes: {found['profile']['scenario']}", _profile_table(found["profile"])]
    wrapped = [part if part[0] in "|#" else textwrap.fill(part, 118, break_on_hyphens=False) for part in parts if part]
    return "\n\n".join(wrapped) + "\n"


def _result(value: Mapping[str, Any]) -> ScenarioResult:
    return ScenarioResult(**{**value, "ticks": Ticks(**value["ticks"])})


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scenario_table(results: Mapping[str, list[ScenarioResult]], scenarios: Sequence[Scenario]) -> str:
    head = ["scenario", "s", "steps", "steps/s", "CPU [ms] per step", "period [ms] p50", "p99", "p99.9", "max"]
    head += ["error [ms] p99.9", "over 5 ms late", "late ticks", "episodes with a fault", "armed again", "updates/s"]
    rows = []
    for name in [scenario.name for scenario in scenarios if scenario.name in results]:
        for one in results[name]:
            periods = [f"{ms:.1f}" for ms in one.ticks.period_ms] or [""] * len(PERCENTILES)
            cells = [name, f"{one.seconds:.0f}", str(one.steps), f"{one.steps_per_s:.1f}", f"{one.tick_cpu_ms:.2f}"]
            error = [f"{one.ticks.error_ms[2]:.2f}", str(one.ticks.late_5_ms)] if one.ticks.error_ms else ["", ""]
            updates = "" if one.updates_per_s is None else f"{one.updates_per_s:.0f}"
            rows.append(
                [*cells, *periods, *error, str(one.late_ticks), str(one.faulty_episodes), str(one.arm_count), updates]
            )
    return _table(head, rows)


def _cpu_table(results: Mapping[str, list[ScenarioResult]], scenarios: Sequence[Scenario]) -> str:
    names = [scenario.name for scenario in scenarios if scenario.name in results]
    nodes = sorted(set().union(*(one.cpu_ms for name in names for one in results[name])))
    rows = [[node, *(f"{_mean([r.cpu_ms.get(node, 0.0) for r in results[n]]):.2f}" for n in names)] for node in nodes]
    rows.append(["all but cell, learner", *(f"{_mean([r.tick_cpu_ms for r in results[n]]):.2f}" for n in names)])
    return _table(["CPU [ms] per step", *names], rows)


def _reasons(results: Mapping[str, list[ScenarioResult]]) -> str:
    told = [
        f"{name}: {', '.join(f'{reason} ({count})' for reason, count in sorted(one.reasons.items()))}"
        for name, some in results.items()
        for one in some
        if one.reasons
    ]
    return f"Why episodes were cut: {'; '.join(told)}." if told else ""


def _age_table(results: Mapping[str, list[ScenarioResult]], scenarios: Sequence[Scenario]) -> str:
    names = [s.name for s in scenarios if s.name in results and results[s.name][0].ticks.age_ms]
    links = sorted(set().union(*(results[name][0].ticks.age_ms for name in names))) if names else []
    if not links:
        return ""

    def cell(name: str, link: str) -> str:
        ages = results[name][0].ticks.age_ms.get(link)
        return "" if ages is None else f"{ages[0]:.1f} / {ages[1]:.1f}"

    return _table(
        ["age at the tick [ms], median / max", *links], [[n, *(cell(n, link) for link in links)] for n in names]
    )


def _comparisons(compared: Mapping[str, Mapping[str, Any]]) -> str:
    (first, before), (second, after) = list(compared.items())[:2]
    texts = []
    for name in [name for name in before if name in after]:
        pairs = list(zip(map(_result, before[name]), map(_result, after[name]), strict=True))
        nodes = sorted(set().union(*(one.cpu_ms for pair in pairs for one in pair)))
        rows = [
            [node, *(f"{_mean([one.cpu_ms.get(node, 0.0) for one in side]):.2f}" for side in zip(*pairs, strict=True))]
            for node in nodes
        ]
        sides = list(zip(*pairs, strict=True))
        rows.append(["all but cell, learner", *(f"{_mean([one.tick_cpu_ms for one in side]):.2f}" for side in sides)])
        rows.append(["steps/s", *(f"{_mean([one.steps_per_s for one in side]):.1f}" for side in sides)])
        cpu = mean_ratio([b.tick_cpu_ms / a.tick_cpu_ms for a, b in pairs])
        rate = mean_ratio([b.steps_per_s / a.steps_per_s for a, b in pairs])
        rows.append([f"{second} / {first}: CPU", cpu, ""])
        rows.append([f"{second} / {first}: steps/s", rate, ""])
        texts.append(_table([f"{name}: CPU [ms] per step", first, second], rows))
    return "\n\n".join(texts)


def _profile_table(profile: Mapping[str, Any]) -> str:
    rows = []
    for node, parts in sorted(profile.items()):
        if isinstance(parts, str):
            continue
        for what, ms in sorted(parts.items(), key=lambda item: -item[1]):
            if ms >= 0.02:
                rows.append([node, what, f"{ms:.2f}", "█" * round(ms / 0.1)])
    return _table(["node", "what", "CPU [ms] per step", "0.1 ms each"], rows)
