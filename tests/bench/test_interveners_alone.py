"""What `--interveners` measures: each different intervener once, by its own success, on its own task."""

from inril_core.bench.interveners import measure_interveners
from tests.bench.made import experiment


def test_each_intervener_is_measured_once_and_a_worse_one_is_worse() -> None:
    """Pins: an intervener's settings not passed on; one measured again for each method; methods without one counted."""
    coin = {"kind": "random", "duration": 2}
    methods = {
        "alone": "rl_only",
        "good": {"base": "rlif", "interventions": coin},
        "good_too": {"base": "hg_dagger", "interventions": coin},
        "lost": {"base": "rlif", "interventions": {**coin, "expert": {"noise": 2.0}}},
    }
    good, lost = measure_interveners(experiment(methods=methods, baseline="alone").jobs(), episodes=3)
    assert (good.methods, lost.methods) == (("good", "good_too"), ("lost",))
    assert good.alone.successes == 3 and lost.alone.successes < 3
    assert "expert, noise 2 | " in lost.row and "3 of 3" in good.row
