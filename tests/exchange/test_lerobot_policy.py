"""Pins: a LeRobot policy that answers something else behind inril's frames than in LeRobot's own loop.

The policy runs in LeRobot's environment, which `make readers` makes; without it, the client is tested against what was
recorded there: ``INRIL_RECORD_EXCHANGE=1 pytest tests/exchange/test_lerobot_policy.py`` records anew.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation as R

from inril_core.contract import Contract, contract_from_text, load_contract
from inril_core.control.observation import observation_vector
from inril_core.policies import Memory, exploration_rng, policy_config
from inril_core.policies.client import PolicyClient, RemoteError, Terms
from inril_core.wire import Decoder

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("INRIL_READERS", ROOT / ".venv-readers")) / "bin" / "python"
SCRIPT = Path(__file__).with_name("lerobot_act.py")
RECORDED = Path(__file__).with_name("lerobot_act.json")
ROWS = 6
PATIENT_S = 60.0  # for a busy machine; nothing is asserted about it
SEEDS = [11, 12]

in_lerobot = pytest.mark.skipif(not PYTHON.exists(), reason="lerobot is not there: `make readers`")


def a_contract() -> Contract:
    """A pose, a number that the policy is not given, and one image."""
    content = json.loads(load_contract("insert_leg").text)
    content["observation"] = [
        {"name": "tool_rot6d", "shape": [6], "unit": "1", "frame": "base"},
        {"name": "gripper_width_m", "shape": [1], "unit": "m", "frame": "tool"},
        {"name": "tool_position_m", "shape": [3], "unit": "m", "frame": "base"},
    ]
    image = {"name": "front", "camera": "front", "width_px": 32, "height_px": 32, "required": True}
    return contract_from_text(json.dumps(content | {"images": [image]}))


CONTRACT = a_contract()
MAP = {
    "contract": "contract.yaml",
    "rate_hz": 10.0,
    "observation": {
        "tool_position_m": {"from": "observation.state[0:3]", "unit": "mm", "frame": "base"},
        "tool_rot6d": {"from": "observation.state[3:7]", "unit": "1", "frame": "base", "rotation": "quat_xyzw"},
    },
    "images": {"front": "observation.images.top"},
    "action": {"from": "action[0:3]", "kind": "delta_pose", "unit": "mm", "rotation": "action[3:6]"},
}


def questions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations float32[2, D], and what the policy is to be given of them: state float32[2, 7], pixels uint8[2, 16,
    16, 3]."""
    rng = np.random.default_rng(4)
    position_m, turned = rng.uniform(0.2, 0.4, (2, 3)), R.random(2, random_state=4)
    rot6d = turned.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(2, 6)
    pixels = np.repeat(np.repeat(rng.integers(0, 256, (2, 16, 16, 3), np.uint8), 2, 1), 2, 2)
    state = np.concatenate([rot6d, np.full((2, 1), 0.01), position_m], 1).astype(np.float32)
    rows = observation_vector(CONTRACT.image_shapes, state, {"front": pixels})
    quaternion = turned.as_quat(canonical=True) * -1.0  # the training data's mean has w = -1
    return rows, np.concatenate([position_m * 1e3, quaternion], 1).astype(np.float32), pixels[:, ::2, ::2]


def terms(address: str, **changes) -> Terms:
    sizes = (CONTRACT.observation_size, CONTRACT.action_size, ROWS)
    return Terms(address, *sizes, changes.get("timeout_s", PATIENT_S), 0.5, 0.05, 2.0)


def converse(address: str, rows: np.ndarray) -> tuple[list[dict[str, str]], list[np.ndarray]]:
    """Everything that went over the wire, and the plans: one question, two at once, and one that holds NaN."""
    said: list[dict[str, str]] = []
    client, plans = PolicyClient(terms(address)), []
    with wiretap(said):
        plans.append(client.ask(rows[:1], False, SEEDS[:1]))
        plans.append(client.ask(rows, True, SEEDS, timeout_s=PATIENT_S))
        with pytest.raises(RemoteError, match="NaN"):
            client.ask(np.full_like(rows[:1], np.nan), False, SEEDS[:1])
    client.close()
    return said, plans


@contextlib.contextmanager
def wiretap(said: list[dict[str, str]]) -> Iterator[None]:
    """Note what this thread's sockets send and receive."""
    send, receive = socket.socket.sendall, socket.socket.recv

    def note(who: str, data: bytes) -> None:
        if said and said[-1]["from"] == who:
            data = base64.b64decode(said.pop()["bytes"]) + data
        said.append({"from": who, "bytes": base64.b64encode(data).decode()})

    me = threading.get_ident()

    def noted_send(self: socket.socket, data: bytes, *rest: int) -> None:
        if threading.get_ident() == me:
            note("client", data)
        send(self, data, *rest)

    def noted_receive(self: socket.socket, *rest: int) -> bytes:
        data = receive(self, *rest)
        if threading.get_ident() == me:
            note("server", data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "sendall", noted_send)
        patch.setattr(socket.socket, "recv", noted_receive)
        yield


