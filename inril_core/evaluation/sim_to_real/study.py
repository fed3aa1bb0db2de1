"""`python -m inril_core.evaluation.sim_to_real.study FOLDER`: the sim-to-real study of docs/evaluation.md.

Without a robot, "reality" is another simulated cell, whose arm is late, sticks and is weak, and whose cameras stand
elsewhere, by amounts that are known. Recordings of its scripted expert, with measuring noise, give the physics of a
fitted cell and where the cameras are. Five policies are evaluated by one plan in reality, in the nominal and in the
fitted cell, and the fitted one adds many trials to reality's few. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch

from inril_core.contract import Contract, load_contract
from inril_core.contract.definitions.physics import CameraOffset, CameraRanges, Physics, PhysicsValues
from inril_core.data.episode import Episode
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import Watched, run_locally
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.evaluation.session.outcomes import finished
from inril_core.evaluation.session.plan import FIRST_SEED
from inril_core.evaluation.sim_to_real.cameras import CameraFits, fit_cameras
from inril_core.evaluation.sim_to_real.compare import compare, write_comparison
from inril_core.evaluation.sim_to_real.identify import Fit, Replay, fit
from inril_core.evaluation.sim_to_real.twin import with_physics, write_contract
from inril_core.files import write_atomically
from inril_core.finetune.config import load_config
from inril_core.finetune.local import collect_demos, expert_actor, run_episode
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import save_policy
from inril_core.run import RunPaths
from inril_core.session.plan import episode_seed
from inril_core.tasks.families.cell import CellEnv

TASK = "insert_leg"
REALITY = PhysicsValues(action_delay_s=0.06, joint_friction_nm=4.0, gain_scale=0.8)
DEMOS_N = (1, 3, 6, 12, 24)
"""Of the five policies, each cloned from so many demonstrations."""
RECORDINGS_N, STEPS_N = 6, 20
NOISE_M, NOISE_RAD = 0.0002, 0.001
CAMERA_TASK = "insert_leg_pixels"
"""Its recordings hold images. The cell is the same."""
CAMERAS = {
    "close": CameraOffset((0.008, -0.003, 0.002), (0.004, 0.0175, -0.006)),
    "wrist": CameraOffset((-0.002, 0.003, 0.001), (0.0, -0.01, 0.0175)),
}
"""One degree is 0.0175."""
IMAGE_NOISE, BRIGHTNESS = 5.0, 0.04
"""Of images: standard deviation of each pixel's channels, grey levels, and of each image's brightness, share."""
REAL_STARTS_N, SIMULATED_STARTS_N = 25, 50
_SEEDS = range(FIRST_SEED - 1000, FIRST_SEED - 1000 + RECORDINGS_N)


def make_policies(folder: Path) -> dict[str, str]:
    """Clones from few to many demonstrations of the nominal cell; the files by name."""
    task = CellEnv(load_contract(TASK))
    files = {f"{count} demos": folder / f"cloned_{count}.inril" for count in DEMOS_N}
    demos: list[Episode] = []
    for count, path in zip(DEMOS_N, files.values(), strict=True):
        if path.exists():
            continue
        seeds = [episode_seed("demo", i, 0) for i in range(len(demos), count)]
        demos += collect_demos(task, task.expert(), seeds)
        torch.manual_seed(0)
        policy = pretrain(load_config("weighted_sum"), task.interface, demos[:count])
        facts = {"interface_digest": task.interface.interface_digest, "contract_text": task.interface.text}
        save_policy(path, policy, facts)
    return {name: str(path) for name, path in files.items()}


def record(contract: Contract, seeds: range, rng: np.random.Generator) -> list[Episode]:
    """Episodes of the scripted expert, the tool's poses as they are measured."""
    task = CellEnv(contract)
    expert, episodes = task.expert(), []
    for seed in seeds:
        watched = Watched(task)
        episode = run_episode(watched, expert_actor(expert, seed, contract.action_size), seed, "eval")
        poses = np.array(watched.poses)
        poses[:, :3] += rng.normal(0.0, NOISE_M, (len(poses), 3))
        poses[:, 3:] += rng.normal(0.0, 0.5 * NOISE_RAD, (len(poses), 4))
        poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
        images = {name: _photographed(pixels, rng) for name, pixels in episode.images.items()}
        episodes.append(dataclasses.replace(episode, tool_pose=poses, images=images))
    task.close()
    return episodes


