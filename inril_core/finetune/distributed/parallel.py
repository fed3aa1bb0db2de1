"""A data-parallel learner: the first process owns data and robot, the others follow it.

The leader is a `Learner` that announces what it does; a follower repeats it on a learner of its own, so that all hold
the same memory, draw the same numbers and meet in the averaging of each gradient (`distributed`). What travels is
safetensors with JSON in its header.
"""

import dataclasses
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as torch_distributed
from safetensors.torch import load, save
from torch import Tensor

from inril_core import distributed
from inril_core.contract import ImageShape, Interface
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.finetune.checkpoint import CHECKPOINT_NAME
from inril_core.finetune.config import FineTuneConfig, config_from_values
from inril_core.finetune.contracts import OffPolicyConfig, OnPolicyConfig
from inril_core.finetune.learner import Learner
from inril_core.policies import Policy, policy_from_manifest

_TRAIN, _IDLE, _STOP = -1, -2, -3
_HEARTBEAT_S = 5.0


@dataclass(frozen=True)
class PlainInterface:
    """An `Interface` that arrived from the leader."""

    task: str
    observation_size: int
    action_size: int
    text: str
    interface_digest: str
    deployment_digest: str
    image_shapes: tuple[ImageShape, ...] = ()


def check_distributed(config: FineTuneConfig, processes: int) -> None:
    """Refuse what would not give the numbers of one process.

    Raises:
        ConfigError: a method that was not made for it, or a batch that cannot be cut evenly.
    """
    parts = [("rl", config.rl.method, config.rl.distributed), ("il", config.il.method, config.il.distributed)]
    parts += [("policy", policy.kind, policy.distributed) for policy in (config.policy, *config.policy.within())]
    for part, name, able in parts:
        if not able:
            raise ConfigError(
                f"{part} {name!r} under torchrun: it was not made for several processes (its config does not set "
                f"`distributed`), so {processes} of them might not learn what one does; start one process, or choose "
                f"another {part}"
            )
    rl, rows = config.rl, config.il.batch_rows()
    sizes = {} if rows is None else {"il.batch": rows}
    if isinstance(rl, OffPolicyConfig):
        sizes |= {"rl.batch": rl.batch, "rl.batch * rl.demo_share": round(rl.batch * rl.demo_share)}
    if isinstance(rl, OnPolicyConfig) and rl.rollout_steps // rl.minibatches < processes:
        raise ConfigError(f"rl.rollout_steps / rl.minibatches: must be at least the {processes} processes")
    for name, size in sizes.items():
        if size % processes:
            raise ConfigError(f"{name} = {size}: must be a multiple of the {processes} processes that share it")


def make_learner(
    config: FineTuneConfig, interface: Interface, policy: Policy, demos: Sequence[Episode], run_dir: Path
) -> Learner:
    """A learner; under torchrun one that the other processes follow.

    Raises:
        ConfigError: as `Learner`, and under torchrun as `check_distributed`.
        ProcessLost: the others did not come.
    """
    if not distributed.in_torchrun():
        return Learner(config, interface, policy, demos, run_dir)
    distributed.start()
    return LeadingLearner(config, interface, policy, demos, run_dir)


