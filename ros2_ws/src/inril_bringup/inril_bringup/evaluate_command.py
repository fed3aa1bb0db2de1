"""`inril evaluate`: designed comparisons of policies, from the number of trials to the verdict."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from inril_bringup.evaluate_sim2real import add_actions
from inril_core.errors import ConfigError, InrilError
from inril_core.people import LONGEST_REASON, sayable
from inril_core.vocabulary import LABELS

SUMMARY = "compare policies in a session that settles the question: plan, run, report, gate"
EXAMPLES = (
    "stats --successes 17 --trials 20 --control 14 20",
    "power --baseline 0.7 --difference 0.15",
    "plan runs/ab --policy old=bc.inril --policy new=runs/mine:12 --control old --difference 0.15 --baseline 0.7",
    "run runs/ab arm_at_start:=true",
    "run runs/ab --in-process",
    "label runs/ab 17 failure --tag dropped",
    "unseal runs/ab",
    "report runs/ab",
    "gate runs/ab/report.json --better-than old",
    "identify runs/robot --out twin.yaml",
    "sim2real runs/ab_robot runs/ab_sim",
)
BAD_INPUT, GATE_BAD_INPUT = 2, 3
"""2 is the gate's "cannot tell"."""

# Modules that are slow to import are imported where they are used.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril evaluate`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_stats(actions)
    _add_power(actions)
    _add_plan(actions)
    _add_run(actions)
    _add_notes(actions)
    _add_results(actions)
    add_actions(actions, _action)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    return int(arguments.evaluate(arguments))


def _action(actions: Any, name: str, act: Any, summary: str, code_of_bad_input: int = BAD_INPUT) -> Any:
    """A sub-command whose errors, also those of argparse, are one line and end with this code."""
    parser = actions.add_parser(name, help=summary, description=summary[:1].upper() + summary[1:] + ".")

    def refuse(message: str) -> NoReturn:
        print(f"inril evaluate {name}: {message}", file=sys.stderr)
        sys.exit(code_of_bad_input)

    def acting(arguments: argparse.Namespace) -> int:
        try:
            return int(act(arguments))
        except InrilError as error:
            refuse(str(error))

    parser.error = refuse
    parser.set_defaults(evaluate=acting)
    return parser


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a whole number") from None


def _add_stats(actions: Any) -> None:
    stats = _action(actions, "stats", _stats, "intervals of a success rate, and the comparison with a control")
    stats.add_argument("--successes", type=_whole, required=True, metavar="K", help="successful trials")
    stats.add_argument("--trials", type=_whole, required=True, metavar="N", help="trials")
    stats.add_argument(
        "--control", type=_whole, nargs=2, metavar=("K2", "N2"), help="successes and trials of the control"
    )
    stats.add_argument(
        "--confidence", type=float, default=0.95, help="of all intervals; tests use 1 - it (default: %(default)s)"
    )
    stats.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def _stats(arguments: argparse.Namespace) -> int:
    from inril_core.evaluation.statistics.comparison import compare_unpaired
    from inril_core.evaluation.statistics.proportions import clopper_pearson, wilson

    counts = (arguments.successes, arguments.trials)
    found: dict[str, Any] = {
        "wilson": list(wilson(*counts, arguments.confidence)),
        "clopper_pearson": list(clopper_pearson(*counts, arguments.confidence)),
    }
    method = ""
    if arguments.control is not None:
        compared = compare_unpaired(counts, tuple(arguments.control), arguments.confidence)
        method = compared.method
        found |= {
            "difference": compared.difference,
            "difference_interval": list(compared.interval),
            "p_value": compared.p_value,
            "verdict": str(compared.verdict),
        }
    print(json.dumps(found) if arguments.json else "\n".join(_stats_lines(arguments, found, method)))
    return 0


