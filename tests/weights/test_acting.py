"""Pins: weights that change in mid-episode, or whose trial or restart touches the acting policy."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.policies import GaussianPolicy, Policy, diffusion, gaussian
from inril_core.weights import Hashed, Offer, Refusal, WeightsRefused, write_pack
from inril_core.weights.acting import ActingPolicy, Unkept
from inril_core.weights.gate import Gate, GateRules
from inril_core.weights.store import WeightStore

CONTRACT = load_contract("insert_leg")
OBSERVATION = np.linspace(-0.5, 0.5, CONTRACT.observation_size).astype(np.float32)
KEY = bytes(32)


def policy(bias: float = 0.0, **arguments) -> GaussianPolicy:
    """A policy whose mode is about tanh(bias) everywhere."""
    torch.manual_seed(0)
    made = GaussianPolicy(
        arguments.pop("observation_size", CONTRACT.observation_size), 6, gaussian.Config(hidden=(16, 16), **arguments)
    )
    with torch.no_grad():
        made.head.bias[:6] = bias
    return made


def planning() -> Policy:
    """A policy that plans 4 steps at once."""
    torch.manual_seed(0)
    return diffusion.Config(chunk=4, hidden=(16,), denoising_steps=5).build(CONTRACT.observation_size, 6)


def packed(path: Path, n: int, bias: float = 0.0, made: GaussianPolicy | None = None, **changes) -> Offer:
    """Writes a pack; its offer."""
    made = made or policy(bias)
    manifest = {
        "run_id": "run",
        "n": n,
        "parent": None,
        "interface_digest": CONTRACT.interface_digest,
        "contract_text": CONTRACT.text,
        "policy": made.manifest(),
        "created_ns": 0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    size, digest = write_pack(path, made.state_dict(), {**manifest, **changes})
    return Offer.signed(KEY, "run", n, size, digest)


@pytest.fixture
def start(tmp_path):
    def open_again(initial: GaussianPolicy | None = None, **settings) -> ActingPolicy:
        store = WeightStore(tmp_path)
        known = store.state
        gate = Gate(GateRules(CONTRACT.interface_digest), KEY, "run", known.highest_n, known.pinned)
        acting = ActingPolicy(CONTRACT, gate, store, KEY, **settings)
        if not acting.load_kept() and initial is not None:
            facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
            acting.load_initial(initial, facts, 0)
        return acting

    return open_again


def push(acting: ActingPolicy, n: int, bias: float = 0.0, published_ns: int | None = None, **changes) -> Offer:
    path = acting._store.incoming / "pushed.pack"
    offer = packed(path, n, bias, **changes)
    memory = acting.memory_for(offer)
    memory[:] = np.frombuffer(path.read_bytes(), np.uint8)
    acting.take(Hashed.of(memory), path, offer, published_ns)
    return offer


def act(acting: ActingPolicy, step: int, explore: bool = False, seed: int = 7):
    return acting.act(OBSERVATION, explore, seed, step)


def answered(acting: ActingPolicy, now_ns: int = 0) -> bool:
    """An answer is out, and the disk says whose."""
    first = acting.after_answer(now_ns)
    acting.note_active()
    return first


def test_without_weights_there_is_no_answer(start):
    acting = start()
    assert act(acting, 0) is None
    push(acting, 1)
    assert acting.active.n == 1  # nothing acted, so there is no boundary to wait for
    assert act(acting, 5).n == 1


def test_new_weights_act_from_the_next_episode_on(start):
    acting = start(policy())
    assert [act(acting, step).n for step in (0, 1)] == [0, 0]
    push(acting, 1, bias=0.2)
    assert acting.pending.n == 1
    assert act(acting, 2).n == 0
    first = act(acting, 0)
    assert first.n == 1 and acting.pending is None
    assert first.action.mean() == pytest.approx(math.tanh(0.2), abs=0.05)


def test_swapping_at_a_chunk_takes_the_next_step(start):
    acting = start(policy(), swap_at="chunk")
    act(acting, 0)
    push(acting, 1)
    assert act(acting, 1).n == 1


@pytest.mark.parametrize(("swap_at", "swaps_at_step"), [("episode", None), ("chunk", 4), ("tick", 2)])
def test_a_plan_is_followed_to_its_end_unless_weights_change_at_ticks(start, swap_at, swaps_at_step):
    acting = start(planning(), swap_at=swap_at)
    assert [act(acting, step).n for step in (0, 1)] == [0, 0]
    push(acting, 1, made=planning())
    answers = [act(acting, step) for step in range(2, 6)]
    wanted = [int(swaps_at_step is not None and step >= swaps_at_step) for step in range(2, 6)]
    assert [answer.n for answer in answers] == wanted
    assert answers[0].chunk_index == (0 if swap_at == "tick" else 2)


def test_only_the_newest_waiting_version_acts(start):
    acting = start(policy())
    act(acting, 0)
    push(acting, 1)
    push(acting, 2)
    assert act(acting, 0).n == 2


def test_the_way_from_publication_to_the_first_action_is_measured_once(start):
    acting = start(policy())
    act(acting, 0)
    acting.after_answer(0)
    push(acting, 1, published_ns=1_000_000_000)
    act(acting, 1)
    assert not acting.after_answer(1_500_000_000)
    act(acting, 0)
    assert acting.after_answer(2_500_000_000)
    assert acting.push_to_acting_ms == 1500.0
    act(acting, 1)
    assert not acting.after_answer(9_000_000_000)


def test_exploration_repeats_bit_for_bit_and_differs_by_step_and_seed(start):
    acting = start(policy())
    first = act(acting, 3, explore=True)
    again = act(acting, 3, explore=True)
    np.testing.assert_array_equal(first.raw, again.raw)
    assert first.log_prob == again.log_prob
    assert not np.array_equal(first.raw, act(acting, 4, explore=True).raw)
    assert not np.array_equal(first.raw, act(acting, 3, explore=True, seed=8).raw)


def test_wild_weights_are_refused_on_what_the_arm_has_just_seen(start):
    acting = start(policy())
    act(acting, 0)
    with pytest.raises(WeightsRefused) as caught:
        push(acting, 1, bias=2.0)
    assert caught.value.reason is Refusal.WILD_ACTION
    assert (acting.rejected, acting.last_rejected_n) == (1, 1)
    assert acting.last_rejection.startswith("wild_action")
    assert acting.pending is None and acting.highest_n == 0
    assert act(acting, 0).n == 0


def test_wild_weights_stay_refused_when_they_are_offered_again_after_a_restart(start):
    acting = start(policy())
    act(acting, 0)
    with pytest.raises(WeightsRefused):
        push(acting, 1, bias=2.0)
    restarted = start()
    with pytest.raises(WeightsRefused) as caught:
        push(restarted, 1, bias=2.0)
    assert caught.value.reason is Refusal.WILD_ACTION
    assert act(restarted, 0).n == 0


def test_what_was_accepted_before_may_come_back_at_once(start):
    """Pins: the peak guard's best version refused as wild, because what acts has gone far from it step by step."""
    acting = start(policy())
    for n, bias in enumerate((0.4, 0.9, 1.6), 1):
        push(acting, n, bias=bias)
        act(acting, 0)
    again = start()
    act(again, 0)
    with pytest.raises(WeightsRefused) as caught:
        push(again, 4, bias=0.01)
    assert caught.value.reason is Refusal.WILD_ACTION, "as far, and never seen before"
    push(again, 5, bias=0.0)
    assert act(again, 0).n == 5


