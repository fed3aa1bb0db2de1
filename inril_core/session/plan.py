"""The plan of a session: segments of demonstrations, training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from inril_core.errors import ConfigError

PURPOSES = ("demo", "train", "eval")
UNITS = ("episodes", "steps", "seconds")
SEED_BASE = {"eval": 500_000, "demo": 1_000_000, "train": 2_000_000}
SEEDS_PER_RUN_SEED = 10_000


@dataclass(frozen=True)
class Segment:
    """So many episodes, control steps or seconds of one purpose."""

    purpose: str
    amount: int
    unit: str

    @property
    def name(self) -> str:
        """As it is written in the plan."""
        return f"{self.purpose}:{self.amount}:{self.unit}"


def parse_plan(text: str) -> tuple[Segment, ...]:
    """Read a plan such as "eval:100:episodes,train:9000:steps,eval:100:episodes".

    Raises:
        ConfigError: an item is not PURPOSE:AMOUNT:UNIT, or the plan is empty.
    """
    form = (
        f"one or more, separated by commas, of PURPOSE:AMOUNT:UNIT with PURPOSE in {PURPOSES}, "
        f"a whole AMOUNT above 0 and UNIT in {UNITS}"
    )
    segments = []
    for item in text.replace(" ", "").split(","):
        parts = item.split(":")
        if len(parts) != 3 or parts[0] not in PURPOSES or parts[2] not in UNITS or not _is_amount(parts[1]):
            raise ConfigError(f"plan item {item!r}: give {form}")
        if int(parts[1]) == 0:
            raise ConfigError(f"plan item {item!r}: AMOUNT must be above 0")
        segments.append(Segment(parts[0], int(parts[1]), parts[2]))
    return tuple(segments)


def _is_amount(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def episode_seed(purpose: str, index: int, run_seed: int) -> int:
    """Seed of the index-th episode of a purpose.

    Evaluation seeds do not depend on the run: every policy meets the same starts, and nothing is
    tuned on them. Training seeds differ from run to run.
    """
    run_offset = 0 if purpose == "eval" else SEEDS_PER_RUN_SEED * run_seed
    return SEED_BASE[purpose] + run_offset + index
