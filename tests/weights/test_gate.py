"""Pins: weights that are old, foreign, wild or not what was offered, and act all the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.weights import Refusal, WeightsRefused
from inril_core.weights.gate import GateRules

SHAPES = {"head.weight": (6, 4), "head.bias": (6,)}


def refused(call, *arguments) -> Refusal:
    with pytest.raises(WeightsRefused) as caught:
        call(*arguments)
    return caught.value.reason


def test_a_good_pack_passes_and_counts(make):
    gate, data = make.gate(), make.pack()
    state, manifest = gate.open_pack(make.hashed(data), make.offer(data), SHAPES)
    gate.accept(make.offer(data))
    assert gate.highest_n == 1 and manifest["n"] == 1 and state["head.bias"].shape == (6,)


def test_old_and_replayed_versions_are_refused(make):
    gate, data = make.gate(highest_n=5), make.pack(n=5)
    assert refused(gate.check_offer, make.offer(data, n=5)) is Refusal.OLD_VERSION
    assert refused(gate.check_offer, make.offer(data, n=4)) is Refusal.OLD_VERSION
    # a replay of an old pack under a new number
    assert refused(gate.open_pack, make.hashed(data), make.offer(data, n=6), SHAPES) is Refusal.OTHER_CONTENT


@given(st.lists(st.integers(0, 30), max_size=40))
def test_whatever_the_order_versions_only_rise(make, versions):
    gate, accepted = make.gate(), []
    for n in versions:
        try:
            gate.check_offer(make.offer(b"x", n=n))
        except WeightsRefused:
            continue
        gate.accept(make.offer(b"x", n=n))
        accepted.append(n)
    assert accepted == sorted(set(accepted))


def test_another_run_is_refused_with_the_cure(make):
    offer = make.offer(b"x", run_id="run-2", n=9)
    assert refused(make.gate(highest_n=5).check_offer, offer) is Refusal.UNKNOWN_RUN
    with pytest.raises(WeightsRefused, match=f"run_id:={make.run_id} and a new run_dir"):
        make.gate(highest_n=5).check_offer(offer)


def test_sizes_are_refused_before_a_byte_is_pulled(make):
    gate = make.gate()
    assert refused(gate.check_offer, make.offer(b"", size_bytes=1 << 40)) is Refusal.TOO_LARGE
    assert refused(gate.check_offer, make.offer(b"")) is Refusal.EMPTY


def test_a_pack_other_than_the_announced_one_is_refused(make):
    gate, data = make.gate(), make.pack()
    assert refused(gate.open_pack, make.hashed(b""), make.offer(data), SHAPES) is Refusal.EMPTY
    assert refused(gate.open_pack, make.hashed(data[:-1]), make.offer(data), SHAPES) is Refusal.BAD_SIZE
    assert refused(gate.open_pack, make.hashed(data), make.offer(data, digest=bytes(32)), SHAPES) is Refusal.BAD_DIGEST


def test_another_contract_other_shapes_and_nan_are_refused(make):
    gate = make.gate()
    data = make.pack(interface_digest="e" * 64)
    assert refused(gate.open_pack, make.hashed(data), make.offer(data), SHAPES) is Refusal.WRONG_INTERFACE
    data = make.pack()
    assert (
        refused(gate.open_pack, make.hashed(data), make.offer(data), {**SHAPES, "head.bias": (7,)})
        is Refusal.WRONG_SHAPE
    )
    assert refused(gate.open_pack, make.hashed(data), make.offer(data), {"head.bias": (6,)}) is Refusal.WRONG_SHAPE
    for bad in (float("nan"), float("inf")):
        data = make.pack(state={"head.weight": torch.full((6, 4), bad), "head.bias": torch.zeros(6)})
        assert refused(gate.open_pack, make.hashed(data), make.offer(data), SHAPES) is Refusal.NON_FINITE
    assert gate.highest_n == -1


def test_a_pinned_gate_accepts_nothing(make):
    gate = make.gate(pinned=True)
    assert refused(gate.check_offer, make.offer(b"x")) is Refusal.PINNED
    gate.pinned = False
    gate.check_offer(make.offer(b"x"))


def test_a_rollback_while_a_pack_is_pulled_still_counts(make):
    gate, data = make.gate(), make.pack()
    gate.check_offer(make.offer(data))
    gate.pinned = True
    assert refused(gate.open_pack, make.hashed(data), make.offer(data), SHAPES) is Refusal.PINNED


def test_the_trial_refuses_wild_and_non_finite_actions(make):
    gate = make.gate(max_action_change=0.5)
    still = np.zeros((20, 6), np.float32)
    gate.check_actions(still + 0.4, still)
    gate.check_actions(still + 0.9, None)
    gate.check_actions(still[:0], still[:0])
    assert refused(gate.check_actions, still + 0.6, still) is Refusal.WILD_ACTION
    assert refused(gate.check_actions, still * np.nan, None) is Refusal.NON_FINITE
    assert refused(gate.check_actions, still, still * np.nan) is Refusal.WILD_ACTION


@pytest.mark.parametrize("bound", [0.0, -1.0, 2.1, float("nan")])
def test_a_bound_that_means_nothing_is_refused(bound):
    with pytest.raises(ConfigError, match="max_action_change"):
        GateRules("d", max_action_change=bound)


@given(st.sampled_from(["run_id", "n", "size_bytes", "digest", "mac"]), st.integers(1, 255))
def test_an_offer_that_the_keys_holder_did_not_make_is_refused_before_a_byte_is_pulled(make, field, change):
    good = make.offer(make.pack())
    value = getattr(good, field)
    if isinstance(value, bytes):
        value = bytes([value[0] ^ change]) + value[1:]
    else:
        value = value + (chr(change + 64) if isinstance(value, str) else change)
    assert refused(make.gate().check_offer, replace(good, **{field: value})) is Refusal.BAD_SIGNATURE
    assert refused(make.gate().check_offer, make.offer(make.pack(), key=bytes(32))) is Refusal.BAD_SIGNATURE


def test_large_finite_numbers_are_finite(make):
    """Their sum is not."""
    state = {"head.weight": torch.full((6, 4), 3e38), "head.bias": torch.zeros(6)}
    data = make.pack(state=state)
    make.gate().open_pack(make.hashed(data), make.offer(data), SHAPES)
