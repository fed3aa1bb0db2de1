"""`python -m inril_core.bench.tracked_parts`: what a tracker's noise, delay and smoothing do to the scripted expert.

It acts on the parts as they are seen, so its successes say whether a task can be done with such poses at all. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from inril_core.bench.cell_speed import score_expert
from inril_core.contract import Contract, load_contract
from inril_core.contract.definitions import PartNoise
from inril_core.experts import ExpertConfig

TAGS = PartNoise(position_m=0.001, rotation_rad=0.01745, delay_s=0.05, dropout=0.02)
"""AprilTags of 20 mm, see `tests/sim/test_part_noise.py`."""
SMOOTHING_S = (0.0, 0.05, 0.1, 0.2, 0.4)


def trackers() -> Iterator[tuple[str, PartNoise]]:
    """Descriptions and settings to compare."""
    yield "exact, at once", PartNoise()
    yield "one image in a control period, not smoothed", TAGS
    for smoothing_s in SMOOTHING_S:
        words = f"smoothed over {smoothing_s:g} s" if smoothing_s else "not smoothed"
        yield f"30 images a second, {words}", TAGS.model_copy(update={"rate_hz": 30.0, "smoothing_s": smoothing_s})


def seen_by(contract: Contract, tracker: PartNoise) -> Contract:
    """The contract with its parts seen so."""
    assert contract.sim is not None
    return contract.model_copy(update={"sim": contract.sim.model_copy(update={"part_noise": tracker})})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contract", default="insert_leg")
    parser.add_argument("--episodes", type=int, default=100, help="starts of each row (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=2000)
    parser.add_argument("--purpose", default="demo", help="whose starts: demo or train (default: %(default)s)")
    given = parser.parse_args()
    contract = load_contract(given.contract)
    print("| parts | successes | 95 % interval | steps, median and longest |\n|---|---|---|---|")
    for words, tracker in trackers():
        made = score_expert(seen_by(contract, tracker), given.episodes, given.first_seed, given.purpose, ExpertConfig())
        interval = f"{made.interval[0]:.2f} to {made.interval[1]:.2f}"
        steps = f"{made.median_steps:.0f}, {made.longest_steps}"
        print(f"| {words} | {made.successes} of {made.episodes} | {interval} | {steps} |", flush=True)


if __name__ == "__main__":
    main()
