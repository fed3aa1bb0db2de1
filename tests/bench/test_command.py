"""What `inril bench` tells people who can fix it."""

import os
import signal

import pytest

from inril_core.bench import __main__ as main
from tests.bench.test_experiment import FILES

SMOKE = str(next(path for path in FILES if path.stem == "smoke"))


def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["bench", SMOKE, *words])
    code = main.main()
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "{file}"], "--out"),
        (["--report-only", "--out", "{file}"], "--report-only makes it"),
        (["--starts", "{file}"], "--starts"),
        (["--workers", "0"], "--workers = 0: give 1 or more"),
        (["--seeds", "7"], "--seeds: 7 is not in smoke"),
        (["--interveners"], "none of these methods has a simulated one"),
        (["--compare", "rl_only", "dppo"], "--compare: 'dppo' is not one of"),
    ],
)
def test_what_can_be_fixed_is_told_without_traceback(tmp_path, monkeypatch, capsys, words, says) -> None:
    """Pins: a traceback for a folder that is a file; every run failing one by one with the same error."""
    (tmp_path / "file").touch()
    out = [] if "--out" in words else ["--out", str(tmp_path)]
    given = [word.format(file=tmp_path / "file") for word in words]
    code, said = bench(monkeypatch, capsys, *given, *out)
    assert code == 1 and says in said and said.startswith("bench: ")
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_being_told_to_stop_ends_the_runs_and_keeps_what_is_done(tmp_path, monkeypatch, capsys, number) -> None:
    """Pins: runs that go on alone after their bench was terminated; a bench under nohup that cannot be stopped."""
    ended = []

    def run_missing(*arguments):
        try:
            os.kill(os.getpid(), number)
        finally:
            ended.append(True)

    monkeypatch.setattr("inril_core.bench.runner.run_missing", run_missing)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, said = bench(monkeypatch, capsys, "--out", str(tmp_path), "--starts", str(tmp_path))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and ended == [True] and "the same command goes on" in said