def _stats_lines(arguments: argparse.Namespace, found: dict[str, Any], method: str) -> list[str]:
    def percent(bounds: list[float]) -> str:
        return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}] %"

    k, n, level = arguments.successes, arguments.trials, f"{100 * arguments.confidence:g} %"
    lines = [
        f"success {k} / {n} = {100 * k / n:.1f} %",
        f"  Clopper-Pearson, {level}  {percent(found['clopper_pearson'])}",
        f"  Wilson, {level}           {percent(found['wilson'])}",
    ]
    if arguments.control is not None:
        k2, n2 = arguments.control
        low, high = (100 * bound for bound in found["difference_interval"])
        lines += [
            f"control {k2} / {n2} = {100 * k2 / n2:.1f} %",
            f"  difference {100 * found['difference']:+.1f} points, [{low:+.1f}, {high:+.1f}], "
            f"p = {found['p_value']:.3g} ({method})",
            f"  verdict: {found['verdict']}",
        ]
    return lines


def _add_power(actions: Any) -> None:
    power = _action(actions, "power", _power, "trials that a question needs, or what so many trials can tell")
    _add_question(power, required=True)
    power.add_argument("--trials", type=_whole, default=None, help="what this many can tell, instead")
    power.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def _add_question(parser: argparse.ArgumentParser, required: bool) -> None:
    """What difference is looked for."""
    parser.add_argument(
        "--baseline", type=float, required=required, default=None, help="success rate of the control, about, e.g. 0.7"
    )
    parser.add_argument(
        "--difference", type=float, required=required, default=None, help="smallest gain that matters, e.g. 0.15"
    )
    parser.add_argument(
        "--power", type=float, default=0.8, help="probability to find it if it is there (default: %(default)s)"
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, help="1 - the rate of false alarms (default: %(default)s)"
    )


def _power(arguments: argparse.Namespace) -> int:
    from inril_core.evaluation.statistics.power import paired_power, paired_trials_n, unpaired_trials_n

    question = (arguments.baseline, arguments.difference)
    wanted = (*question, arguments.power, arguments.confidence)
    if arguments.trials is not None and not 1 <= arguments.trials <= 20_000:
        raise ConfigError(f"--trials = {arguments.trials}: must be in [1, 20000]")
    found: dict[str, Any] = {
        "unpaired_trials_n": unpaired_trials_n(*wanted),
        "paired_trials_n": paired_trials_n(*wanted),
    }
    if arguments.trials is not None:
        found["paired_power"] = paired_power(arguments.trials, *question, arguments.confidence)
    if arguments.json:
        print(json.dumps(found))
        return 0
    one, other = 100 * arguments.baseline, 100 * (arguments.baseline + arguments.difference)
    print(
        f"to tell {one:g} from {other:g} % with power {arguments.power:g}:\n"
        f"  {found['unpaired_trials_n']} trials of each policy on starts of its own\n"
        f"  {found['paired_trials_n']} trials of each policy on shared starts (McNemar's exact test; fewer where both "
        "fail at the same starts)"
    )
    if arguments.trials is not None:
        print(f"  {arguments.trials} on shared starts find it with power {found['paired_power']:.2f}")
    return 0


def _add_plan(actions: Any) -> None:
    plan = _action(actions, "plan", _plan, "lock a plan: policies behind codes, shared starts, randomised blocks")
    plan.add_argument("folder", type=Path, metavar="DIR", help="folder of the session, new")
    plan.add_argument(
        "--policy",
        action="append",
        required=True,
        metavar="NAME=WHAT",
        help="a policy file, RUN_DIR:N for a version that a run has kept, or `expert`, the task's scripted one",
    )
    plan.add_argument("--control", required=True, metavar="NAME", help="the policy that the others are compared with")
    plan.add_argument("--task", default="insert_leg", help="task name or contract YAML (default: %(default)s)")
    plan.add_argument(
        "--starts",
        action="append",
        default=[],
        metavar="LEVEL:COUNT",
        help="starts of a randomness level: full is the contract's range, narrow that of demonstrations "
        "(default: as many of full as the question needs)",
    )
    plan.add_argument("--repetitions", type=_whole, default=1, help="trials of each policy from each start")
    _add_question(plan, required=False)
    plan.add_argument("--sequential", action="store_true", help="stop when every comparison is decided")
    plan.add_argument("--explore", action="store_true", help="policies sample instead of acting deterministically")
    plan.add_argument(
        "--on-intervention",
        choices=("failure", "ignore"),
        default="failure",
        help="what a trial counts in which a person took control (default: %(default)s)",
    )
    plan.add_argument("--tag", action="append", default=[], help="what a failure may be called, several times")
    plan.add_argument("--first-seed", type=_whole, default=None, help="number of the first start")
    plan.add_argument(
        "--failures-of", type=Path, action="append", default=[], metavar="DIR",
        help="the starts on which a policy failed in these earlier sessions, instead of --starts",
    )  # fmt: skip


