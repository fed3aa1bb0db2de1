"""`inril evaluate`: designed comparisons of policies, from the number of trials to the verdict."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NoReturn

from inril_core.errors import ConfigError, InrilError

SUMMARY = "compare policies in a session that settles the question: plan, run, report, gate"
EXAMPLES = (
    "stats --successes 17 --trials 20 --control 14 20",
    "power --baseline 0.7 --difference 0.15",
)
BAD_INPUT = 2

# Modules that are slow to import are imported where they are used.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril evaluate`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_stats(actions)
    _add_power(actions)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked. Returns the exit code."""
    code: int = arguments.evaluate(arguments)
    return code


def _action(actions: Any, name: str, act: Any, summary: str, code_of_bad_input: int = BAD_INPUT) -> Any:
    """A sub-command whose errors, also those of argparse, are one line and end with this code."""
    parser = actions.add_parser(name, help=summary, description=summary[:1].upper() + summary[1:] + ".")

    def refuse(message: str) -> NoReturn:
        print(f"inril evaluate {name}: {message}", file=sys.stderr)
        sys.exit(code_of_bad_input)

    def acting(arguments: argparse.Namespace) -> int:
        try:
            code: int = act(arguments)
            return code
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
            f"  difference {100 * found['difference']:+.1f} points, [{low:+.1f}, {high:+.1f}], p = {found['p_value']:.3g}"
            f" ({method})",
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


