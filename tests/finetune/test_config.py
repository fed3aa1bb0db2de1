"""Presets and settings: read once, refused by name."""

import pytest

from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values, load_config, preset_names
from inril_core.finetune.methods import known_methods


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
    assert set(known_methods("combine")) >= {"interleave", "weighted_sum", "rl_only", "il_only"}


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"schedule.utd": 0.0}, "schedule.utd"),
        ({"schedule.utd": float("nan")}, "schedule.utd"),
        ({"schedule.warmup_steps": 999_999}, "budget_steps"),
        ({"combine.rl_per_il": 0}, "combine.rl_per_il = 0"),
        ({"combine.project": "gradient", "combine.reference": "step"}, "combine.reference"),
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
