"""Episodes of random numbers, as the one reader gives them, and runs of such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.contract import Contract, load_contract
from inril_core.data.episode import Episode
from inril_core.data.index import EpisodeIndex
from inril_core.data.manage import open_run_index
from inril_core.data.select import Selection, selected
from inril_core.exchange.columns import rows_of
from inril_core.exchange.record import record_episode
from inril_core.run import open_run

CONTRACT = load_contract("insert_leg")


def pictures(count: int, seed: int, size: int = 84) -> np.ndarray:
    """Smooth pictures that move, ``uint8[count, size, size, 3]``."""
    y, x = np.mgrid[0:size, 0:size]
    frames = [np.stack([2 * x + 5 * t + 20 * seed, 3 * y, x + y + t], -1) % 256 // 2 for t in range(count)]
    return np.stack(frames).astype(np.uint8)


def make(
    seed: int = 0,
    steps: int = 6,
    contract: Contract = CONTRACT,
    purpose: str = "demo",
    success: bool | None = True,
    images: bool = False,
    answered: bool = False,
    aux: int = 0,
    simulated: bool = True,
    marks: bool = False,
) -> Episode:
    """An episode such as a graph records. answered: a policy answered some of the steps."""
    rng = np.random.default_rng(seed)
    size, width = contract.action_size, contract.state_size
    policy = np.flatnonzero(rng.random(steps) < 0.6) if answered else np.zeros(0, int)
    numbers = rng.normal(size=(steps, size)).astype(np.float32)
    raw, log_prob = np.full((steps, size), np.nan, np.float32), np.full(steps, np.nan, np.float32)
    raw[policy], log_prob[policy] = numbers[policy], numbers[policy, 0]
    chunk_index = np.full(steps, -1, np.int32)
    chunk_index[policy] = policy % 3
    noted = np.full((steps, aux), np.nan, np.float32)
    noted[policy] = 0.5
    n = np.full(steps, -1, np.int64)
    n[policy] = 7
    source = np.where(np.isin(np.arange(steps), policy) & (rng.random(steps) < 0.5), 0, 1).astype(np.uint8)
    turned = Rotation.random(steps + 1, random_state=seed)
    pose = np.concatenate([rng.normal(size=(steps + 1, 3)), turned.as_quat()], 1)
    state = rng.normal(size=(steps + 1, width)).astype(np.float32)
    for name, place in contract.slices().items():
        if name.endswith("rot6d"):
            state[:, place] = turned.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    pixels = pictures(steps + 1, seed)
    apart = np.where(source == 1, rng.random(steps), np.nan).astype(np.float32)
    return Episode(
        episode_id=f"made-{seed}",
        run_id="run",
        task=contract.task,
        purpose=purpose,
        seed=seed,
        explore=False,
        contract_text=contract.text,
        interface_digest=contract.interface_digest,
        deployment_digest=contract.deployment_digest,
        observations=state,
        actions=rng.uniform(-1, 1, (steps, size)).astype(np.float32),
        proposed=rng.uniform(-1, 1, (steps, size)).astype(np.float32),
        raw=raw,
        log_prob=log_prob,
        source=source,
        policy_run_ids=tuple("run" if step in policy else "" for step in range(steps)),
        policy_n=n,
        limits=tuple(("translation_step", "tilt") if row % 3 == 1 else () for row in range(steps)),
        stamps_ns=np.arange(steps + 1, dtype=np.int64) * contract.period_ns + 10**18,
        tool_pose=pose,
        link_age_s=np.where(rng.random((steps + 1, 3)) < 0.2, np.nan, rng.random((steps + 1, 3))).astype(np.float32),
        success=success,
        terminated=success is not None,
        truncated=success is None,
        outcome_source="ada" if success is not None else "session",
        outcome_reason="seated" if success else "",
        complete=True,
        qpos=rng.normal(size=(steps + 1, 16)) if simulated else None,
        images={"front": pixels} if images else {},
        image_steps={"front": np.arange(steps + 1, dtype=np.int32)} if images else {},
        aux=noted if aux and len(policy) else None,
        chunk_index=chunk_index,
        marks=rng.integers(0, 4, steps).astype(np.uint8) if marks else None,
        given_rewards=np.where(np.arange(steps) % 3 == 1, np.nan, 0.25).astype(np.float32) if marks else None,
        # a recording in which no person drove has none at all
        disagreement=apart if marks and np.isfinite(apart).any() else None,
    )


def record_run(run_dir: Path, episodes: list[Episode]) -> Path:
    """A run folder with these recordings."""
    run = open_run(run_dir, "run")
    for folder in (run.paths.raw, run.paths.episodes):
        folder.mkdir(parents=True)
    index = EpisodeIndex(run.paths.episodes)
    for episode in episodes:
        record_episode(episode, run.paths.raw, index, {"test": True}, 1)
    return run_dir


def read_run(run_dir: Path, images: bool = True) -> list[Episode]:
    """All episodes of a run, with what was said of them."""
    return [episode for _, episode in selected(open_run_index(run_dir), Selection(), images)]


def assert_same(found: Episode, wanted: Episode, pixels: bool = True) -> None:
    """Every fact and every array, bit for bit. pixels: of the images, too."""
    left, right = rows_of(found), rows_of(wanted)
    assert left.facts == right.facts
    for table in ("steps", "observations"):
        mine, theirs = getattr(left, table), getattr(right, table)
        assert mine.keys() == theirs.keys()
        for name, values in theirs.items():
            assert mine[name].dtype == values.dtype, name
            np.testing.assert_array_equal(mine[name], values, err_msg=name)
    assert left.images.keys() == right.images.keys()
    for name, (steps, values) in right.images.items():
        np.testing.assert_array_equal(left.images[name][0], steps)
        assert left.images[name][1].shape == values.shape
        if pixels:
            np.testing.assert_array_equal(left.images[name][1], values)
