"""Pins: experts are trained, stored, found again and refused where they do not belong."""

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.experts.train import ROWS, STREAMS, Moments, Streams, _pieces, _without_out, score, train, write
from inril_core.experts.trained import TIERS, expert_path, trained_expert
from inril_core.networks.compute import use_one_thread
from inril_core.policies import GaussianPolicy, load_policy, save_policy
from inril_core.tasks import make_task

pytest.importorskip("gymnasium", reason="needs the extra `gym`")


@pytest.fixture(autouse=True)
def _one_thread():
    use_one_thread()


def test_the_packaged_experts_say_what_they_are_and_where_they_are_from():
    paths = sorted(expert_path("any").parent.glob("*.safetensors"))
    assert {expert_path("Hopper-v5", tier) for tier in TIERS} <= set(paths)
    for path in paths:
        _, facts = load_policy(path)
        assert path == expert_path(facts["environment"], facts["tier"])
        assert {"task", "seed", "steps", "return_mean", "episodes", "command"} <= set(facts)
        assert facts["task"] in facts["command"] and "--out" not in facts["command"]
        assert path.stat().st_size < 300_000


def test_an_expert_does_what_its_file_says_and_serves_the_sparse_task_too():
    """One start of Hopper: its expert runs past the goal; in the sparse task it is paid a mark per metre."""
    task = make_task("gym:Hopper-v5:sparse")
    expert = task.expert()
    observation, total, outcome = task.reset(1000, "eval"), 0.0, None
    while outcome is None or not (outcome.terminated or outcome.truncated):
        observation, outcome = task.step(expert.act(observation))
        total += outcome.reward
    assert outcome.success and total == int(task.distance_m)


def test_training_from_nothing_learns_and_repeats(line, tmp_path, capsys):
    """The reward is the step made, at most 3 m of 12; an untrained policy makes 0.5 m, the middle of the bounds."""
    task, steps = make_task(f"gym:{line}"), 3 * STREAMS * ROWS
    versions = list(train(f"gym:{line}", 0, steps, STREAMS * ROWS))
    assert [version.steps for version in versions] == [steps // 3, 2 * steps // 3, steps]
    first, last = versions[0], versions[2]
    assert first.score.returns > 6.5 and last.score.returns > first.score.returns + 4.0
    (again,) = train(f"gym:{line}", 0, steps, steps)
    assert again.score == last.score and all((again.state[key] == value).all() for key, value in last.state.items())
    write(task, versions, tmp_path, {"seed": 0})
    assert "successes" in capsys.readouterr().out
    trained_expert(tmp_path / expert_path(line).name, line, task.interface)
    _, facts = load_policy(tmp_path / expert_path(line).name)
    assert facts["steps"] == steps and facts["tier"] == "expert" and facts["episodes"] == 20
    policy, facts = load_policy(tmp_path / expert_path(line, "medium").name)
    assert (
        facts["steps"] < steps
        and score(task, policy, range(5), "demo") == versions[facts["steps"] * 3 // steps - 1].score
    )


def test_streams_begin_anew_where_an_episode_ends_and_show_what_was_reached(line):
    streams = Streams(f"gym:{line}", 2, 0)
    first = streams.observations.copy()
    assert not np.array_equal(first[0], first[1])
    down, idle = -1.0, -0.2  # -2 m, 0 m
    for _ in range(2):
        streams.step(np.array([[down], [idle]]))
    reached, rewards, terminated, over = streams.step(np.array([[down], [idle]]))
    assert terminated.tolist() == over.tolist() == [True, False]
    assert rewards == pytest.approx([-2.0, 0.0], abs=1e-6)
    assert reached[0, 0] < -5.0 and streams.observations[0, 1] == 0.0 and reached[0, 1] == 3.0
    assert np.array_equal(reached[1], streams.observations[1])


def test_moments_are_those_of_all_rows_at_once():
    rows = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    moments = Moments(4)
    for part in (rows[:1], rows[1:20], rows[20:]):
        moments.add(part)
    assert moments.mean == pytest.approx(rows.mean(0)) and moments.std == pytest.approx(rows.std(0))


def test_pieces_end_where_episodes_do():
    assert _pieces(np.array([0, 1, 0, 0, 1], bool)) == [(0, 2), (2, 5)]
    assert _pieces(np.array([1, 0, 0], bool)) == [(0, 1), (1, 3)]
    assert _pieces(np.zeros(3, bool)) == [(0, 3)]


def test_the_command_in_a_file_names_no_folder():
    assert _without_out(["gym:X-v5", "--out", "/home/me", "--seed", "1", "--out=/y"]) == ["gym:X-v5", "--seed", "1"]


def test_what_does_not_belong_is_refused(line, tmp_path):
    task = make_task(f"gym:{line}")
    with pytest.raises(ConfigError, match="experts.train"):
        task.expert()
    with pytest.raises(ConfigError, match="tier"):
        expert_path(line, "best")
    with pytest.raises(ConfigError, match="Pendulum"):
        make_task("gym:Pendulum-v1").expert()
    path = tmp_path / "p.safetensors"
    save_policy(path, GaussianPolicy(2, 1), {"environment": "Other-v0"})
    with pytest.raises(ConfigError, match="Other-v0"):
        trained_expert(path, line, task.interface)
    save_policy(path, GaussianPolicy(3, 1), {"environment": line})
    with pytest.raises(ConfigError, match="sizes"):
        trained_expert(path, line, task.interface)
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="readable"):
        trained_expert(path, line, task.interface)
