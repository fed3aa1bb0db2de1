"""`python -m inril_bringup.evaluation_study FOLDER`: the session of docs/evaluation.md, through the graph.

A policy cloned from a few demonstrations, the same one fine-tuned, and the scripted expert on insert_leg, 40 blind
trials each. On the way session_node is killed once and the whole graph once, each in the middle of a trial. Whatever
stops this command, it goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from inril_bringup.environment import dds_environment
from inril_bringup.programs import die_with_parent, interrupt
from inril_bringup.supervisor import STATUS_FILE
from inril_core.errors import InrilError
from inril_core.evaluation.session.analysis import analyse
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import EXPERT, Wish, make_session
from inril_core.evaluation.session.outcomes import finished, read_outcomes
from inril_core.evaluation.session.report import write_report
from inril_core.files import append_line, read_sound_lines
from inril_core.finetune.config import load_config
from inril_core.finetune.local import collect_demos, fine_tune
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import save_policy
from inril_core.run import RunPaths
from inril_core.session.plan import episode_seed
from inril_core.tasks import make_task

TASK, DEMOS_N, BUDGET_STEPS = "insert_leg", 8, 12_000
STARTS = {"full": 30, "narrow": 10}
KILLS = {"session_node": 30, "graph": 75}
"""What is killed, and after how many trials that count."""
LAUNCHES_N = 12
"""A launch that ends because only a person could go on is followed by another, so often at most."""
POLL_S = 0.2


class StudyError(InrilError):
    """The study cannot be finished, or what it shows is wrong."""


@dataclass(frozen=True)
class Kill:
    """One kill -9, as kills.jsonl has it."""

    what: str
    during_trial: int
    done_n: int
    unix_s: float


def make_policies(folder: Path) -> dict[str, str]:
    """Clone from demonstrations and fine-tune, where that is not done yet; the files by name."""
    cloned, tuned = folder / "cloned.inril", folder / "tuned.inril"
    if not tuned.exists():
        torch.manual_seed(0)
        torch.set_num_threads(1)
        task = make_task(TASK)
        config = load_config("weighted_sum").changed(**{"schedule.budget_steps": BUDGET_STEPS})
        demos = collect_demos(task, task.expert(), [episode_seed("demo", i, 0) for i in range(DEMOS_N)])
        policy = pretrain(config, task.interface, demos)
        facts = {"interface_digest": task.interface.interface_digest, "contract_text": task.interface.text}
        folder.mkdir(parents=True, exist_ok=True)
        save_policy(cloned, policy, facts)
        fine_tune(config, task, policy, demos, folder / "learner", episode_seed("train", 0, 0))
        save_policy(tuned, policy, facts)
        task.close()
    return {"scripted": EXPERT, "cloned": str(cloned), "tuned": str(tuned)}


class Graph:
    """`inril evaluate run` as a child process."""

    def __init__(self, root: Path, domain: int) -> None:
        self.root = root
        command = [sys.executable, "-m", "inril_bringup.cli", "evaluate", "run", str(root)]
        command += ["arm_at_start:=true", "unattended:=true"]
        environment = {**os.environ, **dds_environment(os.environ), "ROS_DOMAIN_ID": str(domain)}
        with root.with_suffix(".log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self, what: str) -> None:
        """kill -9 of a node, or of the supervisor and all nodes."""
        nodes = json.loads((self.root / STATUS_FILE).read_text())["nodes"]
        pids = {name: node["pid"] for name, node in nodes.items() if node["pid"] is not None}
        if what != "graph":
            os.kill(pids[what], signal.SIGKILL)
            return
        self._process.kill()  # first: nobody is to start the others again
        self._process.wait(timeout=10)
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):  # it died with its parent
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ctrl-C."""
        interrupt(self._process)


def run_through_graph(root: Path, domain: int) -> None:
    """Run the trials, with the kills on the way.

    Raises:
        StudyError: the graph ended again and again without finishing the plan.
    """
    for _ in range(LAUNCHES_N):
        if finished(SessionFolder(root)):
            return
        graph = Graph(root, domain)
        try:
            while graph.exit_code is None:
                kill = _kill_due(root)
                if kill is not None:
                    graph.kill(kill.what)
                    append_line(root.parent / "kills.jsonl", asdict(kill))
                    print(f"killed {kill.what} during trial {kill.during_trial}", flush=True)
                time.sleep(POLL_S)
        finally:
            graph.stop()
        print(f"the graph ended with {graph.exit_code}, {len(SessionFolder(root).done)} trials count", flush=True)
    raise StudyError(f"{LAUNCHES_N} launches did not finish the plan; see {root.with_suffix('.log')}, and run it again")


def _kill_due(root: Path) -> Kill | None:
    """The next kill, once a trial runs after as many as it waits for."""
    killed = {kill.what for kill in read_kills(root)}
    folder = SessionFolder(root)
    done_n = len(folder.done)
    due = [what for what, after_n in KILLS.items() if what not in killed and done_n >= after_n]
    begun = folder.begun
    if not due or not begun or begun[-1].episode_id in {result.episode_id for result in folder.results}:
        return None
    time.sleep(random.uniform(0.2, 0.8))  # into the trial
    if begun[-1].episode_id in {result.episode_id for result in folder.results}:
        return None
    return Kill(due[0], begun[-1].trial, done_n, time.time())


def read_kills(root: Path) -> list[Kill]:
    """The kills so far."""
    return read_sound_lines(root.parent / "kills.jsonl", Kill).values


def check(root: Path) -> str:
    """What the session shows of being killed, in a sentence.

    Raises:
        StudyError: a trial is missing or there twice, a killed one counts, or other weights acted than planned.
    """
    folder = SessionFolder(root)
    counted = Counter(result.index for result in folder.results if result.valid)
    wrong = [number for number in range(len(folder.plan.trials)) if counted[number] != 1]
    cut = {begun.trial for begun in folder.interrupted()}
    kills = read_kills(root)
    if wrong or len(counted) != len(folder.plan.trials):
        raise StudyError(f"trials {wrong[:10]} of {len(folder.plan.trials)} do not count exactly once")
    if {kill.what for kill in kills} != set(KILLS) or not {kill.during_trial for kill in kills} <= cut:
        raise StudyError(f"kills {kills}: not all cut a trial that is on record as interrupted ({sorted(cut)})")
    summaries = analyse(folder, read_outcomes(folder)).summaries
    unproven = [s.weights_proof for s in summaries if s.weights_sha256 and "has their digest" not in s.weights_proof]
    if unproven:
        raise StudyError(f"weights: {unproven}")
    return (
        f"{len(counted)} trials, each once; {len(kills)} kills ("
        + ", ".join(f"{kill.what} in trial {kill.during_trial}" for kill in kills)
        + f"); {len(folder.interrupted())} attempts were cut and done again"
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "103")))
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    policies, root = make_policies(folder), folder / "session"
    try:
        if not RunPaths(root).evaluation_plan.exists():
            make_session(root, Wish(TASK, policies, "cloned", STARTS, difference=0.2, baseline=0.6))
        run_through_graph(root, arguments.domain)
        session = SessionFolder(root)
        if session.unsealed is None:
            session.unseal("the study", "", time.time(), finished(session))
        print(f"{check(root)}\n{write_report(session)[0]}")
    except InrilError as error:
        print(f"evaluation_study: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
