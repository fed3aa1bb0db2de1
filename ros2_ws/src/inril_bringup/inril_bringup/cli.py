"""The command `inril`.

Over 400 lines: all subcommands and their help stand in one place; each only hands its arguments on.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inril_bringup import camera_command, data_command, devices_command, episode_commands, evaluate_command
from inril_bringup import teleop_check_command as teleop_check
from inril_bringup.environment import leave_foreign_ros
from inril_core.bench import command as bench_command
from inril_core.calibration import command as calibrate_command
from inril_core.classifier import command as classifier_command
from inril_core.errors import ConfigError, InrilError
from inril_core.finetune import DEFAULT_PRESET

# Modules that are slow to import are imported where they are used: a person waits for `inril disarm`.
if TYPE_CHECKING:
    from inril_bringup.graph import Graph, ResolvedGraph, Value

EXIT_CODES = """exit code: 0: done (`up`, `demos`, `demo`: the plan is finished); 1: an error, which is printed;
2: unknown command or option, or data that `calibrate` refuses; 130: Ctrl-C; 128 + N: signal N"""


def main(words: Sequence[str] | None = None) -> None:
    """Entry point: run a command and exit with its code; what a user can fix is told without traceback."""
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
        f"  inril status\n\n`inril COMMAND --help` says more.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-n",
        "--namespace",
        default="",
        type=lambda text: text.strip("/"),
        help="namespace of the graph (namespace:= of inril up); give it before COMMAND; default: the root",
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
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_running(commands: argparse._SubParsersAction) -> None:
    folder = Path(__file__).parent / "graphs"
    graphs = ", ".join(sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "nodes"))
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
    demos.add_argument("--count", type=int, required=True, help="total number of episodes, successful or not")
    demos.add_argument("--run-dir", type=Path, required=True, help="folder of this run")
    demos.add_argument(
        "--arm-at-start",
        action="store_true",
        help="simulated cell only; a person arms a real arm (inril arm)",
    )
    demos.add_argument("values", nargs="*", metavar="NAME:=VALUE", help="other arguments of the graph")

    teleop_check.add_arguments(
        _add(commands, "teleop-check", teleop_check.run, teleop_check.SUMMARY, *teleop_check.EXAMPLES)
    )
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
    pretrain.add_argument(
        "--seed", type=int, default=0, help="seed of initial weights and batches (default: %(default)s)"
    )
    pretrain.add_argument(
        "--run-dir", type=Path, default=None, help="run that will use the policy; its id is written into the file"
    )

    whole = _add(
        commands,
        "demo",
        _demo,
        "run everything on the simulated arm: demonstrate, pre-train, fine-tune, report",
        "",
        "--run-dir runs/mine --seed 1",
        "--obs pixels --demos 20 --eval-episodes 20 --real-time-seconds 0",
    )
    _add_demo(whole)

    bench = _add(commands, "bench", _bench, bench_command.SUMMARY, *bench_command.EXAMPLES)
    bench_command.add_arguments(bench)


def _add_operating(commands: argparse._SubParsersAction) -> None:
    data_command.add_arguments(_add(commands, "data", data_command.run, data_command.SUMMARY, *data_command.EXAMPLES))

    devices = _add(commands, "devices", devices_command.run, devices_command.SUMMARY, *devices_command.EXAMPLES)
    devices_command.add_arguments(devices)
    camera = _add(commands, "camera", camera_command.run, camera_command.SUMMARY, *camera_command.EXAMPLES)
    camera_command.add_arguments(camera)
    calibrate = _add(
        commands, "calibrate", calibrate_command.run, calibrate_command.SUMMARY, *calibrate_command.EXAMPLES
    )
    calibrate_command.add_arguments(calibrate)
    classifier = _add(
        commands, "classifier", classifier_command.run, classifier_command.SUMMARY, *classifier_command.EXAMPLES
    )
    classifier_command.add_arguments(classifier)
    evaluate_command.add_arguments(
        _add(commands, "evaluate", evaluate_command.run, evaluate_command.SUMMARY, *evaluate_command.EXAMPLES)
    )

    check = _add(
        commands,
        "preflight",
        _preflight,
        "check this machine, and a graph's arm, before a run; exit code 1 on FAIL",
        "",
        "arm.yaml arm:=franky contract:=one_leg_low",
    )
    check.add_argument("words", nargs="*", metavar="GRAPH NAME:=VALUE", help="was its arm driven by hand lately?")
    check.add_argument(
        "--run-dir", type=Path, default=Path("runs"), help="where runs are written (default: %(default)s)"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    state = _add(commands, "status", _status, "print the state of the running graph once", "", "--json")
    state.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    for name, run, summary in (
        ("arm", _arm, "arm the arm; look at it first"),
        ("disarm", _disarm, "disarm the arm: it holds where it is"),
        ("down", _down, "stop the graph that runs on this machine, in order, as Ctrl-C does"),
    ):
        asked = _add(commands, name, run, summary, "", "--run-dir runs/mine")
        asked.add_argument("--run-dir", type=Path, default=None, help="act only if the graph belongs to this run")

    back = _add(
        commands,
        "rollback",
        _rollback,
        "act with an earlier version of the weights and stay with it",
        "--run-id demo-1a2b3c4d --n 4",
    )
    back.add_argument("--run-id", required=True, help="run of the version (inril status)")
    back.add_argument("--n", type=int, required=True, help="number of the version in its run")
    _add(commands, "unpin", _unpin, "accept new versions again after a rollback", "")

    episode_commands.add(commands, _add)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=None,
        help="folder of the run (default: a new one below runs/); an interrupted run goes on where it stopped",
    )
    parser.add_argument("--preset", default=DEFAULT_PRESET, help="fine-tuning preset (default: %(default)s)")
    parser.add_argument(
        "--obs",
        choices=("state", "pixels"),
        default="state",
        help="what the policy is given: poses of the parts, or two rendered pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--part-noise",
        default="",
        metavar="YAML",
        help="see the parts as a tracker does, e.g. '{position_m: 0.001, rotation_rad: 0.017, delay_s: 0.05, "
        "rate_hz: 30, smoothing_s: 0.1}'",
    )
    parser.add_argument("--demos", type=int, help="demonstrations to record (default: 12, or 60 from pixels)")
    parser.add_argument("--steps", type=int, default=None, help="training steps (default: the preset's budget)")
    parser.add_argument(
        "--eval-episodes",
        type=int,
        default=100,
        help="evaluation episodes before and after fine-tuning (default: %(default)s)",
    )
    parser.add_argument(
        "--real-time-seconds", type=int, default=30, help="length of the part in real time, s (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of demonstrations and training (default: %(default)s)"
    )


def _show(graph: Graph) -> None:
    print(f"{graph.name}: {graph.description}\nnodes: {', '.join(graph.nodes)}\narguments (NAME:=VALUE):")
    for name, argument in graph.arguments.items():
        unset = "required" if argument.required else "not set"
        default = unset if argument.default is None else f"default: {argument.default}"
        only = "; simulated cell only" if argument.simulation_only else ""
        print(f"  {name} ({argument.allowed}; {default}{only})")
        print(f"      {argument.description}")


def _start(graph: Graph, values: dict[str, Value]) -> int:
    from inril_bringup.starting import prepare
    from inril_bringup.supervisor import supervise

    start = prepare(graph.resolve(values))
    if "console_node" in start.graph.nodes:
        print(f"the console: {_console_address(start.graph)}", flush=True)
    return supervise(start)


def _console_address(graph: ResolvedGraph) -> str:
    """Where to open the page. The token stands behind the #, which no browser sends and no server logs."""
    from inril_core.console.access import load_or_create_token
    from inril_core.run import RunPaths

    token = load_or_create_token(RunPaths(graph.run_dir).console_token)
    host = str(graph.arguments["console_host"])
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(
        host, f"[{host}]" if ":" in host else host
    )
    return f"http://{shown}:{graph.arguments['console_port']}/#token={token.reveal}"