def _plan(arguments: argparse.Namespace) -> int:
    from inril_core.evaluation.session.make import Wish, make_session
    from inril_core.evaluation.session.plan import FAILURE_TAGS, FIRST_SEED
    from inril_core.evaluation.session.regression import failed_starts

    if arguments.difference is None:
        raise ConfigError("--difference is missing: the smallest gain that matters, e.g. 0.15; power comes first")
    wish = Wish(
        task=arguments.task,
        subjects=_pairs("--policy", arguments.policy, "="),
        control=arguments.control,
        starts={level: _count("--starts", n) for level, n in _pairs("--starts", arguments.starts, ":").items()},
        difference=arguments.difference,
        baseline=arguments.baseline,
        power=arguments.power,
        confidence=arguments.confidence,
        repetitions=arguments.repetitions,
        sequential=arguments.sequential,
        explore=arguments.explore,
        on_intervention=arguments.on_intervention,
        failure_tags=tuple(arguments.tag) or FAILURE_TAGS,
        first_seed=FIRST_SEED if arguments.first_seed is None else arguments.first_seed,
        seeds=failed_starts(arguments.failures_of) if arguments.failures_of else None,
    )
    plan = make_session(arguments.folder, wish)
    question, planned_n = plan.question, len(plan.trials) // len(plan.codes)
    print(
        f"{arguments.folder}: {len(plan.trials)} trials, {planned_n} of each of {len(plan.codes)} policies, plan "
        f"{plan.digest[:16]}\n"
        f"to find a gain of {100 * question.difference:g} points over {100 * question.baseline:g} % with power "
        f"{question.power:g}: {question.trials_needed_n} trials of each; {planned_n} have power "
        f"{question.power_planned:.2f}" + (" (without stopping early)" if plan.sequential else "")
    )
    if planned_n < question.trials_needed_n:
        print("fewer than the question needs: expect `cannot tell`", file=sys.stderr)
    return 0


