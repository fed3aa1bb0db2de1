"""Serves a policy of LeRobot (ACT, diffusion, SmolVLA, pi0.5, ...) as the base of inril's policies.

    python -m inril_core.exchange.lerobot_policy --policy FOLDER_OR_HUB_ID --contract CONTRACT
    python -m inril_core.exchange.lerobot_policy --policy FOLDER_OR_HUB_ID --map MAP.yaml

It runs in LeRobot's environment; docs/bring_your_own_base.md says what is needed there. The policy and its processors
are loaded in this process, and questions come in inril's own frames: nothing is pickled.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.contract import load_contract
from inril_core.errors import ConfigError, InrilError
from inril_core.exchange.mapping import contract_for, read_map, template
from inril_core.exchange.policy_map import ACTION, Features, PolicyMap, exported_map
from inril_core.policies.ahead import AheadServer
from inril_core.policies.server import Plan, PolicyServer
from inril_core.wire import Array

WEIGHTS = "model.safetensors"
FITS_IMAGES = ("resize_imgs_with_padding", "image_resolution")
"""Settings of policies that bring images to their size by themselves, with padding."""
SMALL = 4096
"""Numbers in a tensor that is compared with the file after loading."""


class LeRobotPolicy:
    """A policy's settings and processors; `load_weights` makes it answer.

    Args:
        source: folder of ``save_pretrained``, or an id on the Hugging Face hub.
        device: of torch, e.g. ``cuda``.
        task: what is to be done, in words, for policies that read it.
        without: image inputs that the policy was trained without; it fills and masks them.

    Raises:
        ConfigError: lerobot or the device cannot be used, or there is no policy that this lerobot can load.
    """

    def __init__(self, source: str, device: str, task: str, without: frozenset[str] = frozenset()) -> None:
        self.source, self.device, self.task = source, device, task
        _check_source(source)
        try:
            from lerobot import policies
            from lerobot.configs.policies import PreTrainedConfig
            from lerobot.policies.factory import get_policy_class, make_pre_post_processors
            from lerobot.utils.import_utils import register_third_party_plugins
        except ImportError as error:
            raise ConfigError(
                f"lerobot cannot be imported by {sys.executable} ({error}); run this with the Python of LeRobot's "
                "environment, see docs/bring_your_own_base.md"
            ) from error
        _check_device(device)
        register_third_party_plugins()
        assert policies  # importing it makes its policies known by name
        try:
            self.config: Any = PreTrainedConfig.from_pretrained(source)
            for setting, value in self._changes().items():
                if hasattr(self.config, setting):
                    setattr(self.config, setting, value)
            self._class: Any = get_policy_class(self.config.type)
            self.before, self.after = make_pre_post_processors(
                self.config, pretrained_path=source, preprocessor_overrides={"device_processor": {"device": device}}
            )
        except Exception as error:  # of lerobot and whatever it uses: another format, no such id, no network
            raise ConfigError(f"--policy {source}: {type(error).__name__}: {error}") from error
        if getattr(self.config, "use_peft", False):
            raise ConfigError(f"--policy {source}: is a PEFT adapter; merge it into its base and save that")
        self.rows = int(getattr(self.config, "n_action_steps", 1))
        self.features = features_of(self.config, self.before, self.after, without)
        self._policy: Any = None

    def load_weights(self) -> None:
        """Load the weights, and check that they are there.

        Raises:
            ConfigError: they are missing, or belong to another policy. Some policies of lerobot would then act with
                random weights.
        """
        from lerobot.policies.pretrained import PreTrainedPolicy

        try:
            file = _weights_file(self.source)
            policy = self._class.from_pretrained(self.source, config=self.config)
            policy.to(self.device)
            policy.eval()
        except Exception as error:
            raise ConfigError(f"--policy {self.source}: {type(error).__name__}: {error}") from error
        plain = self._class.from_pretrained.__func__ is PreTrainedPolicy.from_pretrained.__func__
        _check_weights(policy.state_dict(), file, complete=plain)
        self._policy = policy

    def actions(self, inputs: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
        """``float32[rows, A]`` after the post-processors, from inputs float32[n] and uint8[H, W, 3] by name.

        The policy forgets what it saw before: if it looks at several observations, all of them are this one, as lerobot
        does at the start of an episode. seed: of its noise.
        """
        import torch

        batch: dict[str, Any] = {"task": self.task, "robot_type": ""}
        for key, values in inputs.items():
            tensor = torch.from_numpy(np.array(values))
            batch[key] = (tensor.permute(2, 0, 1).float() / 255.0 if values.dtype == np.uint8 else tensor)[None]
        half = self.device.startswith("cuda") and self.config.use_amp
        with torch.inference_mode(), torch.autocast("cuda") if half else nullcontext():
            torch.manual_seed(seed)
            for part in (self._policy, self.before, self.after):
                part.reset()
            batch = self.before(batch)
            # the first call plans, and the others take from its queue, whatever kind of policy it is
            made = [self.after(self._policy.select_action(dict(batch))) for _ in range(self.rows)]
        return np.asarray(torch.cat(made).float().cpu().numpy())

    def _changes(self) -> dict[str, Any]:
        """Settings that are another here than for lerobot's own loops, for policies that have them."""
        changes: dict[str, Any] = {"device": self.device}
        changes["pretrained_backbone_weights"] = None  # would be downloaded, and then replaced by the policy's own
        changes["temporal_ensemble_coeff"] = None  # mixes plans of successive ticks; a question is answered by one
        changes["rtc_config"] = None  # needs the plan before
        if hasattr(self.config, "chunk_size"):
            changes["n_action_steps"] = self.config.chunk_size  # the client says how many of them are executed
        return changes


