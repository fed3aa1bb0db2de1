"""The session of docs/evaluation.md: a cloned, a fine-tuned and the scripted policy on insert_leg, in one process.

``python -m inril_core.evaluation.session.study runs/study`` takes a few minutes and goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.make import EXPERT, Wish, make_session
from inril_core.evaluation.session.outcomes import finished
from inril_core.evaluation.session.plan import PLAN_NAME
from inril_core.evaluation.session.report import write_report
from inril_core.finetune.config import load_config
from inril_core.finetune.local import collect_demos, fine_tune
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import save_policy
from inril_core.session.plan import episode_seed
from inril_core.tasks import make_task

TASK, DEMOS_N, BUDGET_STEPS = "insert_leg", 12, 6000


def make_policies(folder: Path) -> dict[str, str]:
    """Clone from demonstrations and fine-tune, where that is not done yet; the files by name."""
    cloned, tuned = folder / "cloned.inril", folder / "tuned.inril"
    if not tuned.exists():
        torch.manual_seed(0)
        torch.set_num_threads(1)
        task = make_task(TASK)
        config = load_config("weighted_sum").changed(**{"schedule.budget_steps": BUDGET_STEPS})
        demos = collect_demos(task, task.expert(), [episode_seed("demo", i, 0) for i in range(DEMOS_N)])
        policy = pretrain(config, task.interface, demos)
        facts = {"interface_digest": task.interface.interface_digest, "contract_text": task.interface.text}
        folder.mkdir(parents=True, exist_ok=True)
        save_policy(cloned, policy, facts)
        fine_tune(config, task, policy, demos, folder / "learner", episode_seed("train", 0, 0))
        save_policy(tuned, policy, facts)
        task.close()
    return {"scripted": EXPERT, "cloned": str(cloned), "tuned": str(tuned)}


def main(folder: Path) -> None:
    """Policies, plan, trials, unsealing and report."""
    policies, root = make_policies(folder), folder / "session"
    if not (root / PLAN_NAME).exists():
        starts = {"full": 30, "narrow": 10}
        make_session(root, Wish(TASK, policies, "cloned", starts, difference=0.2, baseline=0.6))
    session = SessionFolder(root)
    run_locally(session)
    session.unseal("the study", "", 0.0, finished(session))
    print(write_report(session)[0])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/study"))
