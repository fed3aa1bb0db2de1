"""Pins: one_leg's layouts, thread and verdict are what they say, and the expert solves it from observations alone."""

from __future__ import annotations

import math
import sys

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.bench.cell_speed import score_expert
from inril_core.contract import Contract, load_contract
from inril_core.contract.definitions.one_leg import NEAR_M, one_leg_features
from inril_core.errors import ConfigError
from inril_core.experts import ExpertConfig
from inril_core.experts.scripted.one_leg import OneLegExpert
from inril_core.sim.assembly import AssemblyReward
from inril_core.sim.scenes import one_leg
from inril_core.sim.square_table import HOLE_OFFSET_M
from inril_core.tasks import make_task
from inril_core.tasks.families.cell import CellEnv

LEVELS = ("low", "med", "high")
TOP = np.array([0.5, 0.1, 0.0156, *Rotation.from_euler("z", 0.4).as_quat()])
HOLES = [(x, y) for x in (-HOLE_OFFSET_M, HOLE_OFFSET_M) for y in (-HOLE_OFFSET_M, HOLE_OFFSET_M)]


@pytest.fixture(scope="module", autouse=True)
def needs_furniture_bench() -> None:
    pytest.importorskip("furniture_bench", reason="furniture-bench is not installed")


@pytest.fixture(scope="module")
def low() -> Contract:
    return load_contract("one_leg_low")


@pytest.fixture(scope="module")
def cell_env(low: Contract) -> CellEnv:
    return CellEnv(low)


@pytest.fixture(scope="module")
def reward() -> AssemblyReward:
    return AssemblyReward()


def on_top(shift_m: tuple[float, float, float], turn: Rotation, hole: tuple[float, float] = HOLES[0]) -> np.ndarray:
    """The leg's pose, `shift_m` and `turn` away from assembled in `hole`, in the top's frame."""
    top = Rotation.from_quat(TOP[3:])
    place = np.array([*hole, one_leg.SEATED_M]) + shift_m
    return np.array([*(TOP[:3] + top.apply(place)), *(top * turn).as_quat()])


def assembled(reward: AssemblyReward, leg: np.ndarray) -> int:
    reward.reset()
    return reward(TOP, leg)


@pytest.mark.parametrize("hole", HOLES)
def test_reward_in_every_hole_and_only_once(reward: AssemblyReward, hole: tuple[float, float]) -> None:
    leg = on_top((0, 0, 0), Rotation.identity(), hole)
    assert assembled(reward, leg) == 1
    assert reward(TOP, leg) == 0
    assert assembled(reward, leg) == 1


@pytest.mark.parametrize(
    ("shift_mm", "degrees", "expected"),
    [
        ((9.5, 0, 0), (0, 0, 0), 1),
        ((10.5, 0, 0), (0, 0, 0), 0),
        ((0, -9.5, 0), (0, 0, 0), 1),
        ((0, -10.5, 0), (0, 0, 0), 0),
        ((0, 0, 4.5), (0, 0, 0), 1),
        ((0, 0, 5.5), (0, 0, 0), 0),
        ((0, 0, 0), (0, 0, 19), 1),
        ((0, 0, 0), (0, 0, -21), 0),
        ((0, 0, 0), (0, 0, 90), 0),
        ((0, 0, 0), (21, 0, 0), 0),
    ],
)
def test_reward_has_the_tolerances_of_the_paper(
    reward: AssemblyReward, shift_mm: tuple[float, ...], degrees: tuple[float, ...], expected: int
) -> None:
    x, y, z = (value / 1000 for value in shift_mm)
    assert assembled(reward, on_top((x, y, z), Rotation.from_euler("xyz", degrees, degrees=True))) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(HOLES),
    st.tuples(*[st.floats(-0.012, 0.012)] * 3),
    st.tuples(*[st.floats(-0.4, 0.4)] * 3),
)
def test_nothing_is_kept_from_the_reward_that_it_would_accept(
    cell_env: CellEnv,
    reward: AssemblyReward,
    hole: tuple[float, float],
    shift_m: tuple[float, float, float],
    turn: tuple[float, float, float],
) -> None:
    leg = on_top(shift_m, Rotation.from_rotvec(turn), hole)
    assert cell_env.cell.scene._is_near(leg, TOP) or not assembled(reward, leg)