def features_of(config: Any, before: Any, after: Any, without: frozenset[str]) -> Features:
    """What a policy takes and gives, by the names that its data had before its processors renamed them.

    Raises:
        ConfigError: an input is of a kind that no contract has, or ``without`` names none.
    """
    old = {new: old for step in before.steps for old, new in (getattr(step, "rename_map", None) or {}).items()}
    stats = _stats(before)
    numbers: dict[str, int] = {}
    images: dict[str, tuple[int, int]] = {}
    means: dict[str, np.ndarray] = {}
    for key, feature in (config.input_features or {}).items():
        name, kind, shape = old.get(key, key), feature.type.name, tuple(feature.shape)
        if kind == "VISUAL":
            if shape[0] != 3:
                raise ConfigError(f"{name}: has {shape[0]} channels; a contract's images have 3")
            if ".empty_camera_" not in key:
                images[name] = (int(shape[1]), int(shape[2]))
        elif kind in ("STATE", "ENV"):
            numbers[name] = int(np.prod(shape))
            if "mean" in stats.get(key, {}):
                means[name] = _numbers(stats[key]["mean"])
                # a policy that pads its state keeps the size that it was made with, whatever data it was tuned on
                numbers[name] = len(means[name])
        elif kind != "LANGUAGE":
            raise ConfigError(f"{name}: a policy's input of kind {kind} has no place in a contract")
    wrong = sorted(without - set(images))
    if wrong:
        raise ConfigError(f"--without {wrong[0]}: the policy has no such image; it has {', '.join(images) or 'none'}")
    action = _stats(after).get(ACTION, {})
    limits = (_numbers(action["min"]), _numbers(action["max"])) if {"min", "max"} <= action.keys() else None
    scales = any(getattr(config, setting, None) for setting in FITS_IMAGES)
    size = int(config.output_features[ACTION].shape[0])
    return Features(numbers, images, size, means, limits, scales, without)


def _stats(processor: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for step in processor.steps:
        found |= getattr(step, "stats", None) or {}
    return found


def _numbers(values: Any) -> np.ndarray:
    values = values.cpu().numpy() if hasattr(values, "cpu") else values
    return np.asarray(values, np.float64).ravel()


def _check_source(source: str) -> None:
    folder = Path(source)
    inner = folder / "pretrained_model"
    if folder.is_dir() and not (folder / "config.json").is_file():
        hint = f"give {inner}" if inner.is_dir() else "give the folder of save_pretrained, with config.json in it"
        raise ConfigError(f"--policy {source}: has no config.json; {hint}")
    if not folder.is_dir() and (folder.exists() or source.count("/") != 1):
        raise ConfigError(f"--policy {source}: is neither a folder nor OWNER/NAME of the Hugging Face hub")


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--device {device}: cannot be used ({reason}); with --device cpu the policy runs without a GPU"
        ) from error


def _weights_file(source: str) -> Path:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / WEIGHTS).is_file():
            raise FileNotFoundError(f"there is no {WEIGHTS}; copy the whole folder of save_pretrained")
        return folder / WEIGHTS
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(source, WEIGHTS))


def _check_weights(state: Mapping[str, Any], file: Path, complete: bool) -> None:
    """Compare small tensors with the file. complete: each tensor of the policy must be in it under its name."""
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        names = {name: name if name in state else f"model.{name}" for name in stored.keys()}  # noqa: SIM118
        there = {name: own for name, own in names.items() if own in state}
        small = [name for name, own in there.items() if state[own].numel() <= SMALL]
        differ = [
            name for name in small if not (stored.get_tensor(name).to(state[there[name]]) == state[there[name]]).all()
        ]
    if not small or differ:
        raise ConfigError(f"{file}: its weights were not loaded (e.g. {(differ or ['none fits'])[0]}); see above")
    known = {state[own].data_ptr() for own in there.values()}
    lacking = [name for name, tensor in state.items() if name not in there.values() and tensor.data_ptr() not in known]
    if complete and lacking:
        raise ConfigError(f"{file}: lacks {len(lacking)} of the policy's tensors, e.g. {lacking[0]}; is it another's?")


