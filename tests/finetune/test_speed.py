"""The speed report: what fails is shown, what is measured is what ran."""

import numpy as np
import pytest

from inril_core.bench import speed, speed_threads
from inril_core.bench.rounds import median
from inril_core.bench.speed_task import NoiseTask, filled_learner, refill
from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from tests.finetune.point_task import small_config


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One preset that runs and one that does not, two rounds of two updates."""

    def broken():
        raise ConfigError("mystery: no such method")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "UPDATES", 2)
        return speed.measure({"small": small_config, "broken": broken}, 2, tmp_path_factory.mktemp("speed"))


def test_flops_are_counted_and_failures_named(measured) -> None:
    """Pins: a preset that vanishes from the table because it fails; FLOPs of one direction alone."""
    done, failed, peaks = measured
    assert failed == {"broken": "ConfigError: mystery: no such method"}
    critic = 2 * 64 * (4 + 6) * 32 + 2 * 64 * 32 * 32 + 2 * 64 * 32  # one member, forward, batch 64
    assert done["small"].flops > 4 * 3 * critic  # 4 members forward and backward, and the rest
    assert len(done["small"].seconds) == len(done["small"].alone) == 2 and all(len(peak.rates) == 2 for peak in peaks)
    pair = dict.fromkeys(("small", "small" + speed.TORCH, "small" + speed.TWIN), done["small"])
    compiling = dict.fromkeys(("eager", "compiled"), done["small"])
    page = speed.report(measured, dict.fromkeys(speed.PROJECTIONS, done["small"]), compiling, 2, (pair, peaks), {})
    assert "paired by round: 1.000 (1.000 to 1.000)" in page
    assert page.count("| 1.00 | 1.00 to 1.00 |") == 3 and "device `cpu` (no GPU was used)" in page
    assert "| `broken` | failed: ConfigError" in page and "| `small` | " in page
    assert "| projection `conflicting` over none | 1.000 | 1.000 to 1.000 |" in page


def test_a_preset_that_asks_an_expert_is_measured_too(tmp_path) -> None:
    """Pins: DAgger missing from the page, because noise has nobody to ask."""
    learner = filled_learner(load_config("dagger").changed(**{"schedule.replay_capacity": 5000}), tmp_path)
    shown = len(learner.buffers.clones)
    refill(learner, NoiseTask(), 100)
    assert len(learner.buffers.clones) == shown + 100
    learner.train_step()
    assert learner.actor_updates == 1


def test_threads_are_compared_within_a_round_and_left_at_one(tmp_path, monkeypatch) -> None:
    """Pins: a gain over another round's time; a benchmark after which everything takes two cores."""
    used = []
    monkeypatch.setattr(speed_threads, "use_kernel_threads", used.append)
    monkeypatch.setattr(speed_threads, "UPDATES", 2)
    found = speed_threads.measure(["weighted_sum"], 3, tmp_path)
    if not found:
        pytest.skip("no C++ compiler")
    assert {threads: len(seconds) for threads, seconds in found["weighted_sum"].items()} == {1: 3, 2: 3}
    assert used == [1, 2, 2, 1, 1, 2, 2, 1, 1]
    lines = speed_threads.section({"weighted_sum": {1: [0.004, 0.002, 0.008], 2: [0.002, 0.001, 0.004]}})
    assert [line.split(" | ")[1:4] for line in lines[-2:]] == [["1", "250", "1.00"], ["2", "500", "2.00"]]
    assert "Not measured" in speed_threads.section({})[-1]


def test_memory_is_that_of_what_was_allocated(measured) -> None:
    done, *_ = measured
    columns = 27 + 6 + 1 + 1 + 27 + 6
    assert done["small"].replay_bytes == 2 * 100_000 * columns * 4


def test_the_median_of_noise_has_an_interval_around_it() -> None:
    middle, low, high = median([1.0, 2.0, 3.0, 4.0, 5.0, 100.0, 2.5])
    assert low < middle < high and middle == 3.0


def test_the_noise_task_repeats() -> None:
    """Pins: two learners that are compared on different data."""
    first, second = NoiseTask(), NoiseTask()
    assert (first.reset(3) == second.reset(3)).all()
    actions = [task.expert().act(np.zeros(27)) for task in (first, second)]
    assert (actions[0] == actions[1]).all()
    assert (first.step(actions[0])[0] == second.step(actions[1])[0]).all()
