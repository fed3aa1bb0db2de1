"""Pins: a demo that was interrupted after a part of it does not start that part again, nor refuses to go on."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from inril_bringup import demo

from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.run import open_run
from inril_core.session.ledger import EpisodeResult, Ledger


def result(segment_index: int, segment: str) -> EpisodeResult:
    return EpisodeResult(
        segment_index, segment, 0, f"e{segment_index}", "train", 1, 20, True, True, "cell", "", 3, 0, 70.0, 10.0, True
    )


def test_a_finished_plan_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(demo, "_inril", lambda *words, **_: started.append(words))
    plan = "train:20:steps"
    demo._graph("finetune", {"run_dir": tmp_path, "plan": plan})
    assert len(started) == 1
    ledger = Ledger(open_run(tmp_path).paths.session)
    ledger.append(result(0, plan))
    ledger.append(result(1, "train:60:seconds"))  # the longer plan that came after it
    demo._graph("finetune", {"run_dir": tmp_path, "plan": plan})
    demo._graph("finetune", {"run_dir": tmp_path, "plan": plan + ",train:60:seconds"})
    assert len(started) == 1
    demo._graph("finetune", {"run_dir": tmp_path, "plan": plan + ",train:60:seconds,eval:1:episodes"})
    assert len(started) == 2


CHILD = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
print("told", flush=True)
"""
PARENT = f"""
import sys
from inril_bringup.demo import _run_child
try:
    sys.exit(_run_child(lambda: exec({CHILD!r})))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_ends_the_demo_ends_its_graph_in_order(number: signal.Signals) -> None:
    """Pins: an arm that goes on moving after `inril demo` was killed."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
        parent.send_signal(number)
        rest, _ = parent.communicate(timeout=30.0)  # until the child has ended, too: it has the other end of the pipe
    assert rest == "told\n" and parent.returncode == (-9 if number == signal.SIGKILL else 130)


def test_only_the_part_that_measures_cadence_may_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a demo that waits for ever for a person, and one that says that all was well without its real-time part."""
    monkeypatch.setattr(demo, "_run_child", lambda command: 3)
    values = {"run_dir": tmp_path, "plan": "train:60:seconds"}
    assert demo._graph("finetune", values, may_be_cut=True) == 3
    with pytest.raises(ConfigError, match="ended with 3"):
        demo._graph("finetune", values)
    monkeypatch.setattr(demo, "_run_child", lambda command: 1)
    with pytest.raises(ConfigError, match="ended with 1"):
        demo._graph("finetune", values, may_be_cut=True)


def test_the_time_of_each_part_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a demo of which nobody can say what takes its minutes."""
    now_s = [10.0]
    monkeypatch.setattr(demo, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    took_s: dict[str, float] = {}
    for name, seconds in (("cloning", 12.34), ("report", 5.0)):
        with demo._stage(1, "text", took_s, name):
            now_s[0] += seconds
    assert took_s == {"cloning": 12.3, "report": 5.0}


@pytest.mark.parametrize("preset", ["weighted_sum", "residual_ppo"])
def test_from_pixels_encoders_are_fitted_on_their_own(preset: str, tmp_path: Path) -> None:
    """Pins a residual whose base sees in another way, and a schedule that is replaced."""
    config, plain = load_config(demo._for_pixels(tmp_path, preset)), load_config(preset)
    assert config.policy.encoder.trained_by == "key_poses" and config.schedule == plain.schedule
    assert all(part.encoder.trained_by == "key_poses" for part in config.policy.within())
    assert config.pretrain.encoder.updates == demo.PIXELS_ENCODER_UPDATES
