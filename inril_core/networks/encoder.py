"""From pixels to a few numbers: a small CNN whose feature maps become image points or a pose; and random shifts.

Spatial softmax: Levine et al., "End-to-End Training of Deep Visuomotor Policies" (arXiv 1504.00702), section 5.1.
Random shift: DrQ (arXiv 2004.13649), section 3.1: pad by 4 pixels of the border, crop at random.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from inril_core.contract import ImageShape
from inril_core.errors import ConfigError


class EncoderConfig(BaseModel):
    """Settings of an image encoder; each image has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((16, 32, 32), min_length=1, max_length=8)
    """Of the 3 x 3 convolutions. The last are the image points."""
    strides: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field((3, 2, 1), min_length=1, max_length=8)
    """Of the 3 x 3 convolutions."""
    temperature: float = Field(0.1, gt=0.0)
    """Of the spatial softmax; low: the brightest place alone, high: the mean over the image."""
    shift_px: int = Field(4, ge=0, le=32)
    """Largest random shift of replayed images; 0: none."""
    trained_by: Literal["actions", "key_poses"] = "actions"
    """``actions``: by imitation and RL, as every other weight. ``key_poses``: on its own, before cloning, to tell from
    the images where the tool will be when the gripper next works or the attempt ends (`KeyPoseEncoder`); then it is
    fixed, and what it tells stands in the inputs instead of the pixels, so that learning costs what it costs without
    images."""

    @model_validator(mode="after")
    def _layers(self) -> "EncoderConfig":
        if len(self.channels) != len(self.strides):
            raise ConfigError(
                f"policy.encoder.channels = {self.channels} and strides = {self.strides}: must be of one length"
            )
        return self


@dataclass(frozen=True)
class PixelColumns:
    """Where the pixels are in a row of inputs."""

    first: int
    """Column of the first pixel; from there on, image after image."""
    shapes: tuple[ImageShape, ...]
    shift_px: int

    @property
    def size(self) -> int:
        """Columns that hold pixels."""
        return sum(shape.size for shape in self.shapes)

    @property
    def end(self) -> int:
        """The column after the last pixel."""
        return self.first + self.size


def spatial_softmax(maps: Tensor, temperature: float = 1.0) -> Tensor:
    """The mean place ``[B, 2 K]`` of each of K maps ``[B, K, h, w]``, read as log-weights times ``temperature``.

    x (to the right) and then y (down) of every map, each from -1 (first cell's centre) to 1 (last cell's centre).
    """
    height, width = maps.shape[-2:]
    weights = torch.softmax(maps.flatten(2) / temperature, -1).unflatten(-1, (height, width))
    x = weights.sum(-2) @ torch.linspace(-1.0, 1.0, width, device=maps.device)
    y = weights.sum(-1) @ torch.linspace(-1.0, 1.0, height, device=maps.device)
    return torch.cat((x, y), -1)


