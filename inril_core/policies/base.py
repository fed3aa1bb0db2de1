"""What every policy is: observations in, actions in [-1, 1] out; rebuilt from its manifest, never from pickled code."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from inril_core.contract import ImageShape
from inril_core.control.measurement import BadMeasurement
from inril_core.control.observation import observation_vector
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.networks.encoder import KEY_POSE_SIZE, EncoderConfig, ImageEncoder, KeyPoseEncoder, PixelColumns
from inril_core.policies.exploration import exploration_rng

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

Array = npt.NDArray[np.float32]
NOTHING: Array = np.zeros(0, np.float32)


class PolicyConfig(BaseModel):
    """Settings of an architecture, without the sizes, which the task decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: str
    """Name of the file in `inril_core.policies` whose ``Config`` this is."""
    provides: ClassVar[frozenset[str]] = frozenset()
    """What methods may ask for: ``density`` (the policy is a `SquashedGaussian`), ``chain`` (a denoising chain),
    ``separated`` (imitation and RL train disjoint parameters), ``cloned`` (what RL trains starts as a clone of the
    demonstrations, and nothing that it builds on moves), ``reference`` (the inputs hold the action of a base, see
    `SquashedGaussian.reference`)."""
    distributed: ClassVar[bool] = False
    """Whether several processes learn what one learns, see `MethodConfig.distributed`."""
    images: tuple[ImageShape, ...] = ()
    """Whose pixels end the observations; the task's, see `seeing`."""
    encoder: EncoderConfig = EncoderConfig()
    """What is made of them."""

    @model_serializer(mode="wrap")
    def _without_images_as_ever(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        for name, unused in (("images", not self.images), ("encoder", self.encoder == EncoderConfig())):
            if unused:
                values.pop(name, None)
        return values

    def seeing(self, images: Sequence[ImageShape]) -> Self:
        """These settings, and those of policies within, for observations that end in the pixels of ``images``."""
        within = {name: value.seeing(images) for name, value in self if isinstance(value, PolicyConfig)}
        return self.model_copy(update={"images": tuple(images), **within})

    def within(self) -> tuple[PolicyConfig, ...]:
        """Settings of the policies that this one is built of."""
        return tuple(value for _, value in self if isinstance(value, PolicyConfig))

    def trained_base(self) -> PolicyConfig | None:
        """Settings of the policy that this one corrects and that imitation goes on to train; None: there is none."""
        return None

    def plan_steps(self) -> int:
        """Actions per decision, as `Policy.chunk`."""
        return 1

    def offers(self) -> frozenset[str]:
        """What these settings provide; ``provides``, unless the settings decide."""
        return self.provides

    @property
    def imitates(self) -> bool:
        """Whether there is anything that imitation could train."""
        return True

    def build(self, observation_size: int, action_size: int) -> Policy:
        """An untrained policy; its initial weights come from torch's global generator."""
        raise NotImplementedError


class ImitationSettings(BaseModel):
    """How demonstrated actions are cloned; see `inril_core.finetune.il.bc.Config`."""

    model_config = ConfigDict(frozen=True)
    loss: str = "faithful"
    action_limit: float = 0.99


@dataclass
class Memory:
    """What a policy that plans ahead keeps between the steps of an episode.

    Clear it wherever the plan no longer holds: at an episode's start, takeover, hold, and a change of weights.
    """

    queue: deque[Array] = field(default_factory=deque)
    """Planned actions ``[A]`` not yet executed."""
    index: int = 0
    """Of the next one in its chunk."""
    seen: deque[Array] = field(default_factory=deque)
    """The newest observations, the oldest first, as far back as a plan that comes late rests on."""

    def clear(self) -> None:
        """Forget the plan, and what was seen."""
        self.queue.clear()
        self.seen.clear()
        self.index = 0


@dataclass(frozen=True)
class Decision:
    """What a policy answers to one observation."""

    action: Array
    """``[A]`` in [-1, 1]."""
    raw: Array
    """``[A]``, the sample before squashing and clipping."""
    log_prob: float
    """Of `raw`; for a squashed action after the squashing's correction."""
    aux: Array = field(default_factory=lambda: NOTHING)
    """What on-policy learning needs besides: ``[aux_size]``, or empty inside a chunk."""
    chunk_index: int = 0
    """0 where a new plan was made."""


class Policy(nn.Module, ABC):
    """A policy with its observation normaliser.

    The normaliser is part of the policy: fitted once on the demonstrations, never refitted, because the critic's inputs
    and stored episodes depend on it.

    Where the task has images, an observation is S numbers of state and then their pixels (0 to 255). The normaliser is
    for the state alone; inputs hold the pixels as they are, so that replay can keep them as bytes. Every network MUST
    be behind a `ImageEncoder` of its own (`new_image_encoder`), and have its ``width(input_size)`` inputs. Where
    ``encoder.trained_by`` is ``key_poses``, inputs hold what a `KeyPoseEncoder` tells instead, and no pixels.
    """

    kind: ClassVar[str]
    chunk: int = 1
    """Actions per decision; 1: it decides every step."""
    aux_size: int = 0
    """Length of `Decision.aux` where a plan is made."""
    remote: ClassVar[bool] = False
    """It answers from another process: what it said is recorded, and it is asked again only where it was not."""
    observation_size: int
    """D."""
    action_size: int
    """A."""
    observation_mean: Tensor
    observation_std: Tensor

    def __init__(self, observation_size: int, action_size: int, config: PolicyConfig) -> None:
        super().__init__()
        self.observation_size, self.action_size, self.config = observation_size, action_size, config
        self.state_size = observation_size - sum(shape.size for shape in config.images)
        if self.state_size < 0:
            raise ConfigError(f"policy.images: hold more numbers than the observation, {observation_size}")
        self.pixels = PixelColumns(self.state_size, config.images, config.encoder.shift_px)
        self.key_pose_encoder: KeyPoseEncoder | None = None
        """What stands between images and inputs, if ``encoder.trained_by`` says so."""
        if config.images and config.encoder.trained_by == "key_poses":
            self.key_pose_encoder = KeyPoseEncoder(self.pixels, config.encoder)
            self.pixels = PixelColumns(self.row_size, (), 0)
        self.register_buffer("observation_mean", torch.zeros(self.state_size))
        self.register_buffer("observation_std", torch.ones(self.state_size))

    @property
    def row_size(self) -> int:
        """Width of what `normalise` gives; D unless a `KeyPoseEncoder` looks at the images."""
        return self.observation_size if self.key_pose_encoder is None else self.state_size + KEY_POSE_SIZE

    @property
    def input_size(self) -> int:
        """Width of what `inputs` gives; `row_size` unless more than the observation is looked at."""
        return self.row_size

    def new_image_encoder(self, generator: torch.Generator | None = None) -> ImageEncoder:
        """A new encoder of this policy's inputs, for a network of its own; without images it does nothing.

        generator: of its weights; None: torch's global one.
        """
        return ImageEncoder(self.pixels, self.config.encoder, generator)

    def place_pixels(self, pixels: PixelColumns) -> None:
        """The inputs hold the pixels elsewhere than the observation does, where this policy is a part of another."""
        self.pixels = pixels
        for module in self.modules():
            if isinstance(module, ImageEncoder):
                module.pixels = pixels

    def manifest(self) -> dict[str, Any]:
        """The architecture as JSON values; `policy_from_manifest` rebuilds it."""
        sizes = {"observation_size": self.observation_size, "action_size": self.action_size}
        return {**sizes, **self.config.model_dump(mode="json")}

    def fit_normaliser(self, observations: Array, std_floor: float = 0.01) -> None:
        """Set mean and std from the demonstrations' states ``[N, S]``; call once, before training.

        Args:
            observations: SI units, contract order.
            std_floor: smallest std (unit of the field), so that fields that hardly vary in the
                demonstrations are not blown up.

        Raises:
            ValueError: wrong shape, no rows, or a value is not finite.
        """
        rows = torch.as_tensor(np.asarray(observations, dtype=np.float64))
        if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != self.state_size:
            raise ValueError(f"observations {tuple(rows.shape)}: must be [N >= 1, {self.state_size}]")
        if not torch.isfinite(rows).all():
            raise ValueError("observations contain NaN or infinity")
        self.observation_mean.copy_(rows.mean(0))
        self.observation_std.copy_(rows.std(0, correction=0).clamp_min(std_floor))

    def normalise(self, observations: Tensor) -> Tensor:
        """Observations ``[..., D]`` in SI units to the network's input ``[..., row_size]``: sign(z) log(1 + |z|), z
        in std.

        Fine where the demonstrations were, and still telling far from them: a start ten std away is an input of
        2.4, not a saturated layer. Pixels stay as they are, or become what the `KeyPoseEncoder` tells.
        """
        observations = observations.to(self.observation_mean.device)
        z = (observations[..., : self.state_size] - self.observation_mean) / self.observation_std
        row = torch.sign(z) * torch.log1p(z.abs())
        if not self.config.images:
            return row
        row = torch.cat((row, observations[..., self.state_size :]), -1)
        if self.key_pose_encoder is None:
            return row
        with torch.no_grad():
            seen: Tensor = self.key_pose_encoder(row)
        return seen

    def inputs(self, episode: Episode) -> Tensor:
        """What the networks see of an episode, ``[T + 1, input_size]``."""
        return self.normalise(torch.tensor(self.observed(episode)))

    def observed(self, episode: Episode) -> Array:
        """The observations ``[T + 1, D]`` that `act` was given.

        Raises:
            ConfigError: an image that this policy reads was not recorded at every step.
        """
        steps = np.arange(episode.steps + 1)
        gaps = [i.name for i in self.config.images if not np.array_equal(episode.image_steps.get(i.name, ()), steps)]
        try:
            if not gaps:
                return observation_vector(self.config.images, episode.observations, episode.images)
        except BadMeasurement as error:
            raise ConfigError(f"episode {episode.episode_id}: {error}") from error
        raise ConfigError(
            f"episode {episode.episode_id}: images {gaps} were not recorded at every step, but the policy reads them; "
            "record it with these images `required` in the contract"
        )

    @property
    def cloning_stages(self) -> tuple[str, ...]:
        """Parts that are cloned one after the other before fine-tuning; a later one may look at an earlier one."""
        return ("policy",)

    def begin_cloning(self, stage: str) -> None:  # noqa: B027 - most are cloned in one piece
        """From here on `imitation_loss` and `imitation_chunk` are those of this stage."""

    @property
    def plan_steps(self) -> int:
        """Steps that one plan covers: how long `Memory` matters."""
        return max(self.chunk, self.imitation_chunk)

    @property
    def imitation_chunk(self) -> int:
        """Actions per cloned decision."""
        return self.chunk

    def prepare_finetuning(self) -> None:  # noqa: B027 - most have nothing to do
        """Called once, between behaviour cloning and fine-tuning."""

    def refresh(self, inputs: Tensor) -> Tensor:
        """Replayed inputs ``[B, input_size]`` as they would be now; unchanged, unless they hold what learns."""
        return inputs

    @abstractmethod
    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """The loss of cloning, a scalar mean over B.

        Args:
            inputs: ``[B, input_size]``.
            actions: ``[B, chunk * A]``, demonstrated, in [-1, 1].
            generator: source of the noise that some losses draw.
        """

    @abstractmethod
    def act(
        self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None = None
    ) -> Decision:
        """Answer one observation.

        Args:
            observation: ``[D]``, SI units, contract order.
            explore: sample; otherwise the most likely action is taken and ``rng`` is not used.
            rng: source of the exploration noise.
            memory: of this episode; a policy that decides every step needs none.

        Raises:
            ValueError: wrong shape, or a value is not finite.
        """

    def answers(self, observations: Array, steps: npt.NDArray[np.int64], seed: int) -> Array:
        """The actions ``[N, A]`` that are not explored, each from a fresh plan.

        Args:
            observations: ``[N, D]``, seen at ``steps [N]`` of the episode of ``seed``.
        """
        made = [
            self.act(row, False, exploration_rng(seed, int(t)), Memory()).action
            for row, t in zip(observations, steps, strict=True)
        ]
        return np.array(made, np.float32).reshape(len(made), self.action_size)

    def trial(self, observations: Array) -> Array:
        """Actions ``[N, A]`` for ``observations [N, D]``, by which new weights are compared with those that act."""
        return self.answers(observations, np.arange(len(observations)), 0)

    def checked(self, observation: Array) -> Tensor:
        """The observation as a tensor ``[D]``.

        Raises:
            ValueError: wrong shape, or a value is not finite.
        """
        if observation.shape != (self.observation_size,):
            raise ValueError(f"observation {observation.shape}: must be ({self.observation_size},)")
        if not np.isfinite(observation).all():
            raise ValueError("observation contains NaN or infinity")
        return torch.tensor(observation, dtype=torch.float32)
