"""Runs in LeRobot's environment, for `test_lerobot_policy.py`.

python lerobot_act.py make FOLDER                          # an ACT policy with random weights, and its processors
python lerobot_act.py answers FOLDER INPUTS.npz OUT.npz    # what lerobot's own functions make of inputs
python lerobot_act.py refusals COMMANDS.json OUT.json      # exit code and errors of command lines of the server
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

STATE, IMAGE, ACTION = "observation.state", "observation.images.top", "action"
ROWS = 6


def make(folder: Path) -> None:
    """State: position in mm and a quaternion. Action: mm and a rotation vector. One image of 16x16."""
    config = ACTConfig(
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (7,)),
            IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 16, 16)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (6,))},
        device="cpu",
        chunk_size=ROWS,
        n_action_steps=2,
        pretrained_backbone_weights=None,
        dim_model=16,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_decoder_layers=1,
        use_vae=False,
        latent_dim=4,
    )
    torch.manual_seed(0)
    scale = np.array([4.0, 4.0, 4.0, 0.05, 0.05, 0.05], np.float32)
    shape = {"mean": np.full((3, 1, 1), 0.5, np.float32), "std": np.full((3, 1, 1), 0.25, np.float32)}
    quaternion = np.array([0.0, 0.0, 0.0, -1.0], np.float32)
    state = {"mean": np.concatenate([np.full(3, 300.0, np.float32), quaternion]), "std": np.full(7, 50.0, np.float32)}
    action = {"mean": np.zeros(6, np.float32), "std": scale, "min": -3 * scale, "max": 3 * scale}
    stats = {STATE: state, IMAGE: shape, ACTION: action}
    stats = {key: {name: torch.from_numpy(v) for name, v in value.items()} for key, value in stats.items()}
    ACTPolicy(config).save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)


def answers(folder: Path, inputs: Path, out: Path) -> None:
    """The whole chunk, by `predict_action_chunk`."""
    config = PreTrainedConfig.from_pretrained(str(folder))
    policy = ACTPolicy.from_pretrained(str(folder), config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    chunks = []
    with np.load(inputs) as file:
        for state, pixels in zip(file["state"], file["pixels"], strict=True):
            batch = {STATE: torch.from_numpy(state), IMAGE: torch.from_numpy(pixels).permute(2, 0, 1) / 255.0}
            chunk = policy.predict_action_chunk(before({**batch, "task": ""}))
            chunks.append(torch.stack([after(chunk[:, row])[0] for row in range(chunk.shape[1])]).numpy())
    np.savez(out, actions=np.stack(chunks))


def refusals(commands: Path, out: Path) -> None:
    """Each command line in this process, since importing lerobot takes long."""
    from inril_core.exchange.lerobot_policy import main

    found = []
    for words in json.loads(commands.read_text()):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
        found.append({"code": code, "errors": errors.getvalue()})
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    {"make": make, "answers": answers, "refusals": refusals}[what](*map(Path, paths))