def _photographed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8[n, H, W, 3] as a camera gives them that counts photons and sets its exposure."""
    brightness = 1.0 + rng.normal(0.0, BRIGHTNESS, (len(images), 1, 1, 1))
    noisy = images * brightness + rng.normal(0.0, IMAGE_NOISE, images.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def displaced(contract: Contract, arm: PhysicsValues, cameras: dict[str, CameraOffset]) -> Contract:
    """The same contract, in whose cell arm and cameras differ by known amounts."""
    ranges = {
        name: CameraRanges.model_validate({what: [(v, v) for v in values] for what, values in offset._asdict().items()})
        for name, offset in cameras.items()
    }
    return with_physics(contract, Physics.fixed(**arm._asdict()).model_copy(update={"cameras": ranges}))


def find_cameras(folder: Path, arm: PhysicsValues) -> CameraFits:
    """Where the cameras of reality stand, from images of recordings without the simulator's state, as a robot's are.

    arm: as found, to replay what was recorded.
    """
    nominal = load_contract(CAMERA_TASK)
    recordings = record(displaced(nominal, REALITY, CAMERAS), _SEEDS, np.random.default_rng(1))
    found = fit_cameras(nominal, recordings, Replay(nominal, recordings, STEPS_N).states(arm))
    write_atomically(folder / "cameras.json", (json.dumps(dataclasses.asdict(found), indent=1) + "\n").encode())
    return found


def find_physics(folder: Path, reality: Contract) -> Fit:
    """Fit the nominal cell to recordings of reality, where that is not done yet."""
    path = folder / "fit.json"
    if not path.exists():
        recordings = record(reality, _SEEDS, np.random.default_rng(0))
        found = fit(Replay(load_contract(TASK), recordings, STEPS_N))
        write_atomically(path, (json.dumps(dataclasses.asdict(found), indent=1) + "\n").encode())
    known = json.loads(path.read_bytes())
    return Fit(**{**known, "values": PhysicsValues(*known["values"]), "errors": PhysicsValues(*known["errors"])})


def evaluate(root: Path, contract: Path, policies: dict[str, str], starts_n: int, first_seed: int) -> SessionFolder:
    """One plan in one cell."""
    if not RunPaths(root).evaluation_plan.exists():
        wish = Wish(
            str(contract), policies, list(policies)[0], {"full": starts_n}, difference=0.2, first_seed=first_seed
        )
        make_session(root, wish)
    session = SessionFolder(root)
    run_locally(session, say=lambda line: None)
    session.unseal("the study", "", 0.0, finished(session))
    print(f"{root.name}: {len(session.done)} trials", flush=True)
    return session


def main(folder: Path, only_identify: bool = False) -> None:
    """Recordings, fits, policies, the sessions and what they say of each other."""
    torch.set_num_threads(1)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    nominal = load_contract(TASK)
    contracts = {"nominal": nominal, "reality": with_physics(nominal, Physics.fixed(**REALITY._asdict()))}
    found = find_physics(folder, contracts["reality"])
    print(f"planted {REALITY}\nfound   {found.values}\n+-      {found.errors}\nrms {found}", flush=True)
    cameras = find_cameras(folder, found.values)
    for name, planted in CAMERAS.items():
        print(f"{name}: planted {planted}\n{cameras.found.get(name) or cameras.refused[name]}", flush=True)
    if only_identify:
        return
    policies = make_policies(folder)
    contracts["fitted"] = with_physics(nominal, found.ranges())
    paths = {name: write_contract(folder / f"{name}.yaml", contract) for name, contract in contracts.items()}
    reality = evaluate(folder / "reality", paths["reality"], policies, REAL_STARTS_N, FIRST_SEED)
    for name in ("fitted", "nominal"):
        simulated = evaluate(folder / name, paths[name], policies, REAL_STARTS_N, FIRST_SEED)
        print(write_comparison(folder / name, compare(reality, simulated)), flush=True)
    more = evaluate(folder / "more", paths["fitted"], policies, SIMULATED_STARTS_N, FIRST_SEED + 1000)
    print(write_comparison(folder / "more", compare(reality, SessionFolder(folder / "fitted"), more)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only-identify", action="store_true", help="find what differs, without policies and sessions")
    arguments = parser.parse_args(sys.argv[1:])
    main(arguments.folder, arguments.only_identify)