class LeadingLearner(Learner):
    """The learner of the first process; see `Learner`. Call `stop` at the end, so that the others end too.

    While nothing is to be done a thread tells the others so; without it they would take this process for dead.

    Raises:
        ConfigError: as `Learner` and `check_distributed`.
        ProcessLost: also by every method that trains.
    """

    def __init__(
        self, config: FineTuneConfig, interface: Interface, policy: Policy, demos: Sequence[Episode], run_dir: Path
    ) -> None:
        self._lock = threading.RLock()
        self._resuming = False
        self._stopped = threading.Event()
        try:
            check_distributed(config, distributed.size())
            # first what can be refused: a follower learns only of what is in order
            state = {name: tensor.detach().clone() for name, tensor in policy.state_dict().items()}
            super().__init__(config, interface, policy, demos, run_dir)
        except Exception:
            self.stop()
            raise
        facts = {
            "config": config.model_dump(mode="json"),
            "interface": {field.name: getattr(interface, field.name) for field in dataclasses.fields(PlainInterface)},
            "policy": policy.manifest(),
            "demos": len(demos),
        }
        self._send("begin", facts, state)
        for demo in demos:
            self._send("demo", *_packed(demo))
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _accepted(self, episode: Episode) -> None:
        self._send("ingest", *_packed(episode))

    def _revised(self, episode: Episode) -> None:
        if not self._resuming:  # followers find it in what they resume with
            self._send("revise", *_packed(episode))

    def train_step(self) -> dict[str, float] | None:
        """See `Learner.train_step`; after each group of updates the processes compare notes.

        Raises:
            ProcessLost: another process has ended, or has drifted away.
        """
        with self._lock:
            _announce(_TRAIN)
            metrics = super().train_step()
            if metrics is not None:
                check_agreement(self)
            return metrics

    def published(self, version: int) -> None:
        """See `Learner.published`."""
        self._send("published", {"version": version})
        super().published(version)

    def go_on_from(self, version: int) -> bool:
        """See `Learner.go_on_from`."""
        self._send("go_on_from", {"version": version})
        return super().go_on_from(version)

    def resume(self) -> dict[str, Any]:
        """See `Learner.resume`."""
        self._resuming = True
        try:
            extra = super().resume()
        finally:
            self._resuming = False
        data = (self.run_dir / CHECKPOINT_NAME).read_bytes()
        self._send("resume", {}, {"checkpoint": torch.frombuffer(bytearray(data), dtype=torch.uint8)})
        return extra

    def stop(self) -> None:
        """Let the other processes end. It can be saved afterwards, but not trained."""
        self._stopped.set()
        with self._lock:
            try:
                if distributed.size() > 1:
                    _announce(_STOP)
            except distributed.ProcessLost:
                pass  # gone already

    def _send(self, name: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        data = save(dict(tensors or {}), metadata={"message": json.dumps({"name": name, **facts})})
        with self._lock:
            _announce(len(data))
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            distributed.together(lambda: torch_distributed.broadcast(buffer, 0))

    def _beat(self) -> None:
        while not self._stopped.wait(_HEARTBEAT_S):
            with self._lock:
                try:
                    if not self._stopped.is_set():
                        _announce(_IDLE)
                except distributed.ProcessLost:
                    return  # the next command finds out and says so


def follow() -> None:
    """Repeat what the leader does until it stops; needs no files: all it works on comes from the leader.

    Raises:
        ProcessLost: the leader or another follower has ended or says nothing.
        ConfigError: the leader has other code.
    """
    distributed.start()
    with TemporaryDirectory(prefix="inril-follow-") as folder:
        learner: Learner | None = None
        demos: list[Episode] = []
        begun: dict[str, Any] = {}
        while (length := _awaited()) != _STOP:
            if length == _TRAIN:
                if _begun(learner).train_step() is not None:
                    check_agreement(_begun(learner))
            elif length != _IDLE:
                message, tensors = _received(length)
                name = message.pop("name")
                if name == "begin":
                    begun, demos = {**message, "tensors": tensors}, []
                elif name == "demo":
                    demos.append(_unpacked(message, tensors))
                    if len(demos) == begun["demos"]:
                        learner = _follower(begun, demos, Path(folder))
                else:
                    _repeat(_begun(learner), name, message, tensors)


def check_agreement(learner: Learner) -> None:
    """Compare generator and actor with the leader's.

    Raises:
        ProcessLost: they differ: a method drew other numbers or took another path in one process.
    """
    digest = hashlib.sha256(learner.parts.generator.get_state().numpy().tobytes()).digest()
    flat = learner.parts.actor.value.double()
    mine = torch.tensor([float(int.from_bytes(digest[:6], "big")), float(flat.sum()), float(flat.norm())]).double()
    leaders = mine.clone()
    distributed.together(lambda: torch_distributed.broadcast(leaders, 0))
    # processors of two kinds may round differently; a draw too many is never a matter of rounding
    same = leaders[0] == mine[0] and torch.allclose(leaders[1:], mine[1:], rtol=1e-3, atol=1e-3)
    worst = torch.tensor([0.0 if same else 1.0])
    distributed.together(lambda: torch_distributed.all_reduce(worst))
    if worst > 0.0:
        raise distributed.ProcessLost(
            f"update {learner.updates}: the processes have drifted apart; use the same version of inril and torch on "
            "all machines, and start all of them again"
        )


def _begun(learner: Learner | None) -> Learner:
    if learner is None:
        raise ConfigError("the leader trains before it has begun: it has another version of inril")
    return learner


def _follower(begun: dict[str, Any], demos: Sequence[Episode], folder: Path) -> Learner:
    policy = policy_from_manifest(begun["policy"])
    policy.load_state_dict(begun["tensors"])
    config = config_from_values(begun["config"], "the leader's config")
    return Learner(config, PlainInterface(**begun["interface"]), policy, demos, folder)


def _repeat(learner: Learner, name: str, message: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    if name == "ingest":
        learner.ingest(_unpacked(message, tensors))
    elif name == "revise":
        learner.revise(_unpacked(message, tensors))
    elif name == "published":
        learner.published(message["version"])
    elif name == "go_on_from":
        learner.go_on_from(message["version"])
    elif name == "resume":
        write_atomically(learner.run_dir / CHECKPOINT_NAME, tensors["checkpoint"].numpy().tobytes())
        learner.resume()
    else:
        raise ConfigError(f"the leader says {name!r}: it has another version of inril")


def _announce(what: int) -> None:
    distributed.together(lambda: torch_distributed.broadcast(torch.tensor([what]), 0))


def _awaited() -> int:
    what = torch.zeros(1, dtype=torch.int64)
    distributed.together(lambda: torch_distributed.broadcast(what, 0))
    return int(what)


def _received(length: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    buffer = torch.zeros(length, dtype=torch.uint8)
    distributed.together(lambda: torch_distributed.broadcast(buffer, 0))
    data = buffer.numpy().tobytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # safetensors: length, JSON, tensors
    return json.loads(header["__metadata__"]["message"]), load(data)


def _packed(episode: Episode) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and arrays of an episode; nested arrays as ``field/name``."""
    facts: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for field in dataclasses.fields(episode):
        value = getattr(episode, field.name)
        if isinstance(value, np.ndarray):
            tensors[field.name] = torch.tensor(value)
        elif isinstance(value, Mapping):
            facts[field.name] = {}
            tensors |= {f"{field.name}/{name}": torch.tensor(array) for name, array in value.items()}
        else:
            facts[field.name] = value
    return {"episode": facts}, tensors


def _unpacked(message: dict[str, Any], tensors: dict[str, Tensor]) -> Episode:
    values = dict(message["episode"])
    for key, tensor in tensors.items():
        name, _, inner = key.partition("/")
        if inner:
            values[name][inner] = tensor.numpy()
        else:
            values[name] = tensor.numpy()
    values["policy_run_ids"] = tuple(values["policy_run_ids"])
    values["limits"] = tuple(map(tuple, values["limits"]))
    return Episode(**values)