def test_a_full_disk_refuses_the_offer_and_the_active_policy_acts_on(start, monkeypatch):
    acting = start(policy())
    act(acting, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WeightStore, "add", full)
    with pytest.raises(WeightsRefused, match="No space left") as caught:
        push(acting, 1, bias=0.01)
    assert caught.value.reason is Refusal.NOT_KEPT
    assert acting.pending is None and act(acting, 0).n == 0


def test_what_never_reached_the_disk_is_never_named_as_what_acts(start, monkeypatch):
    """It would be missing after a restart, and nothing would act."""
    acting, add = start(policy()), WeightStore.add
    act(acting, 0)

    def broken(store, path, offer):
        if offer.n == 1:
            act(acting, 0)  # it acts before the disk has it
            raise OSError(5, "Input/output error")
        return add(store, path, offer)

    monkeypatch.setattr(WeightStore, "add", broken)
    with pytest.raises(Unkept, match="Input/output"):
        push(acting, 1)
    assert act(acting, 1).n == 1
    push(acting, 2)
    assert acting.note_active() is None and not acting.is_noted
    again = start()
    assert (again.active.n, again.pending.n) == (0, 2)
    assert act(acting, 0).n == 2 and acting.note_active().n == 2
    assert start().active.n == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": {"kind": "pickled"}}, Refusal.BAD_MANIFEST),
        ({"policy": policy().manifest() | {"hidden": [10**9, 10**9]}}, Refusal.WRONG_SHAPE),
        ({"made": policy(observation_size=5)}, Refusal.WRONG_SHAPE),
        ({"made": policy().double()}, Refusal.WRONG_SHAPE),
        ({"made": policy(log_std="fixed")}, Refusal.WRONG_SHAPE),
        ({"interface_digest": "0" * 64}, Refusal.WRONG_INTERFACE),
    ],
)
def test_what_does_not_fit_is_refused_with_and_without_an_active_policy(start, changes, reason):
    for acting in (start(), start(policy())):
        if acting.active is None and changes.get("made") is not None and changes["made"].config.log_std == "fixed":
            continue  # as the first policy it would do
        with pytest.raises(WeightsRefused) as caught:
            push(acting, 1, **changes)
        assert caught.value.reason is reason


