"""Pins: a contract with a mistake is refused by file, field and fix, and digests see what they must see."""

from pathlib import Path

import pytest
import yaml

from inril_core.contract import Contract, contract_from_text, load_contract
from inril_core.errors import ConfigError


@pytest.fixture
def content() -> dict:
    return load_contract("insert_leg").model_dump(mode="json")


def parse(content: dict) -> Contract:
    return contract_from_text(yaml.safe_dump(content))


def test_packaged_contract_is_valid() -> None:
    contract = load_contract("insert_leg")
    assert contract.period_ns == 100_000_000
    assert sum(field.size for field in contract.observation) == contract.observation_size
    assert [s.stop for s in contract.slices().values()][-1] == contract.observation_size


def test_text_travels_and_comes_back_equal() -> None:
    contract = load_contract("insert_leg")
    again = contract_from_text(contract.text)
    assert again == contract
    assert (again.interface_digest, again.deployment_digest) == (
        contract.interface_digest,
        contract.deployment_digest,
    )


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("control_rate_hz",), float("nan"), "control_rate_hz"),
        (("control_rate_hz",), 0.0, "control_rate_hz"),
        (("episode_length_steps",), 0, "episode_length_steps"),
        (("action", "translation_scale_m"), -0.01, "action.translation_scale_m"),
        (("limits", "max_tilt_rad"), float("inf"), "limits.max_tilt_rad"),
        (("limits", "position_min_m"), [9.0, 0.0, 0.0], "limits.position_min_m"),
        (("limits", "on_violation"), {"tilt": "clip"}, "limits"),
        (("staleness", "target_s"), 0.0, "staleness.target_s"),
        (("actoin",), {}, "actoin"),
        (("schema_version",), 2, "schema_version"),
        (("observation",), [], "observation"),
    ],
)
def test_mistake_is_named(content: dict, path: tuple[str, ...], value: object, field: str) -> None:
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=field):
        parse(content)


def test_missing_field_is_named(content: dict) -> None:
    del content["limits"]["max_tilt_rad"]
    with pytest.raises(ConfigError, match=r"limits\.max_tilt_rad"):
        parse(content)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "task: 1\ntask", "&a [*a, *a]"])
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        contract_from_text(text)


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="insert_leg"):
        load_contract("insert_lge")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_contract(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("section", ["limits", "staleness", "success", "sim"])
def test_deployment_facts_change_only_the_deployment_digest(content: dict, section: str) -> None:
    original = parse(content)
    first = next(k for k, v in content[section].items() if isinstance(v, float))
    content[section][first] *= 0.99
    changed = parse(content)
    assert changed.interface_digest == original.interface_digest
    assert changed.deployment_digest != original.deployment_digest
    assert changed.differences(original) == [
        f"{section}.{first}: {content[section][first]!r} != {getattr(getattr(original, section), first)!r}"
    ]


def test_action_scale_changes_the_interface_digest(content: dict) -> None:
    original = parse(content)
    content["action"]["rotation_scale_rad"] *= 2
    assert parse(content).interface_digest != original.interface_digest


def test_how_long_an_image_is_recorded_is_no_interface(content: dict) -> None:
    original = parse(content)
    content["images"][0]["recorded_in"] = ["demo"]
    assert parse(content).interface_digest == original.interface_digest
    content["images"][0]["width_px"] += 1
    assert parse(content).interface_digest != original.interface_digest
