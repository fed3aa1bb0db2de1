"""`inril pretrain`: from a run folder of demonstrations to a policy file."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from inril_core.contract import load_contract
from inril_core.files import ResultFile
from inril_core.run import open_run

if TYPE_CHECKING:
    from inril_core.finetune.key_poses import Seen


def pretrain(arguments: argparse.Namespace) -> int:
    """Clone a policy and write it with the facts of how it was made. Returns the exit code.

    The output is opened before the work begins; whatever fails leaves nothing of it behind.
    """
    with ResultFile(arguments.out) as output:
        return _pretrain(arguments, output)


def _pretrain(arguments: argparse.Namespace, output: ResultFile) -> int:
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
    told: Seen | None = None

    def progress(update: int, loss: float) -> None:
        nonlocal last_loss
        last_loss = loss
        if (update + 1) % 500 == 0:
            print(f"pretrain: update {update + 1} of {config.pretrain.updates}, loss {loss:.4f}", flush=True)

    def seen(how_well: Seen) -> None:
        nonlocal told
        told = how_well
        took_s = time.monotonic() - began_s
        fit, cameras = config.pretrain.encoder, len(contract.image_shapes)
        print(f"pretrain: {how_well.in_words()}", flush=True)
        print(
            f"pretrain: fitted in {took_s:.0f} s, {fit.updates * fit.batch * cameras / took_s:.0f} images/s", flush=True
        )

    def encoder_progress(update: int, loss: float) -> None:
        if (update + 1) % 500 == 0:
            print(
                f"pretrain: encoder, update {update + 1} of {config.pretrain.encoder.updates}, loss {loss:.4f}",
                flush=True,
            )

    began_s = time.monotonic()
    policy = clone(config, contract, demos, progress, encoder_progress, seen)
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
    if told is not None:
        facts["encoder"] = asdict(told)
    if arguments.run_dir is not None:
        facts["run_id"] = open_run(arguments.run_dir).run_id
    output.write(policy_bytes(policy, facts))
    print(f"pretrain: wrote {arguments.out}", flush=True)
    return 0
