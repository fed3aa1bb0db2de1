"""Pins: data that give no calibration, or a wrong one, are refused with the reason: in one line, with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inril_bringup import cli

from inril_core.calibration import rigid
from tests.calibration.made_poses import K, Made, make

TALL = np.diag([2.0, 2.0, 1.0])


def refused(path: Path, capsys: pytest.CaptureFixture[str], plain_too: bool = True) -> tuple[str, str]:
    """Reason and message that the command gives; its outputs with and without --json are checked."""
    for words in ([], ["--json"]) if plain_too else (["--json"],):
        with pytest.raises(SystemExit) as end:
            cli.main(["calibrate", "hand-eye", "--poses", str(path), *words])
        out, error = capsys.readouterr()
        assert end.value.code == 2, error
        assert error.startswith("inril calibrate hand-eye: refused: ") and error.count("\n") == 1
        if words:
            answer = json.loads(out)
            assert set(answer) == {"refused", "message"} and answer["message"] in error
        else:
            assert out == ""
    return answer["refused"], answer["message"]


def inverted(made: Made) -> dict[str, Any]:
    return {"T_base_gripper": rigid.inverse(made.arrays["T_base_gripper"])}


def other_mode(made: Made) -> dict[str, Any]:
    return {"mode": "eye_to_hand" if made.arrays["mode"] == "eye_in_hand" else "eye_in_hand"}


def transposed_rotations(made: Made) -> dict[str, Any]:
    T = made.arrays["T_base_gripper"].copy()
    T[:, :3, :3] = np.swapaxes(T[:, :3, :3], 1, 2)
    return {"T_base_gripper": T}


def millimetres(made: Made) -> dict[str, Any]:
    T = made.arrays["T_base_gripper"].copy()
    T[:, :3, 3] *= 1000.0
    return {"T_base_gripper": T}


def board_times(factor: float) -> Any:
    return lambda made: {"board_points": made.arrays["board_points"] * factor}


def board_signs(*signs: float) -> Any:
    return lambda made: {"board_points": made.arrays["board_points"] * signs}


def focal_times(factor: float) -> Any:
    return lambda made: {"K": K @ np.diag([factor, factor, 1.0])}


WRONG = {
    "half_size": (board_times(0.5), "wrong_board_size", "fit a board"),
    "ten_percent": (board_times(1.1), "wrong_board_size", "fit a board 0.9"),
    "one_percent": (board_times(1.01), "wrong_board_size", "fit a board 0.9"),
    "board_in_mm": (board_times(1000.0), "wrong_board_size", "divide by 1000"),
    "arm_in_mm": (millimetres, "wrong_board_size", "divide by 1000"),
    "mirrored_x": (board_signs(-1.0, 1.0, 1.0), "mirrored_board", "mirrored board"),
    "mirrored_y": (board_signs(1.0, -1.0, 1.0), "mirrored_board", "mirrored board"),
    "image_flipped": (lambda m: {"corners": m.arrays["corners"] * [-1, 1] + [640, 0]}, "mirrored_board", "flips"),
    "upside_down": (lambda m: {"corners": m.arrays["corners"] * [1, -1] + [0, 480]}, "mirrored_board", "flips"),
    "inverted": (inverted, "swapped_convention", "T_gripper_base"),
    "other_mode": (other_mode, "swapped_convention", "give mode = "),
    "transposed": (transposed_rotations, "swapped_convention", "transposed"),
    "late_by_one": (lambda m: {"corners": np.roll(m.arrays["corners"], 1, axis=0)}, "out_of_step", "i + 1"),
    "shuffled": (lambda m: {"corners": m.arrays["corners"][::-1]}, "no_agreement", "different angles"),
    "focal_half": (focal_times(0.5), "corners_do_not_fit_K", "focal length"),
    "focal_3_percent": (focal_times(1.03), "corners_do_not_fit_K", "focal length"),
    "K_larger": (lambda m: {"K": TALL @ K}, "corners_do_not_fit_K", "larger image"),
    "K_smaller": (lambda m: {"K": np.linalg.inv(TALL) @ K}, "corners_do_not_fit_K", "another resolution"),
    "columns_first": (
        lambda m: {"corners": m.arrays["corners"].reshape(-1, 6, 9, 2).swapaxes(1, 2).reshape(-1, 54, 2)},
        "corners_do_not_fit_board",
        "same order",
    ),
}


@pytest.mark.parametrize(
    ("mode", "bad"),
    [("eye_in_hand", ()), ("eye_to_hand", ("arm", "corners", "reversed"))],
    ids=["in_hand_clean", "to_hand_a_fifth_bad"],
)
@pytest.mark.parametrize("case", WRONG)
def test_what_people_get_wrong(
    case: str, bad: tuple[str, ...], mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason, words = WRONG[case]
    if bad and case in ("late_by_one", "shuffled"):
        pytest.skip("an outlier moves with its neighbours")
    made = make(3, mode, bad=bad)
    found, message = refused(made.write(tmp_path / "poses.npz", **change(made)), capsys, plain_too=False)
    assert found == reason and words in message


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"poses": 4}, "too_few_poses"),
        ({"one_axis": True}, "too_little_rotation"),
        ({"one_axis": True, "bad": ("arm", "corners", "reversed")}, "too_little_rotation"),
        ({"tilt_rad": 0.0}, "too_little_rotation"),
        ({"tilt_rad": 0.02}, "too_little_rotation"),
        ({"bad": ("arm", "corners", "random", "arm", "corners", "random", "arm", "corners")}, "no_agreement"),
        ({"poses": 6, "bad": ("arm", "corners")}, "too_few_poses"),
    ],
)
def test_poses_that_do_not_suffice(
    arguments: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(make(2, **arguments).write(tmp_path / "poses.npz"), capsys, plain_too=False)[0] == reason


def with_value(name: str, index: Any, value: float) -> Any:
    def change(made: Made) -> dict[str, Any]:
        array = np.array(made.arrays[name])
        array[index] = value
        return {name: array}

    return change


BROKEN = {
    "nan_pose": (with_value("T_base_gripper", (3, 0, 3), np.nan), "not_finite", "index 3"),
    "inf_corner": (with_value("corners", (7, 2, 1), np.inf), "not_finite", "index 7"),
    "nan_point": (with_value("board_points", (0, 0), np.nan), "not_finite", "board_points"),
    "nan_K": (with_value("K", (0, 0), np.nan), "not_finite", "K"),
    "nan_distortion": (with_value("distortion", 1, np.nan), "not_finite", "distortion"),
    "scaled": (lambda m: {"T_base_gripper": m.arrays["T_base_gripper"] * 1.1}, "not_rigid", "last row"),
    "sheared": (with_value("T_base_gripper", (4, 0, 1), 0.9), "not_rigid", "index 4"),
    "left_handed": (lambda m: {"T_base_gripper": m.arrays["T_base_gripper"] * [-1, 1, 1, 1]}, "not_rigid", "mirrors"),
    "columns": (lambda m: {"T_base_gripper": np.swapaxes(m.arrays["T_base_gripper"], 1, 2)}, "not_rigid", "transposed"),
    "poses_3x4": (lambda m: {"T_base_gripper": m.arrays["T_base_gripper"][:, :3]}, "bad_shape", "(N, 4, 4)"),
    "one_less": (lambda m: {"corners": m.arrays["corners"][1:]}, "bad_shape", "15 poses"),
    "fewer_points": (lambda m: {"board_points": m.arrays["board_points"][1:]}, "bad_shape", "53 board_points"),
    "points_2d": (lambda m: {"board_points": m.arrays["board_points"][:, :2]}, "bad_shape", "(K, 3)"),
    "flat_corners": (lambda m: {"corners": m.arrays["corners"].reshape(15, -1)}, "bad_shape", "(N, K, 2)"),
    "K_3x4": (lambda m: {"K": np.eye(3, 4)}, "bad_camera_matrix", "3x3"),
    "K_transposed": (lambda m: {"K": K.T}, "bad_camera_matrix", "transposed"),
    "K_zero": (lambda m: {"K": np.zeros((3, 3))}, "bad_camera_matrix", "form"),
    "K_in_m": (lambda m: {"K": np.diag([1e-3, 1e-3, 1.0]) @ K}, "bad_camera_matrix", "10 px"),
    "K_negative": (lambda m: {"K": K * [[-1, 1, 1], [1, -1, 1], [1, 1, 1]]}, "bad_camera_matrix", "behind"),
    "distortion_3": (lambda m: {"distortion": np.zeros(3)}, "bad_distortion", "(0, 4, 5, 8, 12, 14)"),
    "normalised": (lambda m: {"corners": m.arrays["corners"] / 1000.0}, "corners_do_not_fit_K", "pixels"),
    "line": (lambda m: {"board_points": m.arrays["board_points"] * [1, 0, 0]}, "bad_board", "one line"),
    "mode": (lambda m: {"mode": "in_hand"}, "bad_mode", "eye_in_hand, eye_to_hand"),
    "mode_number": (lambda m: {"mode": np.zeros(3)}, "bad_mode", "eye_in_hand"),
    "text": (lambda m: {"corners": np.array([["a"]])}, "bad_type", "real numbers"),
    "complex": (lambda m: {"K": K.astype(complex)}, "bad_type", "real numbers"),
    "empty": (lambda m: {"T_base_gripper": np.zeros((0, 4, 4)), "corners": np.zeros((0, 54, 2))}, "too_few_poses", "0"),
    "no_K": (lambda m: {"K": None}, "missing_keys", "K missing; there are T_base_gripper"),
    "nothing": (lambda m: dict.fromkeys(m.arrays), "missing_keys", "T_base_gripper, corners"),
    "pickled": (lambda m: {"corners": np.array([{"a": 1}], dtype=object)}, "pickled", "pickled"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_arrays(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, reason, words = BROKEN[case]
    made = make(3)
    found, message = refused(made.write(tmp_path / "poses.npz", **change(made)), capsys)
    assert found == reason and words in message


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(64)])
def test_files_that_are_none(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "poses.npz"
    path.write_bytes(content)
    assert refused(path, capsys)[0] in ("unreadable", "missing_keys")


def test_a_file_that_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make(3).write(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "poses.npz"
    for part in (0.2, 0.6, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        assert refused(path, capsys)[0] == "unreadable"
    # one byte of the arrays turned: the archive's own sum tells
    path.write_bytes(whole[:400] + bytes([whole[400] ^ 0xFF]) + whole[401:])
    assert refused(path, capsys)[0] == "unreadable"


def test_no_file_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(tmp_path / "none.npz", capsys)[0] == "unreadable"
    assert refused(tmp_path, capsys)[0] == "unreadable"


def test_good_data_pass_and_print_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(3, bad=("arm",))
    path = made.write(tmp_path / "poses.npz", distortion=made.arrays["distortion"][None], extra=np.zeros(3))
    with pytest.raises(SystemExit) as end:
        cli.main(["calibrate", "hand-eye", "--poses", str(path), "--json"])
    out, error = capsys.readouterr()
    answer = json.loads(out)
    assert end.value.code == 0 and error == "" and out.count("\n") == 1
    assert rigid.difference(np.array(answer["T"]), made.T)[0] < 1e-3
    assert answer["rejected"] == made.bad and answer["residual_px"] < 0.5
