"""Pins: a policy on the robot that sees other pixels than the learner, or black ones where an image is missing."""

import numpy as np
import torch
from inril_common.convert import array_to_image, float32_array
from inril_common.qos import TICK
from inril_msgs.msg import Observation, PolicyAction

from inril_core.contract import Contract, load_contract
from inril_core.control.observation import observation_vector
from inril_core.policies import exploration_rng, gaussian, save_policy

IMAGES = [
    {"name": name, "camera": "wrist", "width_px": 9, "height_px": 8, "required": required}
    for name, required in (("unread", False), ("second", True), ("first", True))
]
CONTRACT = Contract.model_validate({**load_contract("insert_leg_pixels").model_dump(), "images": IMAGES})
STATE = np.linspace(-0.3, 0.3, CONTRACT.state_size).astype(np.float32)


def test_the_node_answers_to_what_the_learner_will_see(bench, tmp_path) -> None:
    torch.manual_seed(0)
    policy = gaussian.Config(hidden=(8,)).seeing(CONTRACT.image_shapes).build(CONTRACT.observation_size, 6)
    torch.nn.init.normal_(policy.head.weight)
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(tmp_path / "initial.inril", policy, facts)
    (tmp_path / "pixels.yaml").write_text(CONTRACT.text)
    bench.start(
        "inril_control.policy_node",
        contract=tmp_path / "pixels.yaml",
        run_dir=tmp_path / "run",
        initial_weights=tmp_path / "initial.inril",
    )
    answers = bench.hear(PolicyAction, "/policy_action", TICK)
    speak = bench.speak(Observation, "/observation", TICK)
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (8, 9, 3), np.uint8) for name in ("unread", "second", "first")}

    def observe(k: int, names: tuple[str, ...]) -> None:
        message = Observation(boot_id="o", k=k, episode_id="e", step=k, seed=5)
        message.phase, message.purpose = Observation.PHASE_RUN, Observation.PURPOSE_TRAIN
        message.state = float32_array(STATE)
        message.images = [array_to_image(images[name], message.header.stamp, name) for name in names]
        speak(message)

    for k, names in enumerate((("unread", "second"), ("unread", "second", "first"))):
        observe(k, names)
    bench.until(lambda: answers, "answer")
    wanted = policy.act(observation_vector(CONTRACT.image_shapes, STATE, images), False, exploration_rng(5, 1)).action
    assert answers[0].k == 1, "the tick without an image is not answered"
    np.testing.assert_allclose(np.array(answers[0].action), wanted, atol=1e-6)
