"""Pins: parts are where their tags say, smoothly, and neither a flipped tag nor a part that is gone moves them; the
node says so on part_poses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.calibration import rigid
from inril_core.calibration.stored import Stored, now, rows, write_stored
from inril_core.calibration.tags import TagLayout
from inril_core.contract.definitions import PartNoise
from inril_core.parts import PartTracker
from inril_core.sim.part_noise import PartTracker as SimulatedTracker
from tests.calibration.made_poses import T_of
from tests.calibration.test_rendered import K_EYE, T_BASE_EYE, layout_image

LAYOUT = TagLayout.model_validate(
    {
        "schema_version": 1,
        "name": "parts",
        "bodies": {
            "leg": {4: {"size_m": 0.05, "position_m": [0, 0, 0]}, 5: {"size_m": 0.05, "position_m": [0.07, 0, 0]}},
            "top": {8: {"size_m": 0.06, "position_m": [0, 0, 0]}},
        },
    }
)
# tags lie on the table, their z into it
LEG = T_of([0.0, 0.0, 0.3], [0.30, 0.02, 0.0]) @ T_of([math.pi, 0.0, 0.0], [0.0, 0.0, 0.0])
EMPTY = np.full((480, 640), 200, np.uint8)


def shot(T_base_leg: np.ndarray) -> np.ndarray:
    """The leg alone."""
    return layout_image(LAYOUT, K_EYE, rigid.inverse(T_BASE_EYE) @ T_base_leg, "leg")


def tracker(smoothing_s: float = 0.0) -> PartTracker:
    return PartTracker(LAYOUT, K_EYE, T_BASE_EYE, smoothing_s, forget_s=1.0)


def test_a_part_is_where_its_tags_are() -> None:
    seen = tracker()
    seen.image(1.0, shot(LEG))
    (leg,) = seen.parts(1.0)
    distance_m, angle = rigid.difference(leg.T_base_part, LEG)
    assert leg.name == "leg" and distance_m < 4e-3 and math.degrees(angle) < 2.0
    assert leg.age_s == 0.0 and leg.confidence > 0.8


@given(st.integers(0, 1000), st.floats(0.02, 0.5))
def test_the_simulated_tracker_smooths_in_the_same_way(seed: int, smoothing_s: float) -> None:
    """Pins: a policy that is trained with parts that are smoothed otherwise than those of the robot."""
    rng = np.random.default_rng(seed)
    simulated = SimulatedTracker(PartNoise(smoothing_s=smoothing_s))
    real = tracker(smoothing_s)
    T, stamp_ns = np.eye(4), 0
    for _ in range(6):
        stamp_ns += int(rng.integers(1, 200_000_000))
        T = rigid.moved(T, rng.uniform(-0.003, 0.003, 6))  # no jump, which the real one doubts
        real._see("leg", T, stamp_ns * 1e-9, 1.0)
        pose = np.concatenate([T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_quat()])
        measured = simulated.measure(stamp_ns, {"leg": pose})
        assert measured is not None
        found = real.parts(stamp_ns * 1e-9)[0].T_base_part
        smooth = measured[1]["leg"]
        assert np.allclose(found[:3, 3], smooth[:3], atol=1e-9)
        assert np.allclose(found[:3, :3], Rotation.from_quat(smooth[3:]).as_matrix(), atol=1e-6)


def test_it_ages_and_is_forgotten() -> None:
    seen = tracker()
    seen.image(1.0, shot(LEG))
    seen.image(1.4, EMPTY)
    first, later = seen.parts(1.0)[0], seen.parts(1.5)[0]
    assert later.age_s == pytest.approx(0.5) and later.confidence == pytest.approx(0.5 * first.confidence)
    assert seen.parts(2.0) == [] and seen.parts(0.9) == []
    seen.image(0.5, shot(T_of([0, 0, 0], [0.1, 0, 0]) @ LEG))  # older than the last: left
    assert seen.parts(1.5)[0].age_s == pytest.approx(0.5)


def test_a_step_is_smoothed_and_a_jump_must_be_seen_twice() -> None:
    seen = tracker(smoothing_s=0.1)
    near, far = T_of([0, 0, 0], [0.02, 0, 0]) @ LEG, T_of([0, 0, 0], [0.0, 0.12, 0]) @ LEG
    seen.image(1.0, shot(LEG))
    start = seen.parts(1.0)[0].T_base_part
    seen.image(1.1, shot(near))
    part_of_it = rigid.difference(seen.parts(1.1)[0].T_base_part, start)[0]
    assert part_of_it == pytest.approx(0.02 * (1.0 - math.exp(-1.0)), abs=2e-3)
    held = seen.parts(1.1)[0].T_base_part
    seen.image(1.2, shot(far))
    assert rigid.difference(seen.parts(1.2)[0].T_base_part, held)[0] == 0.0
    seen.image(1.3, shot(far))
    assert rigid.difference(seen.parts(1.3)[0].T_base_part, far)[0] < 5e-3


def test_the_node_publishes_what_it_sees(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    import json

    from inril_calibration.parts_node import PartsNode
    from inril_common.convert import array_to_image, ns_to_stamp, pose_to_array, stamp_to_ns
    from inril_common.qos import TICK
    from inril_msgs.msg import PartPoses
    from sensor_msgs.msg import Image

    from tests.sim.nodes import bench

    (tmp_path / "parts.yaml").write_text(json.dumps(LAYOUT.model_dump(mode="json")))
    common = {"created": now(), "software": "inril"}
    intrinsics = {"width_px": 640, "height_px": 480, "K": rows(K_EYE.K), "distortion": [0.0] * 5}
    place = rigid.compose(rigid.nearest_rotation(T_BASE_EYE[:3, :3]), T_BASE_EYE[:3, 3])
    for name, values in (
        ("intrinsics_front", {"kind": "intrinsics", "intrinsics": intrinsics}),
        ("T_base_front", {"kind": "base_tag", "T": rows(place)}),
    ):
        write_stored(tmp_path / f"{name}.yaml", Stored.model_validate({**common, "name": name, **values}))
    given = {
        "layout": str(tmp_path / "parts.yaml"),
        "intrinsics": str(tmp_path / "intrinsics_front.yaml"),
        "camera_pose": str(tmp_path / "T_base_front.yaml"),
    }
    with bench(PartsNode, **given) as made:
        heard = made.hear(PartPoses, "part_poses")
        camera = made.client.create_publisher(Image, "camera/front/image", TICK)
        made.until(lambda: camera.get_subscription_count(), "subscription")
        for i, picture in enumerate((EMPTY, shot(LEG), EMPTY, shot(LEG))):
            rgb = np.repeat(picture[..., None], 3, axis=2)
            camera.publish(array_to_image(rgb, ns_to_stamp(10**18 + i * 10**8), "front"))
        made.until(lambda: len(heard) == 2, "two messages")
        assert [stamp_to_ns(m.header.stamp) - 10**18 for m in heard] == [10**8, 3 * 10**8]
        assert heard[0].header.frame_id == "base" and list(heard[0].names) == ["leg"]
        assert pose_to_array(heard[0].poses[0])[:3] == pytest.approx(LEG[:3, 3], abs=4e-3)
