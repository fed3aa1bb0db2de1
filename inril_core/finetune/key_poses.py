"""Where the tool will be next, told from images: labels out of recordings, and the encoder that learns from them.

A demonstration says of each of its images where the tool came to be at the next moment that matters: when the gripper
opened or closed, or when the attempt ended well. Seen from the tool at the image, that is a label that nobody had to
give, from the arm's own measurements. Moments: keyframes as in C2F-ARM (arXiv 2106.12534), section 3.3, without its
rule of standstill. A pose from the end of a demonstration as the label of all images before: Johns, "Coarse-to-Fine
Imitation Learning" (arXiv 2105.06411), section III, whose robot also moves about by itself for more images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.config import EncoderFitConfig
from inril_core.finetune.memory.transitions import GRIPPED, MOTIONS
from inril_core.networks.encoder import KeyPoseEncoder, key_pose_row, key_position_m
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import Policy
from inril_core.transforms import pose_problem

_RISE = 0.05
_HELD_OUT = 10
"""One of so many demonstrations is kept from the fit and tells how good it is."""
_CLOSE_M = 0.03


@dataclass(frozen=True)
class Seen:
    """How well key poses are told, on demonstrations that were kept from the fit."""

    images: int
    """Instants looked at; 0: too few demonstrations to keep any."""
    error_m: float | None
    """Median distance from the key position told to the true one; None: there is nothing to tell it from."""
    close_error_m: float | None
    """The same where no more than 3 cm are left to go."""

    def in_words(self) -> str:
        """For people."""
        if self.error_m is None:
            return f"how well the encoder sees is not known: fewer than {_HELD_OUT} demonstrations"
        close = (
            "" if self.close_error_m is None else f", to {1e3 * self.close_error_m:.1f} mm where 3 cm are left to go"
        )
        return (
            f"the encoder tells where the tool will be to {1e3 * self.error_m:.1f} mm (median over {self.images} "
            f"images of demonstrations kept from its fit){close}"
        )


def key_steps(episode: Episode) -> npt.NDArray[np.int64]:
    """The observation of each observation's next key moment, ``[T + 1]``: itself where it is one."""
    gripper = episode.actions[:, MOTIONS:]
    works = np.abs(np.diff(gripper, axis=0)).max(axis=1, initial=0.0) > GRIPPED
    moments = np.append(np.flatnonzero(works) + 1, episode.steps)
    return moments[np.searchsorted(moments, np.arange(episode.steps + 1))]


def key_poses(episode: Episode) -> Tensor:
    """What a `KeyPoseEncoder` is to tell at each observation, ``[T + 1, 9]``.

    Raises:
        ConfigError: a tool pose is none.
    """
    for step, pose in enumerate(episode.tool_pose.tolist()):
        if problem := pose_problem(pose):
            raise ConfigError(
                f"episode {episode.episode_id}, step {step}: tool pose: {problem}; leave it out (`inril data drop`)"
            )
    then = episode.tool_pose[key_steps(episode)]
    turned = Rotation.from_quat(episode.tool_pose[:, 3:]).inv()
    position = turned.apply(then[:, :3] - episode.tool_pose[:, :3])
    rotation = (turned * Rotation.from_quat(then[:, 3:])).as_matrix()
    return key_pose_row(torch.tensor(position, dtype=torch.float32), torch.tensor(rotation, dtype=torch.float32))


def fit_encoder(
    policy: Policy,
    demos: Sequence[Episode],
    config: EncoderFitConfig,
    generator: torch.Generator,
    on_update: Callable[[int, float], None] | None = None,
) -> Seen | None:
    """Fit the encoder of ``policy``, and of policies within it, on whole demonstrations, also on steps that are marked.

    Args:
        demos: successful ones; the gripper's commands are behind the six motions of an action. One that was cut off is
            left out: where it would have ended is not known.
        on_update: told each update's index and loss.

    Returns:
        How good it is; None where the policy has no such encoder.

    Raises:
        ConfigError: the recordings hold no moving tool poses, a broken one, or none of an image.
    """
    encoder = policy.key_pose_encoder
    if encoder is None:
        return None
    demos = [demo for demo in demos if demo.complete]
    if all(np.ptp(demo.tool_pose, axis=0).max() == 0.0 for demo in demos):
        raise ConfigError(
            "policy.encoder.trained_by = 'key_poses': the demonstrations hold no moving tool poses to learn from; set "
            "it to 'actions'"
        )
    held_out = [demo for index, demo in enumerate(demos) if index % _HELD_OUT == _HELD_OUT - 1]
    kept = [demo for index, demo in enumerate(demos) if index % _HELD_OUT != _HELD_OUT - 1]
    device = policy.observation_mean.device
    images, poses = _images(policy, kept), torch.cat([key_poses(demo) for demo in kept])
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    flat = FlatParameters(encoder.parameters())
    adam = Adam(flat.value.numel(), config.lr)
    for update in range(config.updates):
        rows = torch.randint(len(poses), (config.batch,), generator=generator)
        shown = _jittered(images[rows].float(), config.brightness, generator).to(device)
        loss = functional.smooth_l1_loss(encoder.told(shown), poses[rows].to(device), beta=0.1)
        flat.value.sub_(adam.direction(flat.gradient(loss)), alpha=config.lr * _rate(update / config.updates))
        if on_update is not None:
            on_update(update, float(loss.detach()))
    encoder.requires_grad_(False)
    for module in policy.modules():
        if isinstance(module, KeyPoseEncoder) and module is not encoder:
            module.load_state_dict(encoder.state_dict())
    return _seen(policy, encoder, held_out)


def _rate(share: float) -> float:
    """Of the highest learning rate."""
    return share / _RISE if share < _RISE else 0.5 * (1.0 + float(np.cos(np.pi * (share - _RISE) / (1.0 - _RISE))))


def _images(policy: Policy, episodes: Sequence[Episode]) -> Tensor:
    """uint8 ``[N, P]`` of all observations, one image after the other."""
    pieces = []
    for episode in episodes:
        pixels = policy.observed(episode)[:, policy.state_size :]
        pieces.append(torch.from_numpy(pixels.astype(np.uint8)))
    return torch.cat(pieces)


def _jittered(images: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """``images [B, P]``, each row with a contrast and a brightness of its own, still from 0 to 255."""
    if most == 0.0:
        return images
    contrast, brightness = 1.0 + most * (2.0 * torch.rand((2, len(images), 1), generator=generator) - 1.0)
    return ((images - 127.5) * contrast + 127.5 * brightness).clamp_(0.0, 255.0)


def _seen(policy: Policy, encoder: KeyPoseEncoder, episodes: Sequence[Episode]) -> Seen:
    if not episodes:
        return Seen(0, None, None)
    device, errors, left = policy.observation_mean.device, [], []
    for episode in episodes:
        true = key_position_m(key_poses(episode))
        with torch.no_grad():
            told = torch.cat([encoder.told(p.float().to(device)) for p in _images(policy, [episode]).split(64)])
        errors.append((key_position_m(told.cpu()) - true).norm(dim=1))
        left.append(true.norm(dim=1))
    error, close = torch.cat(errors), torch.cat(left) <= _CLOSE_M
    return Seen(len(error), float(error.median()), float(error[close].median()) if close.any() else None)
