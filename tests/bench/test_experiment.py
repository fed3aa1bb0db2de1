"""Experiment files: what they mean and what they refuse."""

from pathlib import Path

import pytest

from inril_core.bench.experiment import load_experiment
from inril_core.errors import ConfigError
from tests.bench.made import experiment

FILES = sorted((Path(__file__).parents[2] / "bench").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_in_bench_is_valid(path) -> None:
    """Pins: an experiment that only fails after somebody has waited for it."""
    made = load_experiment(path)
    assert made.name == path.stem
    assert len(made.jobs()) == len(made.tasks) * len(made.methods) * len(made.seeds)


def test_a_method_is_a_preset_or_settings_over_one() -> None:
    """Pins: overrides that replace a whole part, or are lost."""
    made = experiment(methods={"m2": {"base": "interleave", "combine": {"rl_per_il": 2}}}, baseline=None)
    config, plain = made.config("insert_leg", "m2", 3), experiment().config("insert_leg", "interleave", 3)
    assert config.combine.rl_per_il == 2 and config.combine.il_lr == plain.combine.il_lr and config.seed == 3
    assert config.schedule == plain.schedule and config.schedule.warmup_steps == 1000
    other = experiment(methods={"x": {"base": "interleave", "combine": {"method": "rl_only"}}}, baseline=None)
    assert other.config("insert_leg", "x", 0).combine.model_dump() == {"method": "rl_only"}


def test_budgets_method_before_task_before_experiment() -> None:
    made = experiment(
        tasks={"insert_leg": {"budget_steps": 6000}, "one_leg": None}, method_budget_steps={"rl_only": 7000}
    )
    budgets = {(t, m): made.config(t, m, 0).schedule.budget_steps for t in made.tasks for m in made.methods}
    assert list(budgets.values()) == [6000, 7000, 4000, 7000]


def test_what_a_method_sets_stands_over_overrides() -> None:
    """Pins: an arm without behaviour regularisation that a task's override gives it back: two arms that are one."""
    none = {"behaviour_regularisation": 0.0, "behaviour_regularisation_end": 0.0}
    made = experiment(
        methods={"rl_only": "rl_only", "rl_plain": {"base": "rl_only", "rl": none}},
        tasks={"insert_leg": {"overrides": {"rl": {"behaviour_regularisation": 30.0, "gamma": 0.9}}}},
    )
    with_it, without = (made.config("insert_leg", method, 0).rl for method in made.methods)
    assert with_it.behaviour_regularisation == 30.0 and without.behaviour_regularisation == 0.0
    assert with_it.gamma == without.gamma == 0.9


ON_POLICY = "{base: dppo, combine: {method: interleave, il_unit: iteration, rl_per_il: 5}, rl: {rollout_steps: 2000}}"
FEW = "name: a\ntasks: [insert_leg]\nmethods: {a: %s}\nseeds: 1\nbudget_steps: %d\nleast_insertions: %d"


@pytest.mark.parametrize(
    ("method", "budget", "least", "found"),
    [(ON_POLICY, 30_000, 40, 2), (ON_POLICY, 30_000, 2, None), ("interleave", 2070, 40, 35),
     ("interleave_adaptive", 2500, 40, 33), ("interleave", 2080, 40, None), ("rl_only", 2070, 40, None)],
)  # fmt: skip
def test_an_experiment_that_hardly_interleaves_is_refused(tmp_path, method, budget, least, found) -> None:
    """Pins: two insertions in a run, on a page that says what interleaving does."""
    path = tmp_path / "few.yaml"
    path.write_text(FEW % (method, budget, least))
    if found is None:
        load_experiment(path)
        return
    with pytest.raises(ConfigError, match=f"method 'a' .* {found} times .*raise budget_steps"):
        load_experiment(path)


def test_overrides_of_a_task_come_last() -> None:
    made = experiment(tasks={"insert_leg": {"overrides": {"schedule": {"utd": 3.0}}}})
    config = made.config("insert_leg", "interleave", 0)
    assert config.schedule.utd == 3.0 and config.schedule.warmup_steps == 1000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: A b\ntasks: [t]\nmethods: {a: a}\nseeds: 1", "name = 'A b'"),
        ("name: a\ntasks: [t]\nmethods: {a: a}\nseeds: 0", "seeds"),
        ("name: a\ntasks: [t]\nmethods: {a: a}\nseeds: [1, 1]", "must be different"),
        ("name: a\ntasks: [t]\nmethods: {a: a}\nseeds: 1\nbaseline: b", "baseline names 'b'"),
        ("name: a\ntasks: [t]\nmethods: {a: a}\nseeds: 1\nbudget: 3", "budget = 3"),
        ("name: a\ntasks: [t]\nmethods: {'a/b': a}\nseeds: 1", "letters, digits"),
        (
            "name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\nbudget: 3",
            "there is no such setting; did you mean 'budget_steps'",
        ),
        ("name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\nzzz: 3", r"no such setting; there are \['about'"),
        ("name: a\ntasks: [t]\nmethods: {a: rl_only, a: il_only}\nseeds: 1", "'a' stands there twice"),
        ("name: a\nmethods: {a: rl_only}\nseeds: 1", "tasks is missing"),
        ("name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: two", "seeds = 'two': give their number"),
        ("name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\ncurve: 5", "curve = 5: must be a mapping"),
        (
            "name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\noverrides: {schedule: {utdd: 1}}",
            r"bad.yaml: method 'a': schedule.utdd = 1: .*'utd'",
        ),
        (
            "name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\noverrides: {base: interleave}",
            "overrides.base = 'interleave': is decided by",
        ),
        (
            "name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\noverrides: {seed: 4}",
            "overrides.seed = 4: is decided by",
        ),
        (
            "name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\nmethod_budget_steps: {a: -5}",
            "method_budget_steps.a = -5",
        ),
        ("name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: 1\n3: 4", "3 = 3: Keys should be strings"),
        ("name: a\ntasks: [t]\nmethods: {a: rl_olny}\nseeds: 1", "bad.yaml: method 'a': .*'rl_olny': neither"),
        ("name: a\ntasks: [t]\nmethods: {a: rl_only}\nseeds: -3", "bad.yaml: seeds = -3: give their number"),
        ("name: a\ntasks: [t, t]\nmethods: {a: rl_only}\nseeds: 1", "tasks = .*different names"),
        ("name: a\ntasks: [[t]]\nmethods: {a: rl_only}\nseeds: 1", "tasks = .*different names"),
        ("- 1", "mapping of settings"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, says) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_experiment(path)


def test_a_file_that_is_no_text_or_no_file_is_told(tmp_path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: \xff")
    for given in (path, tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match="cannot be read.* give an experiment file"):
            load_experiment(given)


def test_an_unknown_preset_names_its_method() -> None:
    with pytest.raises(ConfigError, match="method 'a': .*'nothing': neither a .yaml path nor one of"):
        experiment(methods={"a": "nothing"}, baseline=None).jobs()
