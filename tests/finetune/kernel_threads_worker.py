"""A learner in a process of its own, for what becomes of the kernels' threads there.

python -m tests.finetune.kernel_threads_worker WHAT FOLDER THREADS: prints one JSON object.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from inril_core.bench.speed_task import NoiseTask, demonstrations, refill
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.networks.compute import use_kernel_threads, use_one_thread
from inril_core.networks.native import library
from tests.finetune.preset_runs import checkpointed, sha256

UPDATES = 60
WAIT_S = 60.0
AT_ONCE = {"warmup_steps": 0, "critic_warmup_updates": 0, "rewards_before_actor": 0, "utd": 50.0}
SMALL = {"schedule.replay_capacity": 2000, **{f"schedule.{name}": value for name, value in AT_ONCE.items()}}


def made(folder: Path, preset: str = "weighted_sum", **changes: object) -> Learner:
    """With the preset's networks; it has ingested nothing."""
    config = load_config(preset).changed(**SMALL, **changes)
    task = NoiseTask()
    demos = demonstrations(task)
    return Learner(config, task.interface, new_policy(config, task.interface, demos), demos, folder)


def filled(folder: Path, preset: str = "weighted_sum", **changes: object) -> Learner:
    """The same with updates due."""
    learner = made(folder, preset, **changes)
    refill(learner, NoiseTask())
    return learner


def train(learner: Learner, until: int) -> str:
    """SHA-256 of all that training changed."""
    while learner.updates < until:
        learner.train_step()
    return sha256(checkpointed(learner.checkpoint()))


def helpers() -> list[Path]:
    """The kernels' own threads in this process."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().strip() == "inril-kernels":
                found.append(task)
        except OSError:  # ended meanwhile
            continue
    return found


def fields(task: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())


def trained(folder: Path) -> dict[str, Any]:
    digest = train(filled(folder), UPDATES)
    found = helpers()
    blocked = [int(fields(task)["SigBlk"], 16) for task in found]
    deadline_s = time.monotonic() + WAIT_S
    while not all(fields(task)["State"].startswith("S") for task in found) and time.monotonic() < deadline_s:
        pass
    asleep = [fields(task)["State"].startswith("S") for task in found]
    use_kernel_threads(1)
    return {"sha256": digest, "helpers": len(found), "blocked": blocked, "asleep": asleep, "left": len(helpers())}


def forked(folder: Path) -> dict[str, Any]:
    learner = filled(folder)
    train(learner, UPDATES // 2)
    before = len(helpers())
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        first = len(helpers())
        answer = {"sha256": train(learner, UPDATES), "helpers": [first, len(helpers())]}
        os.write(write_end, json.dumps(answer).encode())
        sys.exit(0)  # through everything that is done at an end
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = json.loads(pipe.read())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"child": answer, "code": code, "helpers": before, "sha256": train(learner, UPDATES)}


def killed(folder: Path) -> dict[str, Any]:
    learner = filled(folder)
    train(learner, UPDATES // 2)
    for _ in range(5):
        learner.train_step()
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def resumed(folder: Path) -> dict[str, Any]:
    learner = made(folder)
    learner.resume()
    return {"from": learner.updates, "sha256": train(learner, UPDATES)}


def at_once(folder: Path) -> dict[str, Any]:
    """Two Python threads with a learner each."""
    learners = [filled(folder / name) for name in ("a", "b")]
    found: list[str] = []
    threads = [threading.Thread(target=lambda own=own: found.append(train(own, UPDATES))) for own in learners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"sha256": found}


def in_training(folder: Path) -> dict[str, Any]:
    """The process ends while a thread of it is in a kernel; not in torch, which aborts a process that ends there."""
    began, found = threading.Event(), library()
    assert found is not None
    real = found.inril_regression

    def on_and_on(*arguments: Any) -> None:
        while True:
            real(*arguments)
            began.set()

    found.inril_regression = on_and_on  # type: ignore[assignment]
    threading.Thread(target=filled(folder).train_step, daemon=True).start()
    assert began.wait(WAIT_S)
    return {"helpers": len(helpers())}


def main() -> None:
    what, folder, threads = sys.argv[1:]
    use_one_thread()
    use_kernel_threads(int(threads))
    print(json.dumps(globals()[what](Path(folder))), flush=True)


if __name__ == "__main__":
    main()