def test_missing_furniture_bench_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "furniture_bench.furniture", None)
    with pytest.raises(ConfigError, match="pip install --no-deps furniture-bench"):
        AssemblyReward()


def test_names_of_the_task() -> None:
    contracts = [make_task(name).interface for name in ("one_leg", "one_leg:low", "one_leg_low", "one_leg:high")]
    assert contracts[0] == contracts[1] == contracts[2] != contracts[3]
    assert len({contract.interface_digest for contract in contracts}) == 1  # a policy of one works in all
    with pytest.raises(ConfigError, match="one_leg_med"):
        make_task("one_leg:medium")


@pytest.mark.parametrize("level", LEVELS)
def test_parts_lie_still_within_the_layout(level: str) -> None:
    env = CellEnv(load_contract(f"one_leg_{level}"))
    layout = env.contract.sim.layout
    faces = set()
    for seed in range(40):
        env.reset(seed)
        leg = env.state.parts["leg"]
        axes = Rotation.from_quat(leg[3:]).as_matrix()
        assert leg[2] == pytest.approx(0.015, abs=2e-4)
        assert abs(axes[2, 2]) < 0.01  # lying
        assert np.all(np.abs(leg[:2] - one_leg.LEG_POSITION_M) <= np.array(layout.leg_offset_m) + 1e-3)
        assert abs(math.atan2(axes[1, 2], axes[0, 2])) <= layout.leg_yaw_rad + 0.01
        faces.add(int(np.round(math.atan2(axes[2, 1], -axes[2, 0]) / (math.pi / 2))) % 4)
        top = env.cell.scene._top
        gap = np.abs((Rotation.from_quat(top[3:]).inv().apply(leg[:3] - top[:3]))[:2]) - one_leg.TOP_SIZE_M[0] / 2
        assert gap.max() > 0.0
        assert not env.state.failed
    assert faces == (set(range(4)) if layout.any_face else {0})


def test_fields_are_those_of_the_contract_and_close_ones_are_cut(low: Contract, cell_env: CellEnv) -> None:
    cell_env.reset(0)
    state = cell_env.state
    values = one_leg_features(state.tool_pose, state.tool_twist, state.gripper_width_m, state.parts)
    assert {name: value.size for name, value in values.items()} == {f.name: f.size for f in low.observation}
    assert values["tip_near_hole_m"] == pytest.approx(np.clip(values["tip_in_hole_m"], -NEAR_M, NEAR_M))
    tool, leg = Rotation.from_quat(state.tool_pose[3:]), state.parts["leg"]
    assert values["leg_in_tool_m"] == pytest.approx(tool.inv().apply(leg[:3] - state.tool_pose[:3]), abs=1e-9)
    relative = (tool.inv() * Rotation.from_quat(leg[3:])).as_matrix()
    assert values["leg_in_tool_rot6d"] == pytest.approx(relative[:, :2].T.ravel(), abs=1e-9)
    along = Rotation.from_quat(state.parts["hole"][3:]).apply([1, 0, 0])
    assert values["hole_heading_sin_cos"] == pytest.approx([along[1], along[0]], abs=1e-9)


@pytest.mark.parametrize(("level", "seeds"), [("low", 3), ("med", 2)])
def test_expert_succeeds(level: str, seeds: int) -> None:
    score = score_expert(load_contract(f"one_leg_{level}"), seeds, 800, "train", ExpertConfig())
    assert score.successes == seeds, score
    assert score.longest_steps < 90


def test_same_seed_same_bits(cell_env: CellEnv, low: Contract) -> None:
    def trajectory(env: CellEnv) -> np.ndarray:
        expert = OneLegExpert(low, noise=0.2, seed=3)
        observation, rows = env.reset(5), []
        for _ in range(25):
            observation, _ = env.step(expert.act(observation))
            rows.append(np.concatenate([observation, env.state.qpos, env.state.joint_torque_nm]))
        return np.array(rows)

    first = trajectory(cell_env)
    cell_env.reset(6)
    assert np.array_equal(first, trajectory(cell_env))
    assert np.array_equal(first, trajectory(CellEnv(low)))