class ImageEncoder(nn.Module):
    """Stands before every network: replaces the pixels in its inputs by image points; without images it does nothing.

    As in `CriticEnsemble`, the parameters may be given with the call, so that a target network is another list of
    tensors.

    Args:
        pixels: where they are. generator: of the initial weights; None: torch's global one.
    """

    def __init__(self, pixels: PixelColumns, config: EncoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.pixels, self.config = pixels, config
        weights = []
        for _ in pixels.shapes:
            for fan_in, fan_out in zip((3, *config.channels[:-1]), config.channels, strict=True):
                bound = 1.0 / math.sqrt(9 * fan_in)
                for shape in ((fan_out, fan_in, 3, 3), (fan_out,)):
                    draw = torch.rand(shape, generator=generator)
                    weights.append(nn.Parameter(bound * (2.0 * draw - 1.0)))
        self.weights = nn.ParameterList(weights)

    def width(self, inputs: int) -> int:
        """Columns that come out where ``inputs`` go in."""
        return inputs - self.pixels.size + 2 * self.config.channels[-1] * len(self.pixels.shapes)

    def forward(self, inputs: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """``[..., D_in]`` to ``[..., width(D_in)]``.

        Args:
            weights: stand-ins for the own parameters, in their order.
        """
        if not self.pixels.shapes:
            return inputs
        w = list(self.weights) if weights is None else list(weights)
        rows = inputs.reshape(-1, inputs.shape[-1])
        parts, column, each = [rows[:, : self.pixels.first]], self.pixels.first, 2 * len(self.config.channels)
        for number, shape in enumerate(self.pixels.shapes):
            image = rows[:, column : column + shape.size].reshape(-1, shape.height_px, shape.width_px, 3)
            parts.append(self._points(image.permute(0, 3, 1, 2), w[number * each : (number + 1) * each]))
            column += shape.size
        parts.append(rows[:, column:])
        return torch.cat(parts, 1).reshape(*inputs.shape[:-1], -1)

    def _points(self, images: Tensor, weights: Sequence[Tensor]) -> Tensor:
        maps = images / 255.0 - 0.5
        for layer, stride in enumerate(self.config.strides):
            maps = functional.conv2d(maps, weights[2 * layer], weights[2 * layer + 1], stride, padding=1)
            if layer + 1 < len(self.config.strides):
                maps = torch.relu(maps)
        return spatial_softmax(maps, self.config.temperature)


KEY_POSE_SIZE = 9
_NEAR_M = 0.005
_HEAD = 128


def key_pose_row(position_m: Tensor, rotation: Tensor) -> Tensor:
    """A pose in the tool's frame as `KeyPoseEncoder` tells it, ``[..., 9]``.

    The position is sign(x) log(1 + |x| / 5 mm): fine where little is left to go. The rotation is its matrix's first two
    columns (arXiv 1812.07035).

    Args:
        position_m: ``[..., 3]``. rotation: matrices ``[..., 3, 3]``.
    """
    near = torch.sign(position_m) * torch.log1p(position_m.abs() / _NEAR_M)
    return torch.cat((near, rotation[..., :, 0], rotation[..., :, 1]), -1)


def key_position_m(rows: Tensor) -> Tensor:
    """The positions ``[..., 3]`` of `key_pose_row`'s ``[..., 9]``."""
    near = rows[..., :3]
    return torch.sign(near) * torch.expm1(near.abs()) * _NEAR_M


class KeyPoseEncoder(nn.Module):
    """Tells from the images alone where the tool is to be next, seen from where it is: `key_pose_row`.

    In front of a policy whose ``encoder.trained_by`` is ``key_poses``; see `inril_core.finetune.key_poses`. Its
    parameters are fixed but while they are fitted.
    """

    def __init__(self, pixels: PixelColumns, config: EncoderConfig) -> None:
        super().__init__()
        self.pixels = pixels
        self.image_encoder = ImageEncoder(PixelColumns(0, pixels.shapes, 0), config)
        sizes = (self.image_encoder.width(pixels.size), _HEAD, _HEAD, KEY_POSE_SIZE)
        layers: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.head = nn.Sequential(*layers[:-1])
        self.requires_grad_(False)

    def told(self, images: Tensor) -> Tensor:
        """The pose ``[B, 9]`` that ``images [B, P]``, 0 to 255 and one image after the other, show."""
        told: Tensor = self.head(self.image_encoder(images))
        return told

    def forward(self, rows: Tensor) -> Tensor:
        """Rows ``[..., D]`` with the pose, ``[..., D - P + 9]``, in place of their P pixels."""
        flat, p = rows.reshape(-1, rows.shape[-1]), self.pixels
        told = torch.cat([self.told(piece) for piece in flat[:, p.first : p.end].split(_PIECE)])
        return torch.cat((flat[:, : p.first], told, flat[:, p.end :]), 1).reshape(*rows.shape[:-1], -1)


_PIECE = 64
"""Rows that are looked at in one go: the activations of an episode's 200 would be some 100 MB."""


def draw_shifts(count: int, pad: int, generator: torch.Generator) -> Tensor:
    """Shifts ``[count, 2]`` along y and x, whole numbers from -``pad`` to ``pad``, each as likely."""
    return torch.randint(-pad, pad + 1, (count, 2), generator=generator)


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Each of ``images [B, H, W, 3]`` moved by its pixels in ``shifts [B, 2]``; its border fills what is bared."""
    (count, height, width), device = images.shape[:3], images.device
    shifts = shifts.to(device)
    rows = (torch.arange(height, device=device) + shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + shifts[:, 1:]).clamp(0, width - 1)
    row_starts = torch.arange(count, device=device)[:, None] * height + rows
    picks = row_starts[:, :, None] * width + columns[:, None, :]
    return images.reshape(-1, 3).index_select(0, picks.flatten()).view(images.shape)
