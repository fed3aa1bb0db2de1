"""How many updates a second a preset's learner makes while nothing runs beside it.

python -m inril_core.bench.learner_alone weighted_sum --seconds 20
"""

import argparse
import tempfile
import time
from pathlib import Path

from inril_core.bench.speed_task import filled_learner
from inril_core.finetune import DEFAULT_PRESET
from inril_core.finetune.config import load_config, preset_names
from inril_core.networks.compute import use_one_thread

WARM_UPDATES = 100


def updates_per_s(preset: str, seconds: float) -> float:
    """Of wall time, by one thread, over about ``seconds``."""
    with tempfile.TemporaryDirectory(prefix="inril-learner-alone-") as folder:
        learner = filled_learner(load_config(preset), Path(folder))
        for _ in range(WARM_UPDATES):
            learner.train_step()
        began_s, before = time.monotonic(), learner.updates
        while time.monotonic() - began_s < seconds and learner.updates < learner.updates_due:
            learner.train_step()
        return (learner.updates - before) / (time.monotonic() - began_s)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", nargs="?", default=DEFAULT_PRESET, choices=preset_names())
    parser.add_argument("--seconds", type=float, default=20.0, help="default: %(default)s")
    arguments = parser.parse_args()
    use_one_thread()
    print(f"{updates_per_s(arguments.preset, arguments.seconds):.1f}")


if __name__ == "__main__":
    main()
