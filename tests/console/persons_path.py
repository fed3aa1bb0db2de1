"""A person's path with the console, from the first demonstration to a better policy, and its pictures.

    .venv/bin/python -m tests.console.persons_path runs/person --pictures docs/assets

Runs the commands of docs/howto_browser.md with the simulated arm in real time, and Chromium as the person: ten
demonstrations by touch, cloning, an evaluation, fine-tuning with takeovers, an evaluation. What is done already in the
folder is not done again. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from inril_core.console.access import load_or_create_token
from inril_core.contract import load_contract
from inril_core.files import write_atomically
from inril_core.run import RunPaths, open_run
from inril_core.session.ledger import EpisodeResult, Ledger, read_ledger
from inril_core.session.plan import parse_plan
from tests.console.chromium import chromium, operators_page, save_picture
from tests.console.person import Person
from tests.domains import own_domain, spawn

PATIENT_MS = 60_000
START_S = 180.0
END_S = 60.0
PRESET = "hg_dagger"
CHANGES = {"episode_length_steps": 200}
"""Of the shipped contract: a person needs longer than 10 s."""
STAGES = ("demonstrations", "before", "corrections", "after")
IMAGE = {"recorded_in": ["demo", "train"], "width_px": 320, "height_px": 240}
"""A person wants a picture while the policy is trained too, and more than 84 pixels of it."""


class PersonsPath:
    """The stages, and what they left in the folder."""

    def __init__(self, options: argparse.Namespace, domain: int) -> None:
        self._options, self._domain = options, domain
        self.root = Path(options.folder).absolute()
        self.root.mkdir(parents=True, exist_ok=True)
        self.demos, self.run, self.first = self.root / "demos", self.root / "run", self.root / "first.inril"
        self.contract = self.root / "insert_leg_by_hand.yaml"
        self.notes_path = self.root / "notes.json"
        self.notes: dict[str, Any] = json.loads(self.notes_path.read_text()) if self.notes_path.exists() else {}

    def write_contract(self) -> None:
        """As a person does with an editor."""
        shipped = yaml.safe_load((resources.files("inril_core.contract") / "tasks" / "insert_leg.yaml").read_text())
        shipped |= CHANGES
        shipped["images"][0] |= IMAGE
        self.contract.write_text(yaml.safe_dump(shipped, sort_keys=False))

    def note(self, **values: Any) -> None:
        """Keep what the report says."""
        self.notes |= values
        write_atomically(self.notes_path, json.dumps(self.notes).encode() + b"\n")

    def results(self, run: Path) -> list[EpisodeResult]:
        """The ledger of a run."""
        return read_ledger(RunPaths(run).session).values

    def graph(self, name: str, plan: str, run: Path, person: Callable[[Person, str], None] | None, **more: Any) -> None:
        """Run a graph to the end of its plan, with or without a person at its page."""
        ledger = Ledger(open_run(str(run)).paths.session)
        if all(ledger.progress(index).done(segment) for index, segment in enumerate(parse_plan(plan))):
            return
        by_hand = {"real_time_factor": self._options.real_time_factor, "console": "true", "device": "browser"}
        by_hand |= {"console_port": self._options.port}
        alone = {"real_time_factor": 0.0, "arm_at_start": "true", "unattended": "true"}
        arguments = {"contract": self.contract, "run_dir": run, "plan": plan, **(by_hand if person else alone), **more}
        command = ["up", name, *(f"{key}:={value}" for key, value in arguments.items())]
        print("inril", *command, flush=True)
        began_s = time.monotonic()
        process = spawn([sys.executable, "-m", "inril_bringup.cli", *command], self._domain)
        try:
            if person is not None:
                self._at_the_page(run, process, person)
            if process.wait(3600.0) != 0:
                raise SystemExit(f"`inril up {name}` ended with {process.returncode}; its last lines say why")
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(END_S)
        self.note(**{f"{plan.rpartition(',')[2]} wall_s": round(time.monotonic() - began_s, 1)})

    def _at_the_page(self, run: Path, process: Any, person: Callable[[Person, str], None]) -> None:
        token = load_or_create_token(RunPaths(run).console_token)
        address = f"http://127.0.0.1:{self._options.port}/#token={token.reveal}"
        with chromium() as browser, operators_page(browser, "Ada", "tablet", PATIENT_MS) as page:
            who = Person(page, load_contract(self.contract), seed=self._options.seed)
            deadline = time.monotonic() + START_S
            while process.poll() is None:
                try:
                    page.goto(address)
                    break
                except Exception:  # the console does not listen yet
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1.0)
            while process.poll() is None:
                try:
                    person(who, str(who.eyes["session_state"].get("state", "")))
                    page.wait_for_timeout(20)
                except Exception as error:  # the graph ends while the page is looked at
                    if process.poll() is None and type(error).__name__ != "TimeoutError":
                        raise
                    print(f"person: {type(error).__name__}: {str(error)[:300]}", flush=True)
            for line in dict.fromkeys(who.eyes.notices):
                print(f"the page said: {line}", flush=True)
            self.note(takeovers=self.notes.get("takeovers", 0) + who.takeovers)

    def picture(self, who: Person, name: str, when: bool) -> None:
        """A picture of the page, the first time that `when` holds."""
        if when and self._options.pictures and name not in self.notes.get("pictures", []):
            save_picture(who.page, Path(self._options.pictures) / f"{name}.png")
            self.note(pictures=[*self.notes.get("pictures", []), name])

    def demonstrate(self, who: Person, state: str) -> None:
        """What the person does in demonstrations."""
        safety, seen = who.eyes["safety"], who.eyes["observed"]
        if safety.get("heard") and not safety["armed"] and who.page.locator("body.holds").count():
            if not who.eyes["pose"].get("measured"):
                return  # it looks at the arm before it arms
            self.picture(who, "howto_arm", "not armed" in who.eyes["session_state"].get("waiting_for", ""))
        who.demonstrate()
        self.picture(who, "howto_demonstrate", who.drives and 25 <= seen.get("step", 0) <= 60)

    def correct(self, who: Person, state: str) -> None:
        """What the person does in training."""
        who.correct()
        seen, episodes = who.eyes["observed"], len(who.eyes["episodes"].get("points", []))
        self.picture(who, "howto_take_over", who.drives and who.takeovers >= 3 and seen.get("step", 0) >= 30)
        learned = episodes >= self._options.eval_episodes + self._options.train_steps // 200
        self.picture(
            who, "howto_learned", learned and not who.drives and state == "running" and seen.get("step", 0) > 20
        )


def main(words: Sequence[str] | None = None) -> int:
    """Run what is not done yet; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="everything of this path goes there; one that exists is gone on with")
    parser.add_argument("--pictures", help="folder of the pictures, as docs/assets")
    parser.add_argument("--demos", type=int, default=10)
    parser.add_argument("--train-steps", type=int, default=4000, help="control steps of fine-tuning, at 10 Hz")
    parser.add_argument("--eval-episodes", type=int, default=100)
    parser.add_argument("--real-time-factor", type=float, default=1.0)
    parser.add_argument(
        "--until", choices=STAGES, default=STAGES[-1], help="stop after this stage; the next run goes on"
    )
    parser.add_argument("--port", type=int, default=8771)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    with own_domain() as domain:
        path = PersonsPath(options, domain)
        path.write_contract()
        seed = {"seed": options.seed}
        stages = STAGES[: STAGES.index(options.until) + 1]
        path.graph("collect_demos", f"demo:{options.demos}:episodes", path.demos, path.demonstrate, **seed)
        if "before" not in stages:
            return 0
        if not path.first.exists():
            pretrain = ["pretrain", "--demos", path.demos, "--out", path.first, "--contract", path.contract]
            pretrain += ["--preset", PRESET]
            print("inril", *pretrain, flush=True)
            subprocess.run([sys.executable, "-m", "inril_bringup.cli", *map(str, pretrain)], check=True)
        before = f"eval:{options.eval_episodes}:episodes"
        train = f"{before},train:{options.train_steps}:steps"
        tuned = {"demos": path.demos, "initial_weights": path.first, "preset": PRESET, **seed}
        path.graph("finetune", before, path.run, None, **tuned)
        if "corrections" in stages:
            path.graph("finetune", train, path.run, path.correct, **tuned)
        if "after" in stages:
            path.graph("finetune", f"{train},{before}", path.run, None, **tuned)
        print(json.dumps(report(path)), flush=True)
    return 0


def report(path: PersonsPath) -> dict[str, Any]:
    """What came of it."""
    by_segment: dict[int, list[EpisodeResult]] = {}
    for result in path.results(path.run):
        if result.valid:
            by_segment.setdefault(result.segment_index, []).append(result)
    shown = [result for result in path.results(path.demos) if result.valid]
    trained = by_segment.get(1, [])
    return {
        "demonstrations": len(shown),
        "demonstrations_succeeded": sum(result.success for result in shown),
        "demonstration_s": round(sum(result.duration_s for result in shown) / max(len(shown), 1), 1),
        "before": f"{sum(r.success for r in by_segment.get(0, []))}/{len(by_segment.get(0, []))}",
        "after": f"{sum(r.success for r in by_segment.get(2, []))}/{len(by_segment.get(2, []))}",
        "train_episodes": len(trained),
        "train_steps": sum(result.steps for result in trained),
        "invalid": sum(not result.valid for result in path.results(path.run)),
        **{key: value for key, value in path.notes.items() if key != "pictures"},
    }


if __name__ == "__main__":
    sys.exit(main())
