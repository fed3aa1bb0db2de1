"""Preflight: what is found broken, with which mend; and that the command's exit code says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from inril_bringup import cli, preflight


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path


def test_a_good_key_is_ok(key_file: Path) -> None:
    """Pins a check that finds fault with what inril itself makes."""
    assert preflight.key(key_file).level == "OK"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_fails(key_file: Path, mode: int) -> None:
    """Pins weights that anybody on the machine can sign."""
    key_file.chmod(mode)
    check = preflight.key(key_file)
    assert check.level == "FAIL" and f"{mode:o}" in check.found and "chmod 600" in check.mend


def test_other_keys_that_will_not_do(key_file: Path, tmp_path: Path) -> None:
    """Pins a cut-off key, a folder and a link in the key's place; a missing key is made by the first run."""
    link = tmp_path / "link"
    link.symlink_to(key_file)
    assert preflight.key(link).level == "FAIL"
    assert preflight.key(tmp_path).level == "FAIL"
    key_file.write_bytes(b"short")
    assert preflight.key(key_file).level == "FAIL"
    assert preflight.key(tmp_path / "none").level == "WARN"


def test_a_little_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a run that dies of a full disk."""
    usage = preflight.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage._replace(free=preflight.MIB))
    assert preflight.disk(tmp_path / "not" / "yet" / "there").level == "FAIL"


@pytest.mark.parametrize(("given", "level"), [(None, "OK"), ("UDPv4", "OK"), ("DEFAULT", "WARN"), ("SHM", "WARN")])
def test_shared_memory_is_warned_of(monkeypatch: pytest.MonkeyPatch, given: str | None, level: str) -> None:
    """Pins a node that stays deaf after kill -9, with nobody to say why."""
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    if given is not None:
        monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", given)
    check = preflight.transport()
    assert check.level == level and (level == "OK" or "deaf" in check.mend)


def test_another_torch_fails_and_another_helper_only_warns(tmp_path: Path) -> None:
    """Pins a run whose numbers cannot be repeated because a package changed under it."""
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==0.1\npyyaml==0.1\n")
    check = preflight.packages(pins)
    assert check.level == "FAIL" and "torch" in check.found and "pyyaml" not in check.found
    pins.write_text("pyyaml==0.1\nnot-installed-at-all==3\n")
    assert preflight.packages(pins).level == "WARN"
    pins.write_text("# nothing\n")
    assert preflight.packages(pins).level == "OK"


def test_no_graphics_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a run that fails at its first camera image, or a driver's crash that takes preflight with it."""
    monkeypatch.setattr(preflight, "_RENDER", "import os; os.kill(os.getpid(), 11)")
    check = preflight.graphics()
    assert check.level == "FAIL" and "libegl1" in check.mend


def test_the_command_says_it_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key_file: Path
) -> None:
    """Pins a script that goes on after a failed preflight, and a broken check that hides the others."""

    def broken() -> preflight.Check:
        raise RuntimeError("no such thing")

    for name in ("middleware", "domain", "graphics"):
        monkeypatch.setattr(preflight, name, lambda name=name: preflight.Check(name, "OK", "as expected"))
    monkeypatch.setenv("INRIL_KEY", str(key_file))
    monkeypatch.setattr(preflight, "packages", lambda: preflight.Check("packages", "OK", "as pinned"))

    def code(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.main(["preflight", *words])
        return int(str(ended.value.code))

    assert code() == 0
    key_file.chmod(0o644)
    capsys.readouterr()
    assert code("--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["result"] == "FAIL"
    assert [check["name"] for check in content["checks"] if check["level"] == "FAIL"] == ["key"]
    key_file.chmod(0o600)
    monkeypatch.setattr(preflight, "usb", broken)
    assert code() == 1
    assert "RuntimeError: no such thing" in capsys.readouterr().out
