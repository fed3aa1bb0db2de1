"""Pins: a policy node that acts in an evaluation with other weights than the session asked for."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import torch
from inril_common.qos import LATCHED
from inril_msgs.msg import PolicyStatus
from inril_msgs.srv import RollBack

from inril_core.contract import load_contract
from inril_core.evaluation.session.analysis import kept_digest
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.policies import GaussianPolicy, save_policy

CONTRACT = load_contract("insert_leg")


def save(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    policy = GaussianPolicy(CONTRACT.observation_size, 6)
    save_policy(path, policy, {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text})
    return str(path)


def test_it_keeps_every_policy_of_the_plan_and_acts_with_the_chosen_one(bench, tmp_path, monkeypatch):
    root = tmp_path / "session"
    subjects = {"one": save(tmp_path / "1", 1), "scripted": "expert", "two": save(tmp_path / "2", 2)}
    make_session(root, Wish("insert_leg", subjects, "one", {"full": 1}, 0.3), np.random.default_rng(1))
    folder = SessionFolder(root)
    numbers = [folder.plan.version_n(c) for c, s in folder.sealed.subjects.items() if s.kind == "weights"]
    statuses = bench.hear(PolicyStatus, "/policy_status", LATCHED)
    for attempt in range(2):  # the second start finds them kept
        process = bench.start("inril_control.policy_node", run_dir=root, evaluation=True, keep_packs=32)
        bench.until(lambda: statuses and statuses[-1].highest_n == max(numbers), "kept policies")
        for n in numbers:
            asked = RollBack.Request(run_id=folder.plan.session_id, n=n)
            assert bench.ask(RollBack, "/policy/roll_back", asked).success
            bench.until(lambda n=n: n in (statuses[-1].pending_n, statuses[-1].active_n), "the chosen one")
            assert statuses[-1].pinned
        refused = bench.ask(RollBack, "/policy/roll_back", RollBack.Request(run_id=folder.plan.session_id, n=9))
        assert not refused.success
        if attempt == 0:
            statuses.clear()
            bench.end(process, signal.SIGKILL)
    monkeypatch.setenv("INRIL_KEY", str(tmp_path / "weights.key"))
    assert {kept_digest(folder, n) for n in numbers} == {"the kept pack has their digest"}