def floor_depth(cell_env: CellEnv, path: list[tuple[float, float]]) -> float:
    """Depth of the thread's floor after (tip's depth m, clockwise turn rad) in the hole."""
    scene, data = cell_env.cell.scene, mujoco.MjData(cell_env.cell.model)
    hole, leg = scene._hole[:3], cell_env.cell.model.body("leg").id
    for depth_m, turn_rad in [(-0.001, 0.0), *path]:
        data.xpos[leg] = hole - one_leg.TIP_IN_LEG_M - [0, 0, depth_m]
        data.xquat[leg] = Rotation.from_euler("z", 2.0 - turn_rad).as_quat()[[3, 0, 1, 2]]
        scene.before_piece(data)
    return float(hole[2] - data.mocap_pos[scene._thread_mocap, 2])


def turning(depth_m: float, first_rad: float, last_rad: float) -> list[tuple[float, float]]:
    return [(depth_m, turn) for turn in np.linspace(first_rad, last_rad, 40)]


def test_thread_sinks_by_its_lead_per_turn(cell_env: CellEnv, low: Contract) -> None:
    cell_env.reset(0)
    start_m, lead_m = low.sim.thread_depth_m, low.sim.thread_lead_m
    held = [(0.0175, 0.0)]
    assert floor_depth(cell_env, held) == pytest.approx(start_m)
    assert floor_depth(cell_env, turning(0.0175, 0, 2 * math.pi)) == pytest.approx(start_m + lead_m)
    back = [*turning(0.0175, 0, 3.0), *turning(0.0175, 3.0, 1.0)]
    assert floor_depth(cell_env, back) == pytest.approx(start_m + lead_m * 1.0 / (2 * math.pi))
    anticlockwise = [*turning(0.0175, 0, -2.0), *turning(0.0175, -2.0, -1.0)]
    assert floor_depth(cell_env, anticlockwise) == pytest.approx(start_m + lead_m * 1.0 / (2 * math.pi))
    assert floor_depth(cell_env, turning(0.010, 0, 3.0)) == pytest.approx(start_m)  # turned above the thread
    pulled = [*turning(0.0175, 0, 3.0), (0.010, 3.0), (0.0175, 3.0)]
    assert floor_depth(cell_env, pulled) == pytest.approx(start_m)
    assert floor_depth(cell_env, [(-0.001, 0.0)]) > 0.5  # out of the way


def test_pressing_without_turning_is_not_enough(cell_env: CellEnv, low: Contract) -> None:
    """Pins: the reward's 20 mm cannot be reached by force."""
    expert = OneLegExpert(low)
    observation = cell_env.reset(4)
    for _ in range(80):
        action = expert.act(observation)
        inserted = observation[2] < -0.016 and cell_env.state.gripper_width_m < 0.03
        if inserted and action[6] > 0 and abs(action[5]) > 0.5:
            break
        observation, _ = cell_env.step(action)
    assert inserted
    outcome = None
    for _ in range(30):
        observation, outcome = cell_env.step(np.array([0, 0, -1.0, 0, 0, 0, 1.0]))
        assert observation[2] > -0.0195
    assert outcome is not None and not outcome.success


def test_a_leg_thrown_away_is_a_failure(cell_env: CellEnv) -> None:
    cell_env.reset(0)
    scene, lost = cell_env.cell.scene, np.array([0.5, 0.7, 0.1, 0, 0, 0, 1])
    assert scene.judge({"leg": lost}, cell_env.state.tool_pose) == (False, True, "leg_lost")


def test_pictures_need_the_tops_place_too(cell_env: CellEnv) -> None:
    cell_env.reset(0)
    first = cell_env.state.qpos
    cell_env.reset(1)
    renderer = cell_env.cell.render("front", 96, 64)
    moved = np.concatenate([first[: cell_env.cell.model.nq], cell_env.state.qpos[cell_env.cell.model.nq :]])
    again = cell_env.cell._renderer
    assert again is not None
    assert not np.array_equal(again.image(first, "front", 96, 64), again.image(moved, "front", 96, 64))
    assert renderer.std() > 20


def test_the_wrong_expert_is_refused(low: Contract, contract: Contract) -> None:

    from inril_core.experts.scripted.insert_leg import InsertLegExpert

    with pytest.raises(ConfigError, match="scripted_expert"):
        InsertLegExpert(low)
    with pytest.raises(ConfigError, match="looks at|scripted_expert"):
        OneLegExpert(contract)
