"""One of the processes that test_parallel.py starts: rank 0 leads and writes what it learned, the others follow."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from inril_core import distributed
from inril_core.bench.speed_task import NoiseTask, demonstrations
from inril_core.finetune.config import load_config
from inril_core.finetune.distributed import parallel
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import policy_actor, run_episode
from inril_core.networks.compute import use_one_thread
from tests.finetune.point_task import small_config

OFF = {"schedule.warmup_steps": 100, "schedule.critic_warmup_updates": 3, "metrics_every_updates": 8}
ON = {
    "policy": {"kind": "gaussian", "hidden": [16]},
    "rl": {"method": "ppo", "rollout_steps": 150, "epochs": 2, "minibatches": 7, "hidden": [16], "actor_lr": 1e-3,
           "critic_warmup_iterations": 0},
    "metrics_every_updates": 5,
}  # fmt: skip
RLPD = {"rl.behaviour_regularisation": 1.0, "rl.demo_share": 0.25, "rl.learn_temperature": True, "rl.temperature": 0.1}
DIFFUSION = {"chunk": 2, "hidden": [16], "time_size": 4, "denoising_steps": 4, "inference_steps": 2}
CASES = {
    "interleave": lambda: small_config("interleave", **OFF, **RLPD),
    "weighted_sum": lambda: small_config("weighted_sum", **OFF, **RLPD, **{"rl.critics": 3}),
    "ppo": lambda: load_config("weighted_sum").changed(schedule={"warmup_steps": 0}).changed(**ON),
    "idql": lambda: load_config("idql").changed(
        **OFF,
        **{"policy": {"kind": "selected_diffusion", **DIFFUSION, "critic_hidden": [16], "candidates": 2}},
        **{"rl.batch": 16, "rl.actor_weights": "expectile", "il.batch": 16},
    ),
    "dppo": lambda: load_config("dppo").changed(
        **{"policy": {"kind": "diffusion", **DIFFUSION}, "rl.minibatches": 7, "rl.epochs": 2, "rl.hidden": [16]},
        **{"rl.rollout_steps": 150, "rl.critic_warmup_iterations": 0, "metrics_every_updates": 5, "il.batch": 16},
        **{"combine": {"method": "weighted_sum"}},
    ),
}  # fmt: skip


def numbers(learner: Learner) -> dict[str, torch.Tensor]:
    """Everything that training changes."""
    parts = {"rl": learner.parts.rl.state(), "combine": learner.parts.combine.state(), "policy": learner.policy_state()}
    found = {f"{part}/{name}": tensor.clone() for part, names in parts.items() for name, tensor in names.items()}
    metrics = {f"metrics/{name}": torch.tensor(value).double() for name, value in learner.last_metrics.items()}
    return {**found, **metrics, "generator": learner.parts.generator.get_state().float()}


def learn(case: str, folder: Path, resume: bool = False) -> dict[str, torch.Tensor]:
    """Episodes of a fixed policy in, what is due trained; half-way also from a checkpoint."""
    # one process may use kernels that several do not have, and rounds otherwise
    task, config = NoiseTask(8, 6), CASES[case]().changed(compute={"native": False})
    demos = demonstrations(task, 2)

    def make() -> Learner:
        return parallel.make_learner(config, task.interface, new_policy(config, task.interface, demos), demos, folder)

    learner = make()
    for seed in range(3):
        acting = policy_actor(learner.policy, seed, True)
        learner.ingest(run_episode(task, acting, seed, "train", True, "test", learner.version))
        if resume and seed == 2:
            learner.checkpoint()
            if isinstance(learner, parallel.LeadingLearner):
                learner.stop()
            learner = make()
            learner.resume()
        for _ in range(min(learner.updates_due - learner.updates, 12)):
            learner.train_step()
        if learner.may_publish:
            learner.published(learner.updates)
    if isinstance(learner, parallel.LeadingLearner):
        learner.stop()
    return numbers(learner)


def lead_until_lost(folder: Path) -> int:
    """Train without end; says so on standard output."""
    task, config = NoiseTask(8, 6), small_config("interleave", **OFF, **{"rl.batch": 66, "il.batch": 33})
    demos = demonstrations(task, 2)
    learner = parallel.make_learner(config, task.interface, new_policy(config, task.interface, demos), demos, folder)
    learner.ingest(run_episode(task, policy_actor(learner.policy, 1, True), 1, "train", True, "test"))
    try:
        while True:
            learner.train_step()
            print("trained", flush=True)
    except distributed.ProcessLost as error:
        print(error, file=sys.stderr)
    finally:  # as the node does: a thread still inside gloo at the interpreter's end would abort it
        assert isinstance(learner, parallel.LeadingLearner)
        learner.stop()
        distributed.stop()
    return 1


def main() -> None:
    """Arguments: a folder for the results; ``forever``: train until a process is lost."""
    use_one_thread()
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["forever"]:
        sys.exit(lead_until_lost(folder))
    try:
        if distributed.start() > 0:
            for _ in range(len(CASES) + 1):
                parallel.follow()
            return
        for case in CASES:
            save_file(learn(case, folder / case, resume=case == "interleave"), folder / f"{case}.safetensors")
    finally:  # as in `follow` and the node: a thread still inside gloo at the interpreter's end would abort it
        distributed.stop()


if __name__ == "__main__":
    main()
