"""Preflight: what is found broken, with which fix; and that the command's exit code says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from inril_bringup import cli, neighbours, preflight
from inril_bringup.environment import PROFILES, RANGE, TRANSPORTS

from tests.domains import own_domain

SHORT_PROBE = "import sys; from inril_bringup import probe; probe.EXCHANGE_TIMEOUT_S = 1.0; probe.main(sys.argv[1:])"


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
    assert check.level == "FAIL" and f"{mode:o}" in check.found and "chmod 600" in check.fix


def test_other_keys_that_will_not_do(key_file: Path, tmp_path: Path) -> None:
    """Pins a cut-off key, a folder and a link in the key's place; a missing key is made by the first run."""
    link = tmp_path / "link"
    link.symlink_to(key_file)
    assert preflight.key(link).level == "FAIL"
    assert preflight.key(tmp_path).level == "FAIL"
    key_file.write_bytes(b"short")
    assert preflight.key(key_file).level == "FAIL"
    assert preflight.key(tmp_path / "none").level == "WARN"


def test_a_home_that_cannot_be_written_says_where_the_key_may_be(tmp_path: Path) -> None:
    """Pins `make setup` as the remedy for a read-only home."""
    check = preflight.key(Path("/proc/self/none/weights.key"))
    assert check.level == "FAIL" and "INRIL_KEY" in check.fix


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF", "set LOCALHOST or SUBNET"),
        ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp", "unset RMW_IMPLEMENTATION"),
        ("ROS_DISCOVERY_SERVER", "127.0.0.1:11999", "nobody answers there"),
        ("ROS_DOMAIN_ID", "abc", "give an integer"),
        ("ROS_DOMAIN_ID", "233", "give an integer"),
    ],
)
def test_an_environment_in_which_nodes_do_not_hear_each_other_fails(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """Pins an OK for a graph that would wait for ever, and a middleware that ends the whole of preflight."""
    monkeypatch.setattr(neighbours, "PROBE", ("-c", SHORT_PROBE))
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv(name, value)
        (check,) = preflight.dds()
    assert check.level == "FAIL" and told in f"{check.found}; {check.fix}"


HANGS = "import sys, time; from inril_bringup import probe; probe.{} = 1.0; probe.{} = lambda *a, **k: time.sleep(99)"


@pytest.mark.parametrize(
    ("longest", "what", "works"), [("LONGEST_S", "rclpy.init", False), ("LEAVE_S", "rclpy.try_shutdown", True)]
)
def test_a_middleware_that_never_comes_back(
    monkeypatch: pytest.MonkeyPatch, longest: str, what: str, works: bool
) -> None:
    """Pins a graph that does not start, with no reason but the machine, because a probe could not leave DDS."""
    monkeypatch.setattr(neighbours, "PROBE", ("-c", f"{HANGS.format(longest, what)}; probe.main(sys.argv[1:])"))
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        checks = preflight.dds()
    if works:
        assert [check.level for check in checks] == ["OK"] * 3
    else:
        assert checks[0].level == "FAIL" and "DDS did not start: Timeout" in checks[0].found


def test_two_processes_that_hear_each_other_are_what_ok_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins an OK that nobody tried, and a home that is not needed to try it."""
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("HOME", "/proc")
        checks = {check.name: check for check in preflight.dds()}
    assert [check.level for check in checks.values()] == ["OK"] * 3
    assert "hear each other" in checks["dds"].found and "nobody else" in checks["domain"].found


def test_a_little_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins a run that dies of a full disk."""
    usage = preflight.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    assert preflight.disk(tmp_path / "not" / "yet" / "there").level == "FAIL"


@pytest.mark.parametrize(("given", "level"), [(None, "OK"), ("UDPv4", "OK"), ("DEFAULT", "WARN"), ("SHM", "WARN")])
def test_shared_memory_is_warned_of(monkeypatch: pytest.MonkeyPatch, given: str | None, level: str) -> None:
    """Pins a node that stays deaf after kill -9, with nobody to say why."""
    for name in (RANGE, TRANSPORTS, *PROFILES):
        monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", given)
    check = preflight.transport()
    assert check.level == level and (level == "OK" or "deaf" in check.fix)


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
    assert check.level == "FAIL" and "libegl1" in check.fix


def test_the_command_says_it_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key_file: Path
) -> None:
    """Pins a script that goes on after a failed preflight, and a broken check that hides the others."""

    def broken() -> preflight.Check:
        raise RuntimeError("no such thing")

    for name in ("dds", "graphics"):
        monkeypatch.setattr(preflight, name, lambda *_, name=name: preflight.Check(name, "OK", "as expected"))
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
