"""What can be known to be wrong before the first process of a graph is started."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from inril_bringup.driven_arm import require_check
from inril_bringup.graph import NodeSpec, ResolvedGraph
from inril_bringup.programs import node_program
from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError
from inril_core.hardware.arms.base import arm_config
from inril_core.hardware.cameras.base import camera_configs, least_sizes
from inril_core.run import RunPaths, default_key_path
from inril_core.safety.takeover import HandBack, Mode, TakeoverConfig
from inril_core.session.ledger import Ledger
from inril_core.session.plan import parse_plan
from inril_core.teleop import DeviceConfig, device_config

OVERRIDE = "without_calibration"
_SIGNERS = {"policy_node", "learner_node"}
"""Executables that need the key of the weights."""


def check(graph: ResolvedGraph) -> None:
    """Read what the nodes will read: programs, contract, hardware, plan, run folder, preset, other inputs and key.

    Raises:
        ConfigError: one of them is wrong; the nodes would say so too, one by one, in their logs.
    """
    _check_programs(graph)
    given = graph.arguments
    contract = load_contract(str(given["contract"])) if given.get("contract") is not None else None
    takeover = None
    if given.get("takeover") is not None and given.get("hand_back") is not None:
        takeover = TakeoverConfig(Mode(str(given["takeover"])), HandBack(str(given["hand_back"])))
    for node in graph.nodes.values():
        if node.executable == "teleop_node":
            _check_teleoperation(graph, node, contract, takeover)
    _check_hardware(graph, contract)
    if contract is not None:
        _check_calibrations(graph, contract)
        require_check(graph, contract)
    _check_run_dir(graph.run_dir)
    if given.get("plan") is not None:
        plan = parse_plan(str(given["plan"]))
        session = RunPaths(graph.run_dir).session
        if session.exists():
            Ledger(session).check_plan(plan)
    if given.get("preset") is not None:
        from inril_core.finetune.config import load_config

        _check_device(load_config(str(given["preset"])), str(given["preset"]))
    if "console_node" in graph.nodes:
        _check_console(str(given["console_host"]), int(str(given["console_port"])), str(given.get("urdf") or ""))
    _check_input(graph, "demos", lambda path: _check_demos(path, contract))
    _check_input(graph, "initial_weights", lambda path: _check_weights(path, contract))
    if any(node.executable in _SIGNERS for node in graph.nodes.values()):
        _check_key(graph.run_dir)


def _check_takeover(name: str, device: DeviceConfig, takeover: TakeoverConfig) -> None:
    if device.moves_by_grab and takeover.mode is Mode.TOGGLE:
        raise ConfigError(
            f"takeover = 'toggle' with device = {name!r}: it moves the arm only while it is grabbed, and to grab it "
            "once more would give control back to the policy; leave takeover out"
        )
    if device.gives_back_explicitly and takeover.hand_back is HandBack.LET_GO:
        raise ConfigError(
            f"hand_back = 'let_go' with device = {name!r}: the person says there when the policy goes on, and letting "
            "go is no such word; leave hand_back out"
        )


def _check_teleoperation(
    graph: ResolvedGraph, node: NodeSpec, contract: Contract | None, takeover: TakeoverConfig | None
) -> None:
    name = str(node.parameters.get("device", ""))
    device = device_config(name, str(node.parameters.get("device_settings", "")))
    device.refuse_arm(name, graph.simulated)
    if takeover is not None:
        _check_takeover(name, device, takeover)
    if contract is not None:
        device.build(contract)  # reads its mapping file, compares its speeds with the contract


def _check_programs(graph: ResolvedGraph) -> None:
    for name, node in graph.nodes.items():
        if node.command is not None:
            try:
                node_program(node, os.environ)
            except ConfigError as error:
                raise ConfigError(f"graph {graph.name}: nodes.{name}: {error}") from error
        elif not _exists(f"{node.package}.{node.executable}"):
            raise ConfigError(
                f"graph {graph.name}: nodes.{name}: there is no Python module {node.package}.{node.executable} in "
                "inril's environment; install the package there, or start it from a sourced workspace, with "
                f"`command: [ros2, run, {node.package}, {node.executable}]` and `environment: inherit` instead"
            )


def _check_hardware(graph: ResolvedGraph, contract: Contract | None) -> None:
    """Arm and cameras of the nodes that make them by name."""
    for node in graph.nodes.values():
        if (node.package, node.executable) == ("inril_hardware", "sim_cell"):
            settings = node.parameters
            arm_config(str(settings.get("arm", "simulated")), str(settings.get("arm_settings", "")))
        if node.package == "inril_hardware" and contract is not None:
            sizes = least_sizes(contract)
            for name, config in camera_configs(contract, str(node.parameters.get("cameras", ""))).items():
                if not config.of_the_cell:
                    config.build(name, *sizes[name], None)  # says which package is missing


def _check_calibrations(graph: ResolvedGraph, contract: Contract) -> None:
    """Those that the contract names: there, of these cameras, young enough, and not found wrong since."""
    without = [name.strip() for name in str(graph.arguments.get(OVERRIDE) or "").split(",") if name.strip()]
    if not contract.calibration and not without:
        return
    from datetime import UTC, datetime

    from inril_core.calibration.gate import require

    configs = camera_configs(contract, str(graph.arguments.get("cameras") or ""))
    serials = {name: str(getattr(config, "serial", "") or "") for name, config in configs.items()}
    require(contract, Path(str(graph.arguments["calibration"])), serials, without, datetime.now(UTC))


def _check_console(host: str, port: int, urdf: str) -> None:
    """The page's address is free, and the arm that it draws can be read."""
    from inril_core.console.server import bound_socket
    from inril_core.hardware.description import robot_description

    bound_socket(host, port).close()
    robot_description(urdf)