def recorded() -> list[tuple[str, bytes]]:
    return [(part["from"], base64.b64decode(part["bytes"])) for part in json.loads(RECORDED.read_text())]


def frames(data: bytes) -> list[tuple[dict, np.ndarray]]:
    decoder, found = Decoder(), []
    decoder.feed(data)
    while (frame := decoder.next()) is not None:
        found.append(frame)
    assert not decoder.begun
    return found


@contextlib.contextmanager
def replay() -> Iterator[tuple[str, list[bytes]]]:
    """A server that says what was recorded, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENT_S)
                for who, data in recorded():
                    if who == "server":
                        connection.sendall(data)
                        continue
                    got = b""
                    while len(got) < len(data) and (piece := connection.recv(len(data) - len(got))):
                        got += piece
                    asked.append(got)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join(PATIENT_S)


def recorded_rows() -> np.ndarray:
    """The observations of the recording: those that were asked for at once."""
    return next(body for who, data in recorded() if who == "client" for _, body in frames(data) if len(body) == 2)


def test_the_client_asks_and_understands_what_was_recorded_with_a_lerobot_policy() -> None:
    rows = recorded_rows()
    with replay() as (address, asked):
        _, plans = converse(address, rows)
    assert asked == [data for who, data in recorded() if who == "client"]
    hello, first, both, error = (frame for who, data in recorded() if who == "server" for frame in frames(data))
    assert (hello[0]["name"], hello[0]["chunk"], first[0]["type"], error[0]["type"]) == ("act", ROWS, "plan", "error")
    np.testing.assert_array_equal(plans[0], first[1].clip(-1, 1))
    np.testing.assert_array_equal(plans[1], both[1].clip(-1, 1))
    np.testing.assert_allclose(plans[0][0], plans[1][0], atol=1e-5)
    assert plans[1].shape == (2, ROWS, 6) and np.abs(plans[1]).max() > 0.05
    assert np.abs(plans[1][0] - plans[1][1]).max() > 1e-3, "the policy looks at what it is given"


def test_a_remote_base_executes_what_was_recorded() -> None:
    rows = recorded_rows()
    with replay() as (address, _):
        values = {"kind": "remote", "address": address, "chunk": 3, "timeout_s": PATIENT_S}
        policy, memory = policy_config(values).build(CONTRACT.observation_size, CONTRACT.action_size), Memory()
        made = [policy.act(rows[0], False, exploration_rng(0, step), memory) for step in range(3)]
        policy.client.close()
    plan = next(frame for who, data in recorded() if who == "server" for frame in frames(data) if "shape" in frame[0])
    np.testing.assert_array_equal(np.stack([one.action for one in made]), plan[1][0, :3].clip(-1, 1))
    assert [one.chunk_index for one in made] == [0, 1, 2]


def in_its_environment(*words: object, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PYTHON, *map(str, words)], env=environment(), capture_output=True, text=True, timeout=200)


def environment() -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "PYTHON", "_ROS"))}
    return clean | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a policy of LeRobot in ``policy``, the contract and the mapping."""
    path = tmp_path_factory.mktemp("lerobot")
    (path / "contract.yaml").write_text(CONTRACT.text)
    (path / "map.yaml").write_text(yaml.safe_dump(MAP))
    done = in_its_environment(SCRIPT, "make", path / "policy")
    assert done.returncode == 0, done.stderr[-3000:]
    return path


