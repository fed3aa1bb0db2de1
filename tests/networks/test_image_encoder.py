"""From pixels to points: where a bright pixel is, what a shift may do, and that no images means no change."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.contract import ImageShape
from inril_core.errors import ConfigError
from inril_core.networks.encoder import EncoderConfig, ImageEncoder, PixelColumns, draw_shifts, shifted, spatial_softmax
from inril_core.policies import exploration_rng, policy_config, policy_from_manifest

IMAGES = (ImageShape("left", 9, 7), ImageShape("right", 8, 8))
PIXELS = sum(shape.size for shape in IMAGES)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_single_bright_cell_is_found_where_it_is(height: int, width: int, data: st.DataObject) -> None:
    """Pins: x and y swapped, a transposed grid, coordinates that do not reach the border."""
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    maps = torch.zeros(1, 2, height, width)
    maps[0, 1, row, column] = 60.0
    x, y = (2.0 * place / (size - 1) - 1.0 if size > 1 else None for place, size in ((column, width), (row, height)))
    points = spatial_softmax(maps)[0]
    for found, place in ((points[1], x), (points[3], y)):
        assert place is None or found.item() == pytest.approx(place, abs=1e-4)
    if height > 1 and width > 1:  # an even map's mean is its middle
        assert points[[0, 2]].abs().max() < 1e-5


def test_two_cells_weigh_as_their_softmax() -> None:
    maps = torch.full((1, 1, 1, 3), -1e9)
    maps[0, 0, 0, 0], maps[0, 0, 0, 2] = 0.0, np.log(3.0)
    assert spatial_softmax(maps)[0, 0].item() == pytest.approx(0.75 - 0.25)
    assert spatial_softmax(maps, 0.5)[0, 0].item() == pytest.approx(0.9 - 0.1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**31))
def test_a_shift_moves_the_image_and_repeats_its_border(pad: int, seed: int) -> None:
    """Pins: wrapping round, pixels that mix, channels that move apart, a shift beyond the pad."""
    height, width = 6, 9
    place = torch.arange(height * width).reshape(height, width)
    images = torch.stack((place, place + 100, place + 180), -1).repeat(5, 1, 1, 1).to(torch.uint8)
    moved = shifted(images, draw_shifts(len(images), pad, torch.Generator().manual_seed(seed)))
    for image in moved:
        first = int(image[0, 0, 0])
        seen = [
            (dy, dx)
            for dy in range(-pad, pad + 1)
            for dx in range(-pad, pad + 1)
            if torch.equal(
                image,
                images[0][(torch.arange(height) + dy).clamp(0, height - 1)][
                    :, (torch.arange(width) + dx).clamp(0, width - 1)
                ],
            )
        ]
        assert seen, first
    again = shifted(images, draw_shifts(len(images), pad, torch.Generator().manual_seed(seed)))
    assert torch.equal(moved, again)


def test_every_image_is_shifted_alone_and_every_shift_occurs() -> None:
    image = torch.zeros(9, 9, 3, dtype=torch.uint8)
    image[4, 4] = 255
    moved = shifted(image.repeat(400, 1, 1, 1), draw_shifts(400, 2, torch.Generator().manual_seed(0)))
    places = {tuple(np.argwhere(one[..., 0].numpy())[0]) for one in moved}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


def make(kind: str = "gaussian", **changes):
    torch.manual_seed(0)
    values = {"kind": kind, "hidden": [8], "encoder": {"channels": [4, 4], "strides": [2, 1]}, **changes}
    if kind == "residual":
        values["base"] = {"kind": "gaussian", "hidden": [8]}
    return policy_config(values).seeing(IMAGES).build(3 + PIXELS, 2)


def row(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=3), rng.integers(0, 256, PIXELS)]).astype(np.float32)


def test_without_images_nothing_is_added_or_drawn() -> None:
    """Pins: a state policy whose weights, manifest or random numbers change."""
    image_encoder = ImageEncoder(PixelColumns(5, (), 4), EncoderConfig(), torch.Generator().manual_seed(0))
    inputs = torch.randn(4, 5)
    assert image_encoder(inputs) is inputs and image_encoder.width(5) == 5 and not list(image_encoder.parameters())
    policy = policy_config({"kind": "gaussian"}).build(5, 2)
    assert not [name for name in policy.state_dict() if "image_encoder" in name]
    assert not {"images", "encoder"} & set(policy.manifest())


@pytest.mark.parametrize("kind", ["gaussian", "residual"])
def test_a_policy_sees_each_of_its_images(kind: str) -> None:
    """Pins: an image that is left out, or the pixels of one read as the other's."""
    policy = make(kind)
    if kind == "residual":
        torch.nn.init.normal_(policy.head.weight)
    base = row()
    said = policy.act(base, True, exploration_rng(0, 0)).raw
    for first, size in ((3, IMAGES[0].size), (3 + IMAGES[0].size, IMAGES[1].size)):
        other = base.copy()
        other[first : first + size] = row(1)[first : first + size]
        assert np.abs(policy.act(other, True, exploration_rng(0, 0)).raw - said).max() > 1e-6
    assert policy.observation_mean.shape == (3,)
    policy.fit_normaliser(np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
    inputs = policy.normalise(torch.from_numpy(base))
    assert torch.equal(inputs[3:], torch.from_numpy(base[3:])), "pixels stay bytes"


@pytest.mark.parametrize("kind", ["gaussian", "residual"])
def test_the_manifest_rebuilds_it_with_its_encoder(kind: str) -> None:
    policy = make(kind)
    twin = policy_from_manifest(policy.manifest())
    twin.load_state_dict(policy.state_dict())
    a, b = (p.act(row(), True, exploration_rng(1, 2)).action for p in (policy, twin))
    np.testing.assert_array_equal(a, b)


def test_base_and_residual_have_encoders_of_their_own() -> None:
    """Pins: RL reaching the base through a shared encoder."""
    policy = make("residual")
    torch.nn.init.normal_(policy.head.weight)
    inputs = torch.cat((torch.from_numpy(np.stack([row(i) for i in range(4)])), torch.zeros(4, 2)), 1)
    action, log_prob = policy.sample(inputs, torch.randn(4, 2))
    (action.sum() + log_prob.sum()).backward()
    assert all(p.grad is None for p in policy.base.parameters())
    assert policy.image_encoder.weights[0].grad.abs().max() > 0.0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="one length"):
        make(encoder={"channels": [4], "strides": [2, 1]})
    with pytest.raises(ConfigError, match="more numbers"):
        policy_config({"kind": "gaussian"}).seeing(IMAGES).build(10, 2)