def _up(arguments: argparse.Namespace) -> int:
    from inril_bringup.graph import load_graph, parse_values

    graph = load_graph(arguments.graph)
    if arguments.show_args:
        _show(graph)
        return 0
    return _start(graph, _in_namespace(arguments, parse_values(arguments.values)))


def _in_namespace(arguments: argparse.Namespace, values: dict[str, Value]) -> dict[str, Value]:
    """`inril -n left up ...` and `inril up ... namespace:=left` are the same."""
    if not arguments.namespace:
        return values
    if "namespace" in values:
        raise ConfigError("namespace:= and --namespace are both given; give one")
    return values | {"namespace": arguments.namespace}


def _demos(arguments: argparse.Namespace) -> int:
    if arguments.count < 1:
        raise ConfigError(f"--count = {arguments.count}; give 1 or more")
    from inril_bringup.graph import load_graph, parse_values

    own: dict[str, Value] = {"run_dir": str(arguments.run_dir), "plan": f"demo:{arguments.count}:episodes"}
    own |= {"arm_at_start": True} if arguments.arm_at_start else {}
    given = parse_values(arguments.values)
    for name in own.keys() & given.keys():
        raise ConfigError(
            f"{name}:= is set by an option of `inril demos`; to set it yourself use `inril up collect_demos`"
        )
    return _start(load_graph("collect_demos"), _in_namespace(arguments, own | given))