@contextlib.contextmanager
def served(folder: Path, *words: str) -> Iterator[str]:
    command = [PYTHON, "-m", "inril_core.exchange.lerobot_policy", "--policy", folder / "policy"]
    command += ["--map", folder / "map.yaml", "--device", "cpu", "--address", "127.0.0.1:0", *words]
    with (
        (folder / "errors.txt").open("w+") as errors,
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            address = next((line.split()[-1] for line in process.stdout if "listens at" in line), None)
            errors.seek(0)
            assert address is not None, errors.read()[-3000:]
            yield address
        finally:
            process.kill()


@in_lerobot
def test_its_plans_are_those_of_lerobots_own_functions(folder: Path) -> None:
    rows, state, pixels = questions()
    with served(folder) as address:
        said, plans = converse(address, rows)
    np.savez(folder / "inputs.npz", state=state, pixels=pixels)
    done = in_its_environment(SCRIPT, "answers", folder / "policy", folder / "inputs.npz", folder / "answers.npz")
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers.npz") as file:
        actions = file["actions"]
    scale = np.repeat([1e3 * CONTRACT.action.translation_scale_m, CONTRACT.action.rotation_scale_rad], 3)
    wanted = (actions / scale).clip(-1.0, 1.0)
    assert wanted.shape == (2, ROWS, 6), "all that it plans, not the few that LeRobot's loop would execute"
    np.testing.assert_allclose(plans[1], wanted, atol=1e-4)
    np.testing.assert_allclose(plans[0], wanted[:1], atol=1e-4)
    if os.environ.get("INRIL_RECORD_EXCHANGE"):
        RECORDED.write_text(json.dumps(said, indent=0) + "\n")
    kinds = [(who, [header.get("type") for header, _ in frames(data)]) for who, data in recorded()]
    assert kinds == [
        (part["from"], [header.get("type") for header, _ in frames(base64.b64decode(part["bytes"]))]) for part in said
    ]


@in_lerobot
def test_it_plans_ahead(folder: Path) -> None:
    rows, *_ = questions()
    with served(folder, "--ahead", "--chunk", "2") as address:
        client = PolicyClient(
            Terms(address, CONTRACT.observation_size, CONTRACT.action_size, 2, PATIENT_S, 1e6, 0.05, 2.0)
        )
        plan, refused = None, 0
        while plan is None:
            try:
                plan = client.ask(rows[:1], False, [1])
            except RemoteError as error:
                assert error.reason == "server" and "plan" in str(error)
                refused += 1
        at_once = client.ask(rows[:1], False, [1], timeout_s=PATIENT_S)
    assert refused and plan.shape == (1, 2, 6) and at_once.shape == (1, 2, 6)


@in_lerobot
def test_what_cannot_be_served_is_refused_before_it_is_served(folder: Path) -> None:
    """Pins: a policy that acts with random weights; a CPU where a GPU was meant; joints taken for poses."""
    import shutil

    without, other, joints = folder / "without", folder / "other", folder / "joints.yaml"
    for copy in (without, other):
        shutil.copytree(folder / "policy", copy)
    (without / "model.safetensors").unlink()
    # a tensor less: the file's header is JSON behind its size
    data = (other / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = sorted(key for key in header if key.endswith("action_head.bias"))[0]
    text = json.dumps({key.replace(name, "somebody.elses"): value for key, value in header.items()}).encode()
    text += b" " * (-len(text) % 8)
    (other / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    joints.write_text(yaml.safe_dump(MAP | {"action": {"from": "action", "kind": "normalised"}}))
    usual, cpu = ["--map", str(folder / "map.yaml")], ["--device", "cpu", "--address", "127.0.0.1:0"]
    policy = str(folder / "policy")
    taken = socket.create_server(("127.0.0.1", 0))
    cases = {
        "there is no model.safetensors": ["--policy", str(without), *usual, *cpu],
        "lacks 1 of the policy's tensors": ["--policy", str(other), *usual, *cpu],
        "neither a folder nor OWNER/NAME": ["--policy", str(folder / "nowhere" / "at"), *usual, *cpu],
        "has no config.json": ["--policy", str(folder), *usual, *cpu],
        "with --device cpu the policy runs without a GPU": ["--policy", policy, *usual, "--device", "cuda:77"],
        "A policy that moves joints cannot drive": ["--policy", policy, "--map", str(joints), *cpu],
        "observation.state has 7 numbers": ["--policy", policy, "--contract", "insert_leg_pixels", *cpu],
        "the policy has no such image": ["--policy", policy, *usual, *cpu, "--without", "observation.images.wrist"],
        "must be in [1, 6]": ["--policy", policy, *usual, *cpu, "--chunk", "7"],
        "choose another": [
            *["--policy", policy, *usual, "--device", "cpu"],
            *["--address", f"127.0.0.1:{taken.getsockname()[1]}"],
        ],
    }
    (folder / "commands.json").write_text(json.dumps(list(cases.values())))
    done = in_its_environment(SCRIPT, "refusals", folder / "commands.json", folder / "refusals.json")
    taken.close()
    assert done.returncode == 0, done.stderr[-3000:]
    for message, found in zip(cases, json.loads((folder / "refusals.json").read_text()), strict=True):
        assert found["code"] == 1 and message in found["errors"], (message, found)


@in_lerobot
def test_a_mapping_to_fill_in_has_the_policys_inputs(folder: Path) -> None:
    words = ["--contract", str(folder / "contract.yaml"), "--device", "cpu", "--write-map", str(folder / "new.yaml")]
    done = in_its_environment("-m", "inril_core.exchange.lerobot_policy", "--policy", folder / "policy", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    text = (folder / "new.yaml").read_text()
    assert "observation.state[7]" in text and "observation.images.top (image)" in text and "action[6]" in text
    assert "???" in text and "success: file" in text
