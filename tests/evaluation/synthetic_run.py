"""A made-up run directory with the files that the nodes write: some of them real recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from inril_core.experts.insert_leg import ScriptedExpert
from inril_msgs.msg import EpisodeEvent, Observation

from inril_core.data.finalise import finalise
from inril_core.data.index import EpisodeIndex
from inril_core.run import RunPaths
from inril_core.session.ledger import EpisodeResult
from inril_core.tasks.families.cell import CellEnv
from inril_core.weights.log import LOG_NAME, ActingLine, OfferLine
from tests.data.synthetic import CONTRACT, Synthetic, fill

BEGAN_UNIX_S = 1_780_000_000.0


class Recorded(Synthetic):
    """An episode with given simulator states, and with stamps and link ages as real time gives them."""

    def __init__(self, qpos: np.ndarray | None, success: bool, jitter_s: float = 0.0, **fields: Any) -> None:
        super().__init__(label=EpisodeEvent.LABEL_SUCCESS if success else EpisodeEvent.LABEL_FAILURE, **fields)
        self.success = success
        if qpos is not None:
            self.arrays["qpos"] = qpos
        rng = np.random.default_rng(self.seed)
        self._late_ns = (np.abs(rng.normal(scale=jitter_s, size=self.steps + 1)) * 1e9).astype(np.int64)
        self.ages_s = np.abs(rng.normal(0.012, 0.004, (self.steps + 1, 3))).astype(np.float32)
        self.ages_s[:, 2] = np.nan

    def stamp_ns(self, step: int) -> int:
        """Of the observation of a step."""
        return super().stamp_ns(step) + int(self._late_ns[step])

    def observation(self, step: int) -> Observation:
        """As recorded in a segment at real time."""
        message = fill(super().observation(step), self.stamp_ns(step), link_age_s=self.ages_s[step])
        if step == self.steps:
            message.outcome.success = self.success
        return message


class RunBuilder:
    """Writes a run directory piece by piece."""

    def __init__(self, root: Path, run_id: str = "demo-0a1b2c3d") -> None:
        self.paths = RunPaths(root)
        root.mkdir(parents=True, exist_ok=True)
        (root / "run.json").write_text(json.dumps({"run_id": run_id}))
        self._now_s = BEGAN_UNIX_S
        self._count = 0

    def segment(
        self,
        index: int,
        name: str,
        successes: Sequence[bool],
        seeds: Sequence[int],
        steps: Sequence[int],
        **fields: Any,
    ) -> list[EpisodeResult]:
        """Append a segment's episodes to the ledger."""
        purpose = name.split(":")[0]
        results = []
        for number, (success, seed, length) in enumerate(zip(successes, seeds, steps, strict=True)):
            duration_s = length * (0.1 if name.endswith("seconds") else 0.008)
            self._now_s += duration_s + 0.02
            facts: dict[str, Any] = {
                "segment_index": index,
                "segment": name,
                "index": number,
                "episode_id": f"demo-{index}-{purpose}-{number:05d}",
                "purpose": purpose,
                "seed": seed,
                "steps": length,
                "success": success,
                "terminated": success,
                "source": "cell" if success else "episode_length",
                "reason": "leg_seated_and_turned" if success else "100 steps",
                "version_n": self._count // 4,
                "late_ticks": 0,
                "duration_s": duration_s,
                "ended_unix_s": self._now_s,
                "valid": True,
            }
            self._count += purpose == "train"
            results.append(EpisodeResult(**{**facts, **fields}))
        self.lines(self.paths.session, [asdict(result) for result in results])
        return results

    def record(self, result: EpisodeResult, qpos: np.ndarray | None = None, **fields: Any) -> Path:
        """Write the recording of a ledger's episode."""
        synthetic = Recorded(
            qpos,
            result.success,
            steps=result.steps,
            episode_id=result.episode_id,
            purpose=result.purpose,
            seed=result.seed,
            **fields,
        )
        for folder in (self.paths.raw, self.paths.episodes):
            folder.mkdir(exist_ok=True)
        raw = synthetic.record(self.paths.raw)
        finalise(raw, self.paths.episodes, EpisodeIndex(self.paths.episodes))
        return self.paths.episodes / f"{result.episode_id}.mcap"

    def metrics(self, groups: int) -> None:
        """Losses and cosines as a learner logs them."""
        rng = np.random.default_rng(5)
        lines = []
        for group in range(1, groups + 1):
            share = group / groups
            lines.append(
                {
                    "updates": 50 * group,
                    "ingested_steps": 50 * group,
                    "time_unix_s": BEGAN_UNIX_S + group,
                    "rl_loss": -share * 0.9 + 0.05 * rng.normal(),
                    "critic_loss": 0.02 * np.exp(-3 * share) * (1 + 0.2 * rng.normal()),
                    "il_loss": -2.0 - share + 0.1 * rng.normal(),
                    "gradient_cosine": -0.1 + 0.1 * rng.normal(),
                    "step_cosine": max(0.0, 0.05 * rng.normal()),
                    "norm_removed": abs(0.1 * rng.normal()),
                    "q_mean": 0.9 * share,
                    "q_policy": 0.95 * share,
                    "entropy": -3.0 - 2.0 * share,
                }
            )
        self.lines(self.paths.learner / "metrics.jsonl", lines)

    def offers(self, accepted: int, refused: Sequence[str] = ()) -> None:
        """The policy's log of what came to it."""
        lines: list[OfferLine | ActingLine] = []
        for n in range(accepted):
            lines.append(OfferLine(n, "demo-0a1b2c3d", True, "", float(n)))
            lines.append(ActingLine(n, "demo-0a1b2c3d", 300.0 + n % 7 * 60.0, n + 0.4))
        lines += [OfferLine(n, "demo-0a1b2c3d", False, reason, float(n)) for n, reason in enumerate(refused)]
        self.lines(self.paths.weights / LOG_NAME, [asdict(line) for line in lines])

    @staticmethod
    def lines(path: Path, objects: Sequence[dict[str, Any]]) -> None:
        """Append JSON lines."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(json.dumps(value) + "\n" for value in objects)


def rollout(seed: int, noise: float, bias: float, max_steps: int = 100) -> tuple[np.ndarray, bool]:
    """Simulator states float64[T+1, nq] of the scripted expert on a start, and whether it succeeded."""
    env, expert = CellEnv(CONTRACT), ScriptedExpert(CONTRACT, noise=noise, bias=bias, seed=seed)
    observation = env.reset(seed, "eval")
    states = [env.state.qpos]
    while len(states) <= max_steps:
        observation, outcome = env.step(expert.act(observation))
        states.append(env.state.qpos)
        if outcome.terminated or outcome.truncated:
            return np.stack(states), outcome.success
    return np.stack(states), False


def complete_run(root: Path, episodes: int = 100, film_steps: int = 100) -> Path:
    """A run as `make demo` leaves it, with recordings of one start and of the real-time segment."""
    rng = np.random.default_rng(11)
    demos = RunBuilder(root / "demos")
    demos.segment(0, "demo:10:episodes", [True] * 10, range(1_000_000, 1_000_010), rng.integers(45, 70, 10).tolist())
    run = RunBuilder(root)
    failed_state, _ = rollout(0, 0.3, 0.02, film_steps)
    fixed_state, fixed = rollout(0, 0.0, 0.0, film_steps)
    seeds = range(episodes)

    def lengths(successes: Sequence[bool]) -> list[int]:
        return [int(rng.integers(40, 70)) if s else 100 for s in successes]

    won = [False, *(rng.random(episodes - 1) < 0.45).tolist()]
    before = run.segment(0, f"eval:{episodes}:episodes", won, seeds, [len(failed_state) - 1, *lengths(won[1:])])
    run.record(before[0], failed_state)
    chance = np.clip(np.linspace(0.3, 1.05, 150) - 0.25 * np.exp(-(((np.arange(150) - 18) / 10.0) ** 2)), 0, 1)
    won = (rng.random(150) < chance).tolist()
    run.segment(1, "train:9000:steps", won, range(2_000_000, 2_000_150), lengths(won))
    won = [fixed, *(rng.random(episodes - 1) < 0.97).tolist()]
    after = run.segment(2, f"eval:{episodes}:episodes", won, seeds, [len(fixed_state) - 1, *lengths(won[1:])])
    run.record(after[0], fixed_state)
    real_time = run.segment(3, "train:60:seconds", [True] * 11, range(2_000_150, 2_000_161), [55] * 11)
    for result in real_time:
        run.record(result, jitter_s=0.002)
    run.metrics(180)
    run.offers(90, ["version 3 is not above 88, the highest accepted", "signature does not match the key"])
    return root
