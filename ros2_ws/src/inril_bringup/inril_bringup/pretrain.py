"""`inril pretrain`: from a run folder of demonstrations to a policy file."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.files import AtomicFile
from inril_core.run import open_run


def pretrain(arguments: argparse.Namespace) -> int:
    """Clone a policy and write it with the facts of how it was made. Returns the exit code.

    The output is opened before the work begins; whatever fails leaves nothing of it behind.
    """
    with Output(arguments.out) as output:
        return _pretrain(arguments, output)


class Output:
    """A file that appears whole at the end of a piece of work, in a folder that is tried before it begins."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser().absolute()
        self._file: AtomicFile | None = None
        self._made: list[Path] = []
        """Folders that were made for it, the innermost first."""

    def __enter__(self) -> Output:
        """Make the folder and open the file.

        Raises:
            ConfigError: that is not possible, or the path is a folder.
        """
        if self._path.is_dir():
            raise ConfigError(f"--out = {self._path}: is a folder; give the name of a file in it")
        folders = (self._path.parent, *self._path.parent.parents)
        self._made = list(takewhile(lambda folder: not os.path.lexists(folder), folders))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AtomicFile(self._path)
        except OSError as error:
            self._clear()
            raise ConfigError(
                f"--out = {self._path}: {error.strerror} ({error.filename}); give a path that you may write to"
            ) from error
        return self

    def write(self, data: bytes) -> None:
        """Put the data in its place.

        Raises:
            ConfigError: the disk is full, or the folder is no longer there.
        """
        try:
            assert self._file is not None
            self._file.commit(data)
        except OSError as error:
            raise ConfigError(
                f"--out = {self._path}: {error.strerror}; free some space, or give another path"
            ) from error
        self._made = []

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._file is not None:
            self._file.close()
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()


def _pretrain(arguments: argparse.Namespace, output: Output) -> int:
    from inril_core.finetune.config import load_config
    from inril_core.finetune.demos import read_demos
    from inril_core.finetune.pretrain import pretrain as clone
    from inril_core.networks.compute import use_one_thread
    from inril_core.policies.files import policy_bytes

    use_one_thread()
    contract = load_contract(arguments.contract)
    config = load_config(arguments.preset).changed(seed=arguments.seed)
    demos = read_demos(arguments.demos, contract, lambda problem: print(f"pretrain: {problem}", flush=True))
    successes = sum(bool(demo.success) for demo in demos)
    steps = sum(demo.steps for demo in demos)
    print(f"pretrain: {len(demos)} demonstrations ({successes} successful), {steps} steps", flush=True)
    last_loss = float("nan")

    def progress(update: int, loss: float) -> None:
        nonlocal last_loss
        last_loss = loss
        if (update + 1) % 500 == 0:
            print(f"pretrain: update {update + 1} of {config.pretrain.updates}, loss {loss:.4f}", flush=True)

    policy = clone(config, contract, demos, progress)
    facts = {
        "preset": config.name,
        "seed": arguments.seed,
        "interface_digest": contract.interface_digest,
        "contract_text": contract.text,
        "demos": len(demos),
        "successful_demos": successes,
        "steps": steps,
        "demo_sha256": [demo.sha256 for demo in demos],
        "updates": config.pretrain.updates,
        "last_loss": last_loss,
    }
    if arguments.run_dir is not None:
        facts["run_id"] = open_run(arguments.run_dir).run_id
    output.write(policy_bytes(policy, facts))
    print(f"pretrain: wrote {arguments.out}", flush=True)
    return 0
