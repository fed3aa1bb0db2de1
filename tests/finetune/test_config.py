"""Presets and settings: read once, refused by name."""

import pytest

from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values, load_config, preset_names
from inril_core.finetune.methods import KINDS


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_says_its_name(name: str) -> None:
    """Pins: a preset that cannot be started."""
    assert load_config(name).name == name


def test_comparison_presets_differ_in_the_combination_only() -> None:
    """Pins: an unfair comparison: another budget, ratio or RL setting beside IN-RIL."""
    ours = load_config("interleave").model_dump()
    combinations = ("interleave_orthogonal", "interleave_none", "interleave_adaptive", "cair", "pcgrad", "cagrad")
    for name in ("weighted_sum", "rl_only", *combinations):
        other = load_config(name).model_dump()
        assert {key for key in ours if ours[key] != other[key]} == {"name", "combine"}


def test_unknown_names_list_what_there_is() -> None:
    """Pins: an error that leaves the user guessing."""
    with pytest.raises(ConfigError, match="interleave"):
        load_config("no_such_preset")
    values = load_config("interleave").model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"combine.method = 'magic'.*weighted_sum"):
        config_from_values({**values, "combine": {"method": "magic"}}, "x.yaml")
    assert set(KINDS["combine"].known()) >= {"interleave", "weighted_sum", "rl_only", "il_only"}


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"schedule.utd": 0.0}, "schedule.utd"),
        ({"schedule.utd": float("nan")}, "schedule.utd"),
        ({"schedule.warmup_steps": 999_999}, "budget_steps"),
        ({"combine.rl_per_il": 0}, "combine.rl_per_il = 0"),
        (
            {"combine.projection.space": "gradient", "combine.projection.reference": "step"},
            "combine.projection.reference",
        ),
        ({"surprise": 1}, "surprise"),
        ({"no.such": 1}, "no"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(changes: dict[str, object], word: str) -> None:
    """Pins: a setting that is silently ignored."""
    with pytest.raises(ConfigError, match=word):
        load_config("interleave").changed(**changes)


def test_a_file_may_change_a_preset(tmp_path) -> None:
    """Pins: a file's part that replaces more than it says, or a base that is not applied."""
    (tmp_path / "mine.yaml").write_text("base: interleave\nname: mine\nschedule: {utd: 2.0}\n")
    mine, base = load_config(tmp_path / "mine.yaml"), load_config("interleave")
    assert mine.schedule == base.schedule.model_copy(update={"utd": 2.0}) and mine.combine == base.combine
    (tmp_path / "bad.yaml").write_text("- a list\n")
    with pytest.raises(ConfigError, match="bad.yaml"):
        load_config(tmp_path / "bad.yaml")


def test_a_pair_that_cannot_work_is_refused_with_the_reason(monkeypatch) -> None:
    """Pins: a combination that fails in the middle of a run."""
    from inril_core.finetune.rl import rlpd

    monkeypatch.setattr(rlpd.Config, "provides", frozenset())
    with pytest.raises(ConfigError, match="needs 'actor_gradient' from rl"):
        load_config("interleave")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"combine.rl_per_il": "eight"}, r"^interleave: combine.rl_per_il = 'eight': .*integer.* or .*'adaptive'$"),
        ({"combine": "weighted_sum"}, "combine = 'weighted_sum': must be a mapping of settings, e.g. {method: NAME}"),
        ({"policy": "gaussian"}, "e.g. {kind: NAME}"),
        ({"schedule.budget_step": 3}, "did you mean 'budget_steps'"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_the_file(changes, told: str) -> None:
    """Pins: the words of a validation library where the name of a setting would do."""
    with pytest.raises(ConfigError, match=told):
        load_config("interleave").changed(**changes)


RESIDUAL = {"kind": "residual", "base": {"kind": "gaussian"}}


@pytest.mark.parametrize(
    ("preset", "changes", "told"),
    [
        ("residual_ppo", {"schedule.warmup_steps": 200}, "schedule.warmup_steps = 200 with rl.method = 'ppo'"),
        ("weighted_sum", {"policy": RESIDUAL}, "combine.method = 'weighted_sum' with policy.kind = 'residual'"),
        ("interleave_adaptive", {"combine.projection.space": "gradient"}, "hides the conflict"),
        (
            "interleave",
            {"policy": RESIDUAL, "combine.projection.kind": "none", "combine.rl_per_il": "adaptive"},
            "no angle to adapt to",
        ),
        ("csil", {"compute": {"compile": True}}, "compute.compile with rl.slope_weight"),
        ("csil", {"il.loss": "mse"}, "leaves its spread untrained"),
        ("csil", {"schedule.demos_in_replay": True}, "schedule.demos_in_replay with rewards.method = 'csil'"),
        ("interleave", {"rl.batch": 64, "rl.demo_share": 0.995}, "rl.batch = 64 with rl.demo_share = 0.995"),
        ("idql", {"rl.batch": 64, "rl.demo_share": 0.995}, "rl.batch = 64 with rl.demo_share = 0.995"),
        ("interleave", {"rl.target_range": [-1.0, 0.5]}, "cuts off values of rewards.method = 'task'"),
        ("interleave", {"rl.target_range": [0.0, 0.5], "rewards": {"method": "label"}}, "cuts off the reward of a"),
    ],
)
def test_settings_that_would_be_ignored_or_undo_a_method_are_refused(preset: str, changes, told: str) -> None:
    """Pins: a run whose setting does nothing, or that cannot learn, and says so to nobody."""
    with pytest.raises(ConfigError, match=told):
        load_config(preset).changed(**changes)


@pytest.mark.parametrize("interventions", [None, {"kind": "none", "expert": {}}])
@pytest.mark.parametrize("preset", ["rlif", "hg_dagger"])
def test_in_one_process_a_method_that_lives_on_help_needs_a_helper(preset: str, interventions) -> None:
    """Pins: rewards that are 0 for ever, and cloning under another name, reported as results of a method."""
    config = load_config(preset).changed(interventions=interventions)
    with pytest.raises(ConfigError, match="nobody takes over here"):
        config.refuse_nobody()


def test_in_one_process_nobody_labels() -> None:
    config = load_config("interleave").changed(rewards={"method": "label", "by": "person"})
    with pytest.raises(ConfigError, match="no person labels"):
        config.refuse_nobody()
