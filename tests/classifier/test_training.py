"""Pins: a classifier that learned nothing, that is another one after a restart, or that pays where nobody looked."""

import dataclasses
import hashlib

import numpy as np
import pytest

from inril_core.classifier.agreement import Agreement, DriftWatch
from inril_core.classifier.examples import View
from inril_core.classifier.model import load_classifier
from inril_core.classifier.training import TrainingSettings, train
from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.networks.checkpoint import write_checkpoint
from tests.classifier.labelled import STEPS, labelled, many

QUICK = TrainingSettings(precision=0.8, gap_s=0.25, updates=400, lr=5e-3, hidden=32)


@pytest.fixture(scope="module")
def made():
    return train(many(120), View(True), QUICK)


def test_it_learns_what_success_looks_like_and_how_far_it_is(made) -> None:
    new = [labelled(1000 + n, n % 2 == 0) for n in range(40)]
    assert np.mean([made.says_success(e) == e.success for e in new]) >= 0.95
    seen = Agreement()
    assert all(seen.saw(made, episode) for episode in new)
    assert seen.fired_n >= 18 and seen.drift(made.threshold) == ""
    progress = made.judged(new[0])[1]
    assert np.corrcoef(progress, np.arange(STEPS + 1))[0, 1] > 0.9
    assert made.threshold.precision_low >= 0.8 and made.threshold.successes_n >= made.threshold.right_n


def test_it_is_the_same_again_and_on_disk(made, tmp_path) -> None:
    again, episode = train(many(120), View(True), QUICK), labelled(1001, True)
    np.testing.assert_array_equal(again.scores(episode), made.scores(episode))
    made.save(tmp_path / "c.safetensors")
    read = load_classifier(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(read.scores(episode), made.scores(episode))
    assert read.threshold == made.threshold and read.facts == made.facts


def test_the_camera_moves_and_the_labels_tell(made) -> None:
    """What was seen shifts by a metre: the classifier finds nothing any more, and says so."""
    moved = [dataclasses.replace(e, observations=e.observations + np.float32(1.0)) for e in many(60)]
    watch, said = DriftWatch(made), []
    for episode in moved:
        said.append(watch.saw(episode))
    (told,) = filter(None, said)
    assert "label more episodes" in told and watch.agreement.episodes_n == 60
    for episode in moved:  # they were wrong, says the same person
        watch.saw(episode.labelled(None, "ada"))
    assert watch.agreement == Agreement()


def test_as_a_reward_a_person_counts_more_and_another_file_is_refused(made, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    made.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rewards = {"method": "classifier", "path": str(path), "sha256": digest}
    given = load_config("weighted_sum").changed(rewards=rewards).rewards
    unlabelled = dataclasses.replace(
        labelled(2000, True), success=None, outcome_source="", terminated=False, truncated=True
    )
    reward, masks = given.label(unlabelled)
    assert reward.tolist() == [0.0] * (STEPS - 1) + [1.0] and masks[-1] == 0.0 and given.informative(unlabelled)[-1]
    said = unlabelled.labelled(False, "ada")
    assert given.label(said)[0].sum() == 0.0 and not given.informative(said).any()
    assert given.label(dataclasses.replace(unlabelled, left_out=True))[0].sum() == 0.0
    failed = dataclasses.replace(labelled(2001, False), success=None, terminated=False, truncated=True)
    assert given.label(failed)[0].sum() == 0.0 and given.label(failed)[1][-1] == 1.0
    with pytest.raises(ConfigError, match="rewards.sha256"):
        load_config("weighted_sum").changed(rewards={**rewards, "sha256": "0" * 64})
    with pytest.raises(ConfigError, match="give the file of a classifier"):
        load_config("weighted_sum").changed(rewards={**rewards, "path": str(tmp_path / "none")})


def test_what_cannot_be_learned_from_is_named(made, tmp_path) -> None:
    with pytest.raises(ConfigError, match="none labelled by a person.*inril episode success"):
        train([labelled(0, True, "cell")], View(True), QUICK)
    with pytest.raises(ConfigError, match="no image 'front'"):
        from inril_core.contract import ImageShape

        train(many(8), View(False, (ImageShape("front", 8, 8),)), QUICK)
    with pytest.raises(ConfigError, match="several interfaces"):
        train([labelled(0, True), dataclasses.replace(labelled(1, False), interface_digest="x")], View(True), QUICK)
    with pytest.raises(ConfigError, match="not the classifier's"):
        made.scores(dataclasses.replace(labelled(0, True), interface_digest="x"))
    write_checkpoint(tmp_path / "other", {}, {"kind": "policy"})
    with pytest.raises(ConfigError, match="is no success classifier"):
        load_classifier(tmp_path / "other")
    with pytest.raises(ConfigError, match="none.*make one with `inril classifier train`"):
        load_classifier(tmp_path / "none")
    for wrong in ({"precision": 1.0}, {"confidence": 0.4}, {"held_out": 0.0}, {"updates": 0}):
        with pytest.raises(ConfigError, match="must be"):
            TrainingSettings(**wrong)