def _exists(program: str) -> bool:
    try:
        return importlib.util.find_spec(program) is not None
    except ModuleNotFoundError:
        return False


def _check_run_dir(run_dir: Path) -> None:
    existing = next(path for path in (run_dir, *run_dir.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise ConfigError(f"run_dir = {run_dir}: {existing} is not a folder; give another run_dir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"run_dir = {run_dir}: {existing} cannot be written; give a folder that you may write to")
    if len(os.fsencode(run_dir.name)) > 255:
        raise ConfigError(f"run_dir = {run_dir}: the name is longer than 255 bytes; give a shorter one")


def _check_input(graph: ResolvedGraph, name: str, look: Callable[[Path], None]) -> None:
    value = graph.arguments.get(name)
    if value is None:
        return
    path = Path(str(value))
    if not path.exists():
        raise ConfigError(f"graph {graph.name}: {name} = {path}: is not there; give an existing path")
    try:
        look(path)
    except ConfigError as error:
        raise ConfigError(f"graph {graph.name}: {name} = {path}: {error}") from error


def _check_demos(path: Path, contract: Contract | None) -> None:
    """The list of demonstrations and the first that can be read: to read all takes the learner long enough."""
    from inril_core.data import EpisodeStore, EpisodeUnreadable, read_episode
    from inril_core.data.index import EpisodeIndex

    if not path.is_dir():
        raise ConfigError("is a file; give the run folder that the demonstrations were recorded in")
    folder = RunPaths(path).episodes
    index, store, unreadable = EpisodeIndex(folder), EpisodeStore(folder), ""
    for entry in index.entries:
        if entry.purpose != "demo" or not entry.steps or index.dropped(entry.episode_id):
            continue
        try:
            demo = read_episode(store.path(entry.episode_id), images=False)
        except EpisodeUnreadable as error:
            unreadable = f"; {error}"
            continue
        if contract is not None and demo.interface_digest != contract.interface_digest:
            raise ConfigError(f"recorded under another interface than contract {contract.task}; give their contract")
        return
    raise ConfigError(f"no demonstrations in {folder}; record some with `inril demos`{unreadable}")


def _check_weights(path: Path, contract: Contract | None) -> None:
    from inril_core.policies import load_policy

    if path.is_dir():
        raise ConfigError("is a folder; give the file that `inril pretrain --out` wrote")
    _, facts = load_policy(path)
    if contract is not None and facts.get("interface_digest") != contract.interface_digest:
        raise ConfigError(
            f"made for another interface than contract {contract.task}; pre-train again under this contract"
        )


def _check_device(config: object, preset: str) -> None:
    if getattr(getattr(config, "compute", None), "device", "cpu") == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                f"preset = {preset}: compute.device = 'cuda', and torch {torch.__version__} finds no GPU (nvidia-smi "
                "lists what the driver sees); install a CUDA build of the same version, or set compute.device: cpu"
            )


def _check_key(run_dir: Path) -> None:
    """The key is there or can be made, and is the one that signed what the run has kept."""
    import numpy as np

    from inril_core.weights import WeightsRefused, load_or_create_key, unpack
    from inril_core.weights.store import WeightStore

    path = default_key_path()
    try:
        key = load_or_create_key(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; or set INRIL_KEY to the path of a key elsewhere") from error
    weights = RunPaths(run_dir).weights
    if weights.exists():
        store = WeightStore(weights)
        kept = store.active()
        if kept is None:
            return
        if not kept.offer.is_signed(key):
            raise ConfigError(
                f"run_dir = {run_dir}: kept weights are signed with another key than {path}: set INRIL_KEY to the key "
                "that the run was begun with"
            )
        try:
            unpack(store.read(kept, np.empty(kept.size_bytes, np.uint8)).data)
        except WeightsRefused as error:
            text = f"run_dir = {run_dir}: kept weights: {error}; restore the file, or give a new run_dir"
            raise ConfigError(text) from error