def _pairs(option: str, texts: Sequence[str], between: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, what = text.partition(between)
        if not sign or not name or not what:
            raise ConfigError(f"{option} {text!r}: must be two words with {between!r} between them")
        if name in found:
            raise ConfigError(f"{option} {text!r}: {name} is there twice")
        found[name] = what
    return found


def _count(option: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 8):
        raise ConfigError(f"{option} {text!r}: is not a whole number")
    return int(text)


def _add_run(actions: Any) -> None:
    run_trials = _action(actions, "run", _run, "run what is left of a session; it may be killed and goes on", 1)
    run_trials.add_argument("folder", type=Path, metavar="DIR", help="folder of the session")
    run_trials.add_argument(
        "--in-process", action="store_true", help="simulate in one process, without the graph: for studies and gates"
    )
    run_trials.add_argument("values", nargs="*", metavar="NAME:=VALUE", help="arguments of the graph `evaluate`")


def _run(arguments: argparse.Namespace) -> int:
    from inril_bringup.run_dir import RunDirInUse, lock_run_dir
    from inril_core.evaluation.session.folder import SessionFolder

    folder = SessionFolder(arguments.folder)
    if not arguments.in_process:
        from inril_bringup.graph import load_graph, parse_values
        from inril_bringup.starting import prepare
        from inril_bringup.supervisor import supervise

        given = parse_values(arguments.values)
        if "run_dir" in given:
            raise ConfigError("run_dir:= is the session's folder")
        usual = {"contract": folder.plan.task} | ({"namespace": arguments.namespace} if arguments.namespace else {})
        graph = load_graph("evaluate").resolve(usual | given | {"run_dir": str(folder.root)})
        return supervise(prepare(graph))
    if arguments.values:
        raise ConfigError(f"{arguments.values[0]}: --in-process starts no graph, which would take it")
    from inril_core.evaluation.session.local import run_locally

    try:
        with lock_run_dir(folder.root):
            run_locally(folder, lambda line: print(line, flush=True))
    except RunDirInUse as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{folder.root}: {error.strerror or error}; make it writable, or free some space") from error
    return 0


def _add_notes(actions: Any) -> None:
    label = _action(actions, "label", _label, "say how a trial went; what the task said is kept beside it")
    label.add_argument("folder", type=Path, metavar="DIR")
    label.add_argument("trial", type=_whole, help="its place in the plan, from 0")
    label.add_argument("outcome", choices=list(LABELS), help="unknown: earlier words are taken back")
    label.add_argument("--tag", default="", help="why it failed, one of the plan's failure tags")

    change = _action(actions, "amend", _amend, "lock a plan.json that was changed; after the first trial a deviation")
    change.add_argument("folder", type=Path, metavar="DIR")
    change.add_argument("--reason", required=True, help="why, for the report")

    unseal = _action(actions, "unseal", _unseal, "end the blinding of a finished session: show names and compare")
    unseal.add_argument("folder", type=Path, metavar="DIR")
    unseal.add_argument("--early", default="", metavar="REASON", help="before the end; the report shows the reason")


def _label(arguments: argparse.Namespace) -> int:
    from inril_bringup.control import person_name
    from inril_core.evaluation.session.folder import SessionFolder

    success = LABELS[arguments.outcome].success
    word = SessionFolder(arguments.folder).label(arguments.trial, success, arguments.tag, person_name(), time.time())
    print(f"trial {word.trial}: {arguments.outcome}{word.tag and f', {word.tag}'}")
    return 0


def _amend(arguments: argparse.Namespace) -> int:
    from inril_bringup.control import person_name
    from inril_core.evaluation.session.folder import amend

    changed = amend(arguments.folder, _reason(arguments.reason), person_name(), time.time())
    print(f"{arguments.folder}: locked with another {', '.join(changed)}")
    return 0


def _unseal(arguments: argparse.Namespace) -> int:
    from inril_bringup.control import person_name
    from inril_core.evaluation.session.folder import SessionFolder
    from inril_core.evaluation.session.outcomes import finished

    folder = SessionFolder(arguments.folder)
    folder.unseal(person_name(), _reason(arguments.early), time.time(), finished(folder))
    for code, subject in folder.sealed.subjects.items():
        print(f"{code}: {subject.name}{' (control)' if code == folder.sealed.control else ''}, {subject.origin}")
    return 0


def _reason(text: str) -> str:
    """What a person gave as a reason, as every file and page can hold it."""
    return sayable(text.strip(), LONGEST_REASON)


def _add_results(actions: Any) -> None:
    report = _action(actions, "report", _report, "write report.html and report.json; codes only, until unsealed")
    report.add_argument("folder", type=Path, metavar="DIR")

    gate = _action(
        actions,
        "gate",
        _gate,
        "exit 0: better than the control; 1: worse, or no relevant gain; 2: cannot tell; 3: no usable report",
        GATE_BAD_INPUT,
    )
    gate.add_argument("report", type=Path, metavar="REPORT", help="report.json, or the folder it lies in")
    gate.add_argument("--better-than", required=True, metavar="CONTROL", help="name of the session's control")
    gate.add_argument("--policy", default="", metavar="NAME", help="the one that must be better (default: the other)")


def _report(arguments: argparse.Namespace) -> int:
    from inril_core.evaluation.session.folder import SessionFolder
    from inril_core.evaluation.session.report import write_report

    try:
        html, data = write_report(SessionFolder(arguments.folder))
    except OSError as error:
        raise ConfigError(
            f"{arguments.folder}: {error.strerror or error}; free some space, or make it writable"
        ) from error
    print(f"open {html}\ndata {data}")
    return 0


def _gate(arguments: argparse.Namespace) -> int:
    from inril_core.evaluation.session.gate import decide

    code, text = decide(arguments.report, arguments.better_than, arguments.policy)
    print(text)
    return code
