"""A short run of every packaged preset, and what came of it.

    python -m tests.finetune.preset_runs            # one line per preset: SHA-256 of everything that training changed
    python -m tests.finetune.preset_runs --write    # also write the summaries that test_presets_repeat.py compares with
    python -m tests.finetune.preset_runs --write csil rlif  # of these presets alone; the others' stay as they are

The summaries hold on other machines within rounding; the SHA-256 is for two versions of the code on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from inril_core.finetune.config import FineTuneConfig, load_config, preset_names
from inril_core.finetune.local import collect_demos, fine_tune
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.compute import use_one_thread
from tests.finetune.planned_point import PlannedPoint

SUMMARIES = Path(__file__).with_name("preset_runs.json")
CHUNKED = {
    "chunk": 2, "hidden": [24], "time_size": 4, "denoising_steps": 5, "inference": "posterior", "std_floor": 0.05,
}  # fmt: skip
HETSTAT = {"kind": "hetstat", "hidden": [16], "features": 16, "bottleneck": 4, "mean": "trunk"}
POLICIES: dict[str, dict[str, Any]] = {
    "gaussian": {"kind": "gaussian", "hidden": [16]},
    "hetstat": HETSTAT,
    "diffusion": {"kind": "diffusion", "finetuned_steps": 3, **CHUNKED},
    "selected_diffusion": {"kind": "selected_diffusion", "candidates": 3, "critic_hidden": [16], **CHUNKED},
}
RESIDUALS: dict[str, dict[str, Any]] = {
    "interleave_network": {"base": POLICIES["gaussian"]},
    "residual_ppo": {"base": POLICIES["gaussian"], "scale": 0.3},
    "residual_ppo_network": {"base": POLICIES["gaussian"], "scale": 0.3},
    "csilpp_average": {"mode": "average", "base": POLICIES["gaussian"], "learned": HETSTAT, "freeze_base": True},
    "edit_base": {"base": POLICIES["diffusion"], "freeze_base": True, "scale": 0.5, "base_delay_steps": 1},
    "csilpp_residual": {"base": POLICIES["gaussian"], "learned": HETSTAT, "freeze_base": True, "scale": 0.3},
}
OFF_POLICY = {"schedule.warmup_steps": 30, "schedule.critic_warmup_updates": 8, "schedule.utd": 0.6, "rl.batch": 16}
ON_POLICY = {"rl.rollout_steps": 30, "rl.epochs": 2, "rl.minibatches": 2}
HELPED = {"rlif": "random", "hg_dagger": "random", "dagger": "none"}


def small(name: str) -> FineTuneConfig:
    """The preset with small networks and a short schedule; how it learns is not touched."""
    preset = load_config(name)
    on_policy = "rollout_steps" in type(preset.rl).model_fields
    policy = POLICIES.get(preset.policy.kind) or {"kind": "residual", "hidden": [16], **RESIDUALS[name]}
    changes: dict[str, Any] = {
        "policy": policy,
        "pretrain.updates": 30,
        "pretrain.batch": 16,
        "il.batch": 16,
        # the residual's spread hides the few successes of so short a run
        "schedule.rewards_before_actor": 0 if name == "interleave_network" else 1,
        "schedule.budget_steps": 120,
        "metrics_every_updates": 10,
        **(ON_POLICY if on_policy else OFF_POLICY),
    }
    if "hidden" in type(preset.rl).model_fields:
        changes["rl.hidden"] = [16]
    if "sarsa_updates" in type(preset.rl).model_fields:
        changes["rl.sarsa_updates"] = 10
    if preset.combine.method == "interleave" and on_policy:
        changes |= {"combine.rl_per_il": 2, "combine.il_steps": 3}
    if name in HELPED:
        changes["interventions"] = {"kind": HELPED[name]}
    return preset.changed(**changes)


def run(name: str) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Everything that training changed, by name; and its summary."""
    config, task = small(name), PlannedPoint()
    demos = collect_demos(task, task.expert(), range(20_000, 20_006))
    policy = pretrain(config, task.interface, demos)
    with TemporaryDirectory() as folder:
        learner, curve = fine_tune(config, task, policy, demos, Path(folder), 1000)
        tensors = checkpointed(learner.checkpoint())
    summary = {
        "updates": float(learner.updates),
        "actor_updates": float(learner.actor_updates),
        "successes": float(sum(success for _, success in curve.episodes)),
        "policy_norm": norm(tensors, "policy/"),
        "rl_norm": norm(tensors, "rl/"),
        "combine_norm": norm(tensors, "combine/"),
    }
    losses = ("rl_loss", "il_loss", "critic_loss", "q_mean")
    summary |= {name: learner.last_metrics[name] for name in losses if name in learner.last_metrics}
    return tensors, summary


def checkpointed(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint that training changed."""
    from safetensors.torch import load_file

    parts = ("policy/", "rl/", "combine/", "generator/", "replay/", "demos/", "clones/")
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith(parts)}


def norm(tensors: dict[str, Tensor], part: str) -> float:
    """Of all numbers of a part."""
    found = [t.double().reshape(-1) for name, t in sorted(tensors.items()) if name.startswith(part)]
    return float(torch.linalg.vector_norm(torch.cat(found)))


def sha256(tensors: dict[str, Tensor]) -> str:
    """Of names and bytes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(name.encode() + b"\0" + tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def main() -> None:
    """Run every preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PRESET", help="default: all")
    parser.add_argument("--write", action="store_true", help="replace the summaries that the test compares with")
    options = parser.parse_args()
    use_one_thread()
    # a preset that is gone leaves no summary behind
    kept = json.loads(SUMMARIES.read_text(encoding="utf-8")) if options.names else {}
    summaries = {name: summary for name, summary in kept.items() if name in preset_names()}
    for name in options.names or preset_names():
        tensors, summaries[name] = run(name)
        print(f"{name} {sha256(tensors)}", flush=True)
    if options.write:
        SUMMARIES.write_text(json.dumps(summaries, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