def test_a_restart_goes_on_with_what_acted_and_what_waited_waits_again(start, tmp_path):
    acting = start(policy())
    act(acting, 0)
    answered(acting)
    push(acting, 1)
    again = start(policy(0.3))
    assert again.active.n == 0 and again.pending.n == 1 and again.highest_n == 1
    assert again.knows(packed(tmp_path / "same", 1)) and not again.knows(packed(tmp_path / "other", 1, 0.1))
    act(again, 0)
    answered(again)
    again = start()
    assert again.active.n == 1 and again.pending is None
    with pytest.raises(WeightsRefused, match="old_version"):
        push(again, 1)


def test_a_roll_back_pins_over_restarts_until_unpinned(start):
    acting = start(policy())
    for n in (1, 2):
        push(acting, n, bias=0.1 * n)
        act(acting, 0)
        answered(acting)
    acting.roll_back("run", 1)
    assert act(acting, 5).n == 2
    assert act(acting, 0).n == 1
    with pytest.raises(WeightsRefused, match="pinned"):
        push(acting, 3)
    again = start()
    assert again.active.n == 1 and again.pinned and again.pending is None
    again.unpin()
    push(again, 3)
    assert act(again, 0).n == 3
    with pytest.raises(WeightsRefused, match="not_kept"):
        again.roll_back("run", 99)
    assert not again.pinned


def test_the_initial_policy_is_version_0_and_must_be_of_the_contract(start):
    acting = start()
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    with pytest.raises(WeightsRefused, match="wrong_interface"):
        acting.load_initial(policy(), {}, 0)
    with pytest.raises(WeightsRefused, match="non_finite"):
        acting.load_initial(policy(math.nan), facts, 0)
    with pytest.raises(WeightsRefused, match="wrong_shape"):
        acting.load_initial(policy(observation_size=5), facts, 0)
    assert acting.active is None and not start().load_kept()
    acting.load_initial(policy(), facts, 0)
    assert (acting.active.run_id, acting.active.n, acting.highest_n) == ("run", 0, 0)


def test_kept_weights_that_do_not_fit_the_contract_are_a_users_error(start, tmp_path):
    start(policy())
    store = WeightStore(tmp_path)
    acting = ActingPolicy(CONTRACT, Gate(GateRules("another"), KEY, "run"), store, KEY)
    with pytest.raises(ConfigError, match="contract of the run"):
        acting.load_kept()


def test_a_bad_observation_is_no_answer_and_not_remembered(start):
    acting = start(policy())
    for bad in (OBSERVATION[:-1], np.full_like(OBSERVATION, np.nan)):
        with pytest.raises(ValueError, match="observation"):
            acting.act(bad, False, 0, 0)
    push(acting, 1)