def main(arguments: list[str] | None = None) -> int:
    """Serve a policy. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m inril_core.exchange.lerobot_policy", description="serve a policy of LeRobot"
    )
    parser.add_argument("--policy", required=True, help="folder of save_pretrained, or OWNER/NAME on the hub")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--contract", help="the policy was trained on an export of inril for this contract")
    data.add_argument("--map", type=Path, help="what its data mean, as for `inril data import`")
    parser.add_argument("--write-map", type=Path, help="write a mapping to fill in, for --contract, and end")
    parser.add_argument("--address", default="127.0.0.1:7777", help="HOST:PORT; port 0: any free one")
    parser.add_argument("--device", default="cuda", help="of torch")
    parser.add_argument("--chunk", type=int, help="actions in an answer; default: all, with --ahead half of them")
    parser.add_argument("--ahead", action="store_true", help="answer at once with the newest plan, and its age")
    parser.add_argument("--task", help="what is to be done, in words; default: the contract's description")
    parser.add_argument("--without", action="append", default=[], help="image input that it was trained without")
    options = parser.parse_args(arguments)
    try:
        _serve(options)
    except InrilError as error:
        print(f"policy server: {error}", file=sys.stderr)
        return 1
    return 0


def planner(policy: LeRobotPolicy, mapped: PolicyMap) -> Plan:
    """The function for a server. It does not explore: the policy's own noise is all there is."""
    clipped: list[bool] = []

    def plan(observation: Array, explore: bool, rng: np.random.Generator) -> Array:
        actions = policy.actions(mapped.inputs(observation), int(rng.integers(1 << 62)))
        made = mapped.plan(actions, observation)
        beyond = int((np.abs(made) > 1.0).any(1).sum())
        if 2 * beyond > len(made) and not clipped:
            clipped.append(True)
            _say(f"{beyond} of {len(made)} actions are beyond [-1, 1] and are clipped; is action.kind or a unit wrong?")
        return np.clip(made, -1.0, 1.0)

    return plan


def _serve(options: argparse.Namespace) -> None:
    map_ = None if options.map is None else read_map(options.map)
    contract = load_contract(options.contract) if map_ is None else contract_for(map_, options.map)
    task = contract.description if options.task is None else options.task
    policy = LeRobotPolicy(options.policy, options.device, task, frozenset(options.without))
    if options.write_map is not None:
        if map_ is not None:
            raise ConfigError("--write-map: needs --contract, and no --map")
        _write_template(options.write_map, template(options.contract, contract, policy.features.example()))
        return
    mapped = PolicyMap(map_ or exported_map(options.contract, contract, policy.features), contract, policy.features)
    for name in mapped.left_out:
        _say(f"{name} of the mapping is no input of the policy")
    if policy.config.n_obs_steps > 1:
        _say(f"it looks at {policy.config.n_obs_steps} observations; a question has one, which stands for all of them")
    with PolicyServer(lambda *_: None, options.address, 1, 1, 1):
        pass  # an address that cannot be had is told before weights are loaded for minutes
    policy.load_weights()
    plan, period_s, row = planner(policy, mapped), 1.0 / contract.control_rate_hz, mapped.example()
    rows, took_s = 0, 0.0
    for _ in range(2):  # the first one also allocates, and compiles if the policy does
        began_s = time.monotonic()
        rows = len(mapped.plan(policy.actions(mapped.inputs(row), 0), row))
        took_s = time.monotonic() - began_s
    _say(f"{policy.config.type} on {options.device}: {rows} actions in {1e3 * took_s:.0f} ms")
    if took_s > period_s and not options.ahead:
        _say(f"longer than a control period of {1e3 * period_s:.0f} ms; the robot holds meanwhile, see --ahead")
    chunk = (max(1, rows // 2) if options.ahead else rows) if options.chunk is None else options.chunk
    if not 1 <= chunk <= rows:
        raise ConfigError(f"--chunk {chunk}: must be in [1, {rows}], what the policy plans")
    sizes, name = (contract.observation_size, contract.action_size, chunk), policy.config.type
    server = (
        AheadServer(plan, options.address, *sizes, period_s, name)
        if options.ahead
        else PolicyServer(plan, options.address, *sizes, name)
    )
    with server:
        server.run()


def _say(text: str) -> None:
    print(f"policy server: {text}", flush=True)


def _write_template(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"--write-map {path}: {error}; give a new file in a folder that can be written") from error
    print(f"written: {path}; replace each ??? and give it as --map")


if __name__ == "__main__":
    sys.exit(main())
