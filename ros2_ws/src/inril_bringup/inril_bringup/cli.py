"""The command `inril`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from inril_bringup import data_command, demo, episode_commands
from inril_bringup.check import check
from inril_bringup.environment import leave_foreign_ros
from inril_bringup.graph import Graph, Value, load_graph, packaged_graphs, parse_values
from inril_core.bench import command as bench_command
from inril_core.errors import ConfigError, InrilError
from inril_core.finetune import DEFAULT_PRESET

# Modules that import ROS or torch are imported where they are used: `inril --help` must not wait for them.


def main(words: Sequence[str] | None = None) -> None:
    """Entry point: run a command and exit with its code; what a user can mend is told without traceback."""
    if words is None:
        leave_foreign_ros()
    arguments = _parser().parse_args(words)
    try:
        code = arguments.run(arguments)
    except InrilError as error:
        print(f"inril {arguments.command}: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(f"inril {arguments.command}: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inril",
        description="Fine-tunes a manipulation policy on the robot that runs it.",
        epilog="examples:\n  inril demo\n  inril preflight\n"
        "  inril up finetune run_dir:=runs/mine demos:=runs/demos initial_weights:=bc.inril plan:=train:5000:steps\n"
        "  inril status\n\n`inril COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_running(commands)
    _add_operating(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction, name: str, run: object, summary: str, *examples: str
) -> argparse.ArgumentParser:
    shown = "\n".join(f"  inril {name} {example}".rstrip() for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"examples:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_running(commands: argparse._SubParsersAction) -> None:
    graphs = ", ".join(packaged_graphs())
    up = _add(
        commands,
        "up",
        _up,
        "start a graph as supervised processes; Ctrl-C stops it in order",
        "finetune run_dir:=runs/mine demos:=runs/demos initial_weights:=bc.inril plan:=train:5000:steps",
        "collect_demos run_dir:=runs/demos plan:=demo:20:episodes real_time_factor:=1.0",
        "finetune --show-args",
    )
    up.add_argument("graph", metavar="GRAPH", help=f"one of {graphs}, or the path of a graph YAML")
    up.add_argument("values", nargs="*", metavar="NAME:=VALUE", help="arguments of the graph")
    up.add_argument("--show-args", action="store_true", help="list the graph's arguments and nodes, start nothing")

    demos = _add(
        commands,
        "demos",
        _demos,
        "record demonstrations (the graph collect_demos)",
        "--count 20 --run-dir runs/demos --arm-at-start",
        "--count 5 --run-dir runs/mine real_time_factor:=1.0",
    )
    demos.add_argument("--count", type=int, required=True, help="successful or not, so many episodes")
    demos.add_argument("--run-dir", type=Path, required=True, help="folder of this run")
    demos.add_argument(
        "--arm-at-start",
        action="store_true",
        help="simulated cell only; a person arms a real arm (inril arm)",
    )
    demos.add_argument("values", nargs="*", metavar="NAME:=VALUE", help="other arguments of the graph")

    pretrain = _add(
        commands,
        "pretrain",
        _pretrain,
        "clone a policy from recorded demonstrations",
        "--demos runs/demos --out runs/mine/pretrained.inril",
        "--demos runs/demos --out bc.inril --preset residual_ppo --seed 3",
    )
    pretrain.add_argument("--demos", type=Path, required=True, help="run folder the demonstrations were recorded in")
    pretrain.add_argument("--out", type=Path, required=True, help="file to write the policy to")
    pretrain.add_argument("--preset", default=DEFAULT_PRESET, help="preset or config YAML (default: %(default)s)")
    pretrain.add_argument("--contract", default="insert_leg", help="task name or contract YAML (default: %(default)s)")
    pretrain.add_argument("--seed", type=int, default=0, help="of initial weights and batches (default: %(default)s)")
    pretrain.add_argument("--run-dir", type=Path, default=None, help="run it is for; its id is noted in the file")

    whole = _add(
        commands,
        "demo",
        demo.run,
        "the whole of it on the simulated arm: demonstrate, pre-train, fine-tune, report",
        "",
        "--run-dir runs/mine --seed 1",
    )
    demo.add_arguments(whole)

    bench = _add(commands, "bench", _bench, bench_command.SUMMARY, *bench_command.EXAMPLES)
    bench_command.add_arguments(bench)


def _add_operating(commands: argparse._SubParsersAction) -> None:
    data_command.add_arguments(_add(commands, "data", data_command.run, data_command.SUMMARY, *data_command.EXAMPLES))

    check = _add(
        commands,
        "preflight",
        _preflight,
        "check this machine before a run; exit code 1 on FAIL",
        "",
        "--json",
    )
    check.add_argument(
        "--run-dir", type=Path, default=Path("runs"), help="where runs are written (default: %(default)s)"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    state = _add(commands, "status", _status, "say once what the running graph does", "", "--json")
    state.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    _add(commands, "arm", _arm, "arm the arm; look at it first", "")
    _add(commands, "disarm", _disarm, "disarm the arm: it holds where it is", "")

    back = _add(
        commands,
        "rollback",
        _rollback,
        "act with an earlier version and stay there",
        "--run-id demo-1a2b3c4d --n 4",
    )
    back.add_argument("--run-id", required=True, help="run of the version (inril status)")
    back.add_argument("--n", type=int, required=True, help="number of the version in its run")
    _add(commands, "unpin", _unpin, "let new versions in again after a rollback", "")

    episode_commands.add(commands, _add)


def _show(graph: Graph) -> None:
    print(f"{graph.name}: {graph.description}\nnodes: {', '.join(graph.nodes)}\narguments (NAME:=VALUE):")
    for name, argument in graph.arguments.items():
        unset = "required" if argument.required else "not set"
        default = unset if argument.default is None else f"default: {argument.default}"
        print(f"  {name} ({argument.allowed}; {default})")
        print(f"      {argument.description}")


def _up(arguments: argparse.Namespace) -> int:
    graph = load_graph(arguments.graph)
    if arguments.show_args:
        _show(graph)
        return 0
    from inril_bringup.supervisor import supervise

    resolved = graph.resolve(parse_values(arguments.values))
    check(resolved)
    return supervise(resolved)


def _demos(arguments: argparse.Namespace) -> int:
    if arguments.count < 1:
        raise ConfigError(f"--count = {arguments.count}; give 1 or more")
    from inril_bringup.supervisor import supervise

    own: dict[str, Value] = {"run_dir": str(arguments.run_dir), "plan": f"demo:{arguments.count}:episodes"}
    own |= {"arm_at_start": True} if arguments.arm_at_start else {}
    given = parse_values(arguments.values)
    for name in own.keys() & given.keys():
        raise ConfigError(f"{name}:= is what an option of `inril demos` says; to say it all: inril up collect_demos")
    return supervise(load_graph("collect_demos").resolve(own | given))


def _pretrain(arguments: argparse.Namespace) -> int:
    from inril_bringup.pretrain import pretrain

    return pretrain(arguments)


def _bench(arguments: argparse.Namespace) -> int:
    return bench_command.run(arguments)


def _preflight(arguments: argparse.Namespace) -> int:
    from inril_bringup import preflight

    quiet = arguments.json
    checks = preflight.run_checks(
        arguments.run_dir, lambda check: None if quiet else print(preflight.line(check), flush=True)
    )
    if quiet:
        print(json.dumps(preflight.as_dict(checks)))
    return 1 if any(check.level == "FAIL" for check in checks) else 0


def _status(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    states = operate.status()
    if arguments.json:
        print(json.dumps({"stamp_s": time.time(), **states}))
    else:
        print("\n".join(operate.describe(states)))
    return 0 if any(states.values()) else 1


def _arm(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    print(operate.arm(operate.person_name()))
    return 0


def _disarm(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    print(operate.disarm(operate.person_name()))
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    print(operate.roll_back(arguments.run_id, arguments.n))
    return 0


def _unpin(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    print(operate.unpin())
    return 0


if __name__ == "__main__":
    main()