def _demo(arguments: argparse.Namespace) -> int:
    from inril_bringup import demo

    return demo.run(arguments)


def _pretrain(arguments: argparse.Namespace) -> int:
    from inril_bringup.pretrain import pretrain

    return pretrain(arguments)


def _bench(arguments: argparse.Namespace) -> int:
    return bench_command.run(arguments)


def _preflight(arguments: argparse.Namespace) -> int:
    from inril_bringup import preflight

    quiet = arguments.json
    checks = preflight.run_checks(
        arguments.run_dir,
        lambda check: None if quiet else print(preflight.line(check), flush=True),
        arguments.namespace,
        arguments.words,
    )
    if quiet:
        print(json.dumps(preflight.as_dict(checks)))
    return 1 if any(check.level == "FAIL" for check in checks) else 0


def _status(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    states = operate.status(arguments.namespace)
    if arguments.json:
        print(json.dumps({"stamp_s": time.time(), **states}))
    else:
        print("\n".join(operate.describe(states)))
    return 0 if any(states.values()) else 1


def _arm(arguments: argparse.Namespace) -> int:
    return _ask_at_once(arguments, "arm")


def _disarm(arguments: argparse.Namespace) -> int:
    return _ask_at_once(arguments, "disarm")


def _ask_at_once(arguments: argparse.Namespace, ask: str) -> int:
    """Over the control socket of a graph on this machine; what that cannot do is `operate`'s, over DDS."""
    from inril_bringup import control

    graph = control.here(arguments.namespace, arguments.run_dir)
    if graph is not None:
        try:
            print(graph.ask(ask))
            return 0
        except control.NoArbiter as error:
            print(f"inril {ask}: {error}", file=sys.stderr, flush=True)
    from inril_bringup import operate

    print(getattr(operate, ask)(arguments.namespace, graph))
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from inril_bringup import control

    print(control.down(arguments.namespace, arguments.run_dir))
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    print(operate.roll_back(arguments.namespace, arguments.run_id, arguments.n))
    return 0


def _unpin(arguments: argparse.Namespace) -> int:
    from inril_bringup import operate

    print(operate.unpin(arguments.namespace))
    return 0


if __name__ == "__main__":
    main()
