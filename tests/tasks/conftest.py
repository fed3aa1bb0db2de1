"""A line to run along, registered with Gymnasium: everything about it is known in closed form."""

import numpy as np
import pytest

LINE = "inril-test/Line-v0"
LENGTH_STEPS = 12


@pytest.fixture
def line(monkeypatch):
    """The name of an environment whose one action, in [-2, 3], is the step in m; below -5 m it has fallen.

    Observation [[x], [steps]]. Reward: the action. NaN state at x > 100.
    """
    gymnasium = pytest.importorskip("gymnasium", reason="needs the extra `gym`")
    from inril_core.tasks.families import gym as gymnasium_task

    class Line(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2, 1), np.float64)
        action_space = gymnasium.spaces.Box(np.float32([-2.0]), np.float32([3.0]))

        def _seen(self):
            return np.array([[self.x if self.x < 100 else np.nan], [float(self.steps)]])

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.x, self.steps = float(self.np_random.uniform(-0.5, 0.5)), 0
            return self._seen(), {"x_position": self.x}

        def step(self, action):
            self.given = action
            self.x, self.steps = self.x + float(action[0]), self.steps + 1
            return self._seen(), float(action[0]), self.x < -5.0, False, {"x_position": self.x}

    if LINE not in gymnasium.registry:
        gymnasium.register(LINE, entry_point=lambda: Line(), max_episode_steps=LENGTH_STEPS)
    monkeypatch.setitem(gymnasium_task.LOCOMOTION, LINE, gymnasium_task.Locomotion(goal_m=10.0, mark_m=2.0))
    yield LINE
    gymnasium.registry.pop(LINE, None)
