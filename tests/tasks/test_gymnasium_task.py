"""Pins: what a Gymnasium environment becomes as a task: scaling, ends, rewards, refusals, repeatability."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.local import run_episode
from inril_core.policies import Decision
from inril_core.tasks import make_task, task_names
from inril_core.tasks.families.gym import GymnasiumTask, make
from tests.tasks.conftest import LENGTH_STEPS, LINE

pytest.importorskip("gymnasium", reason="needs the extra `gym`")


def act(metres: float) -> np.ndarray:
    """The action that goes so far on the line, whose bounds are [-2, 3]."""
    return np.array([2.0 * (metres + 2.0) / 5.0 - 1.0])


def run(task, metres, seed=0):
    task.reset(seed)
    outcomes = []
    for step in metres:
        outcomes.append(task.step(act(step))[1])
        if outcomes[-1].terminated or outcomes[-1].truncated:
            break
    return outcomes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(a=st.floats(-3.0, 3.0))
def test_actions_are_scaled_to_the_bounds_and_clipped_with_a_name(line, a):
    task = GymnasiumTask(line)
    task.reset(0)
    _, outcome = task.step(np.array([a]))
    clipped = min(max(a, -1.0), 1.0)
    assert task._env.unwrapped.given[0] == pytest.approx(-2.0 + 5.0 * (clipped + 1.0) / 2.0, abs=1e-5)
    assert outcome.executed == pytest.approx([clipped]) and outcome.executed.dtype == np.float32
    assert outcome.limits == (("action_range",) if abs(a) > 1.0 else ())


def test_the_observation_is_flattened_and_the_interface_says_its_size(line):
    task = GymnasiumTask(line)
    first = task.reset(3)
    assert first.shape == (2,) and first.dtype == np.float32
    assert (task.interface.observation_size, task.interface.action_size) == (2, 1)
    assert task.interface.task == f"gym:{LINE}" and task.episode_length_steps == LENGTH_STEPS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(metres=st.lists(st.floats(-2.0, 3.0), min_size=1, max_size=LENGTH_STEPS))
def test_the_sparse_return_counts_the_marks_passed(line, metres):
    """Closed form: floor(farthest / mark), however one got there, and 1 a mark; success is the same in both rewards."""
    outcomes, native = run(make(f"{line}:sparse"), metres), run(make(line), metres)
    ahead = np.cumsum(metres[: len(outcomes)], dtype=np.float64)
    farthest = max(0.0, float(ahead.max()))
    if abs(farthest / 2.0 - round(farthest / 2.0)) > 1e-4:  # a float32 action may fall short of a mark it hits exactly
        assert sum(o.reward for o in outcomes) == int(farthest / 2.0)
    assert all(o.reward >= 0.0 and o.reward == int(o.reward) for o in outcomes)
    assert [o.reward for o in native] == pytest.approx(metres[: len(native)], abs=1e-5)
    assert [o.success for o in outcomes] == [o.success for o in native]
    if abs(farthest - 10.0) > 1e-3:
        assert outcomes[-1].success == (farthest >= 10.0)


def test_going_back_and_forth_over_a_mark_pays_once(line):
    rewards = [o.reward for o in run(make(f"{line}:sparse"), [2.5, -2.0, 2.0, -2.0, 2.0, 2.0])]
    assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_success_stays_once_the_goal_was_reached_and_does_not_end_the_episode(line):
    outcomes = run(make(line), [3.0, 3.0, 3.0, 3.0, -2.0, -2.0])
    assert [o.success for o in outcomes] == [False, False, False, True, True, True]
    assert not any(o.terminated or o.truncated for o in outcomes)


def test_falling_terminates_and_the_time_limit_truncates(line):
    fallen = run(make(line), [-2.0] * LENGTH_STEPS)[-1]
    assert fallen.terminated and not fallen.truncated and fallen.reason == "terminated"
    late = run(make(line), [0.0] * LENGTH_STEPS)
    assert len(late) == LENGTH_STEPS
    assert late[-1].truncated and not late[-1].terminated and late[-1].reason == "episode_length"


def test_a_fall_at_the_time_limit_is_a_fall(line):
    steps = [0.0] * (LENGTH_STEPS - 3) + [-2.0, -2.0, -2.0]
    last = run(make(line), steps)[-1]
    assert last.terminated and not last.truncated


@pytest.mark.parametrize("action", [[np.nan], [np.inf], [0.0, 0.0], 0.0])
def test_a_bad_action_is_refused_and_changes_nothing(line, action):
    task = GymnasiumTask(line)
    task.reset(0)
    with pytest.raises(ValueError, match="finite numbers"):
        task.step(np.array(action))
    assert task.step(np.array([0.0]))[0][1] == 1.0


def test_steps_before_reset_and_after_the_end_are_refused(line):
    task = GymnasiumTask(line)
    with pytest.raises(ValueError, match="call reset"):
        task.step(np.zeros(1))
    task.reset(0)
    for _ in range(LENGTH_STEPS):
        task.step(np.zeros(1))
    with pytest.raises(ValueError, match="call reset"):
        task.step(np.zeros(1))


def test_a_state_that_is_not_finite_ends_the_episode_at_the_last_finite_one(line):
    task = GymnasiumTask(line)
    before = task.reset(0)
    task._env.unwrapped.x = 200.0
    observation, outcome = task.step(np.zeros(1))
    assert outcome.terminated and outcome.reason == "not_finite" and outcome.reward == 0.0 and not outcome.success
    assert np.array_equal(observation, before)


def test_a_returned_observation_is_the_callers_own(line):
    task = GymnasiumTask(line)
    task.reset(0)
    task.step(np.zeros(1))[0][:] = np.nan
    task._env.unwrapped.x = 200.0  # the last finite one is repeated
    assert np.isfinite(task.step(np.zeros(1))[0]).all()


def test_seed_and_purpose_alone_decide_the_start(line):
    task, other = GymnasiumTask(line), GymnasiumTask(line)
    first = {purpose: task.reset(7, purpose) for purpose in ("demo", "train", "eval")}
    other.reset(1), other.step(np.zeros(1))
    assert all(np.array_equal(other.reset(7, purpose), row) for purpose, row in first.items())
    assert len({row.tobytes() for row in first.values()}) == 3
    with pytest.raises(ValueError, match="purpose"):
        task.reset(0, "test")


def test_an_episode_of_it_is_recorded_as_any_other(line):
    task = make(f"{line}:sparse")
    nothing = np.full(1, np.nan, np.float32)
    episode = run_episode(task, lambda row, step: Decision(act(2.1).astype(np.float32), nothing, 0.0), 3, "demo")
    assert episode.steps == LENGTH_STEPS and episode.truncated and episode.success
    assert episode.rewards.tolist() == [1.0] * LENGTH_STEPS  # 25.2 m in all
    assert episode.interface_digest == task.interface.interface_digest


def test_wrong_names_say_what_is_possible():
    for name, message in (
        ("gym:NoSuchThing-v0", "cannot make it"),
        ("gym:CartPole-v1", "Box"),
        ("gym:CartPole-v1:sparse", "HalfCheetah-v5"),
        ("gym:no_such_module:Thing-v0", "cannot make it"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_task(name)
    assert any("gym:" in name for name in task_names())


@pytest.mark.parametrize("name", ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5"])
def test_runners_repeat_by_their_seed(name):
    task = make_task(f"gym:{name}:sparse")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (8, task.interface.action_size))

    def roll(seed):
        rows = [task.reset(seed, "eval")]
        return np.stack(rows + [task.step(action)[0] for action in actions])

    first = roll(5)
    assert np.array_equal(first, roll(5)) and not np.array_equal(first, roll(6))
    sizes = {"Hopper-v5": (11, 3), "Walker2d-v5": (17, 6), "HalfCheetah-v5": (17, 6)}
    assert (task.interface.observation_size, task.interface.action_size) == sizes[name]
    native = make_task(f"gym:{name}").interface
    assert native.interface_digest != task.interface.interface_digest and native.observation_size == first.shape[1]


def test_any_other_environment_succeeds_by_its_own_word_or_its_threshold():
    task = make_task("gym:Pendulum-v1")  # no threshold, no word
    task.reset(0)
    assert task.interface.action_size == 1 and not task.step(np.zeros(1))[1].success
    car = make_task("gym:MountainCarContinuous-v0")  # threshold 90
    car.reset(0)
    assert not car.step(np.zeros(1))[1].success
    car._return = 95.0
    assert car.step(np.zeros(1))[1].success


class Odd:
    """Builds environments whose `step` or `reset` answers in another way."""

    def __init__(self, step=None, reset=None):
        import gymnasium

        class Env(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
            action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

            def reset(self, *, seed=None, options=None):
                return (np.zeros(2), {}) if reset is None else reset

            def step(self, action):
                return (np.zeros(2), 0.0, False, False, {}) if step is None else step

        self.env = Env


SEEN = np.zeros(2)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"step": (SEEN, 0.0, False, {})}, "step .*(expected 5, got 4|4 values).*shimmy"),
        ({"step": (SEEN, np.zeros(3), False, False, {})}, r"reward is an array \[3\]"),
        ({"step": (SEEN, None, False, False, {})}, "reward is None"),
        ({"step": (SEEN, "1", False, False, {})}, "reward is '1'"),
        ({"step": (SEEN, 0.0, np.zeros(2, bool), False, {})}, "terminated is an array"),
        ({"step": (SEEN, 0.0, False, False, None)}, "step gives 5 values"),
        ({"step": (SEEN, 0.0, False, False, {"success": np.ones(2)})}, "success in info is an array"),
        ({"step": (np.zeros(3), 0.0, False, False, {})}, "observation of 3 numbers"),
        ({"step": ({"image": SEEN}, 0.0, False, False, {})}, "no array of numbers"),
        ({"step": None}, ""),
        ({"reset": SEEN}, "reset gives a ndarray"),
        ({"reset": (np.zeros(5), {})}, "observation of 5 numbers"),
    ],
)
def test_an_environment_that_answers_otherwise_is_refused_with_the_fix(answers, message):
    """Pins: tracebacks from within for an environment of the older gym, or one with several rewards."""
    import gymnasium

    name = "inril-test/Odd-v0"
    gymnasium.register(name, entry_point=Odd(**answers).env, max_episode_steps=5)
    try:
        task = GymnasiumTask(name)
        if message:
            with pytest.raises(ConfigError, match=f"task gym:{name}: .*{message}"):
                task.reset(0)
                task.step(np.zeros(1))
        else:
            task.reset(0)
            task.step(np.zeros(1))
    finally:
        gymnasium.registry.pop(name, None)
