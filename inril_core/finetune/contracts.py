"""What a method of fine-tuning is: RL, IL, reward and combine methods, each as settings and as the part that runs.

The settings (``...Config``) are read from the configuration, say what the method needs of the others, and build the
part. The learner calls the part; who calls what, when and how often stands with each method. A method of your own
subclasses one of the configs and, besides rewards, one of the parts; the configuration names it by ``module:Config``
(`inril_core.plugins`), and it is checked like the ones that come with inril.

Rules for all parts:

* Everything random MUST be drawn from the generator given to ``build``, on the CPU, in an order that the data alone
  decides. The same episodes before the same updates then give the same numbers, bit for bit.
* ``state`` and ``load`` MUST cover everything that a later call depends on, or a resumed run becomes another one.
* Metrics are finite numbers; their mean over a group of updates is logged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from ctypes import CDLL
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.memory.rollout import RolloutSegment
from inril_core.finetune.memory.transitions import last_acted
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import Policy
from inril_core.settings import Settings

if TYPE_CHECKING:
    from inril_core.finetune.config import FineTuneConfig

Array = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Metrics = Mapping[str, float | Tensor]
"""Numbers to log. One may be a tensor of one element, read only when the group's mean is taken: a GPU is not waited
for. It MUST not change afterwards."""
Signal = Literal["takeovers", "labels", "answers"]


class Gradient(NamedTuple):
    """Of a loss, at the present parameters of the actor."""

    vector: Tensor
    """``[P]``. Its buffer is reused by the next gradient of the same actor: clone it to keep it."""
    metrics: Metrics


GradientSource = Callable[[], Gradient]
"""Computes a gradient at the present parameters of the actor, each time it is called."""


class MethodConfig(Settings):
    """Settings of one method, and what it needs from and offers to the others."""

    method: str
    """Name of the file, or of the entry point, or ``module:attribute``."""
    provides: ClassVar[frozenset[str]] = frozenset()
    """Capabilities that others may ask for, e.g. ``actor_gradient`` of an RL or IL method."""
    requires: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Capabilities needed of other parts, as (part, capability); part: ``policy``, ``rl``, ``il``, ``rewards``,
    ``combine``."""
    reasons: ClassVar[Mapping[str, str]] = {}
    """Why a capability is needed and what to choose instead, told where a combination is refused."""
    distributed: ClassVar[bool] = False
    """Whether several processes learn what one learns: each loss is a mean over rows, and noise and statistics of a
    whole batch go through `inril_core.distributed`."""

    def offers(self) -> frozenset[str]:
        """What these settings provide; ``provides``, unless a method's settings decide."""
        return self.provides

    def needs(self) -> tuple[tuple[str, str], ...]:
        """What these settings require; ``requires``, unless a method's settings decide."""
        return self.requires

    def lives_on(self) -> frozenset[Signal]:
        """What somebody beside the policy MUST give, or nothing is ever learned.

        ``takeovers`` of control, ``labels`` of finished episodes, ``answers`` of an expert to every observation
        (`Episode.expert_actions`).
        """
        return frozenset()

    def check(self, whole: FineTuneConfig) -> None:
        """Refuse to work with other settings of ``whole``. Called once, after all parts are read.

        Raises:
            ConfigError: says why they do not fit, and what to set.
        """


class RlConfig(MethodConfig):
    """Settings of an RL method; subclass `OffPolicyConfig` or `OnPolicyConfig`."""

    collection: ClassVar[Literal["off_policy", "on_policy"]]
    """Which steps it learns from: all in replay, or those of the newest version of the policy alone."""
    provides = frozenset({"actor_gradient"})
    gamma: float = Field(0.97, gt=0.0, lt=1.0)
    """Discount per decision."""
    actor_lr: float = Field(1e-4, gt=0.0)
    """Learning rate of the RL step of the actor; the combine method takes it."""

    def value_bounds(self) -> tuple[float, float] | None:
        """Range that targets are clipped to, which MUST hold all true values; None: not clipped."""
        return None

    @abstractmethod
    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> RlMethod:
        """The method on ``policy``, whose trained parameters are ``actor``.

        ``reward``: learned beside the policy (`RewardConfig.model`); None: the rewards in replay say all.
        """


class OffPolicyConfig(RlConfig):
    """Settings of a method that learns from replay; `build` gives an `OffPolicyRl`."""

    collection = "off_policy"
    batch: int = Field(128, ge=2)
    """Rows of a minibatch, demonstrations included."""
    demo_share: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of each batch that is taken from the demonstrations."""
    critic_steps: int = Field(1, ge=1)
    """Critic steps per RL update, which is one actor step."""

    def return_steps(self) -> int:
        """Environment steps that a transition covers before it bootstraps."""
        return 1


class OnPolicyConfig(RlConfig):
    """Settings of a method that learns from whole rollouts; `build` gives an `OnPolicyRl`."""

    collection = "on_policy"
    rollout_steps: int = Field(1000, ge=2)
    """Environment steps per iteration; the episode that reaches it is used whole."""
    minibatches: int = Field(4, ge=1)
    """Pieces of each pass over a rollout."""
    critic_warmup_iterations: int = Field(1, ge=0)
    """First iterations that train the critic alone."""


class RlMethod(ABC):
    """Critics and what else RL trains beside the actor, whose step is left to the combine method."""

    @property
    def temperature(self) -> float:
        """Weight of an entropy or KL term, for the log."""
        return 0.0

    @abstractmethod
    def critic_step(self, batch: Any) -> Metrics:
        """Train the critics on ``batch``. MUST leave the actor alone. Not called where no RL is combined."""

    @abstractmethod
    def actor_gradient(self, batch: Any) -> Gradient:
        """Gradient of the RL loss on ``batch``. MUST change neither actor nor critics; may be called several times per
        update, at different parameters."""

    def actor_stepped(self, metrics: Metrics) -> None:  # noqa: B027 - most have nothing to do
        """Called once after each step of the actor that an RL gradient had a part in, with that gradient's metrics."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""

    @abstractmethod
    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""


class OffPolicyRl(RlMethod):
    """Learns from a `Batch` of replay."""

    def prepare(self, demos: Replay) -> None:  # noqa: B027 - most have nothing to do
        """Called once, before the first update of a run."""

    @abstractmethod
    def critic_step(self, batch: Batch) -> Metrics:
        """See `RlMethod.critic_step`; called ``critic_steps`` times per update, each with a fresh batch."""


class OnPolicyRl(RlMethod):
    """Learns from rollouts of one version of the policy."""

    stopped: bool = False
    """The rest of this iteration's minibatches is skipped; set by the method, cleared by `begin_iteration`."""

    @abstractmethod
    def begin_iteration(self, rollout: list[RolloutSegment]) -> int:
        """Take a rollout in; returns the number of minibatches it calls for."""

    @abstractmethod
    def next_minibatch(self) -> Any:
        """The next minibatch, given to `critic_step` and `actor_gradient`. Called that many times per iteration."""


class IlConfig(MethodConfig):
    """Settings of an imitation method."""

    provides = frozenset({"actor_gradient"})

    def batch_rows(self) -> int | None:
        """Rows of a minibatch, which the processes of a distributed run share; None (default): it draws none."""
        return None

    @abstractmethod
    def build(self, policy: Policy, actor: FlatParameters, generator: torch.Generator) -> IlMethod:
        """The method on ``policy``, whose trained parameters are ``actor``."""

    def aggregate(self, episode: Episode) -> tuple[Episode, Flags] | None:
        """What of a training episode becomes a demonstration: the episode to imitate, and which of its steps ``[T]``.

        None (default): ``schedule.demo_growth`` decides. MUST NOT change anything: the episode may yet be refused.

        Raises:
            ConfigError: the episode lacks what this method lives on.
        """
        return None


class IlMethod(ABC):
    """Imitates demonstrations; also clones the first policy (`inril_core.finetune.pretrain`)."""

    @abstractmethod
    def loss(self, inputs: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The imitation loss of ``inputs [B, D_in]`` and ``actions [B, chunk * A]``, a mean over B.

        ``generator``: of the noise that some losses draw; None: the training's.
        """

    @abstractmethod
    def gradient(self, demos: Replay, batch: int | None = None) -> Gradient:
        """Gradient of the loss on a fresh minibatch of ``demos``; ``batch``: its rows, None: as set.

        The metrics MUST have ``il_loss``.
        """


class RewardConfig(MethodConfig):
    """Settings of a reward method, which is all there is of most: recordings hold facts only, so rewards are computed
    when an episode is ingested, and can be changed later."""

    @abstractmethod
    def label(self, episode: Episode) -> tuple[Array, Array]:
        """Rewards ``[T]`` and masks ``[T]``; the mask is 1 where the value bootstraps. MUST be a pure function.

        What is given to a step in which nobody acted is lost: how an episode ended belongs to its last action,
        `inril_core.finetune.memory.transitions.last_acted`.
        """

    def informative(self, episode: Episode) -> Flags:
        """Which steps ``[T]`` tell good from bad: by default the last action of a success.

        ``schedule.rewards_before_actor`` of them are waited for. A price of every step tells nothing.
        """
        told = np.zeros(episode.steps, bool)
        told[last_acted(episode)] = bool(episode.complete and episode.success)
        return told

    def keep(self, episode: Episode) -> Flags | None:
        """Which steps ``[T]`` may enter replay; None: all usable ones."""
        return None

    def known(self, episode: Episode) -> Flags | None:
        """Of which steps ``[T]`` the reward is known; None: of all. No return may be summed over the others."""
        return None

    def labelled(self, episode: Episode) -> tuple[Array, Array, Flags | None]:
        """Rewards, masks and known steps, in which rewards that a person gave stand in the place of the method's."""
        rewards, masks = self.label(episode)
        known, given = self.known(episode), episode.given_rewards
        if given is None:
            return rewards, masks, known
        said = ~np.isnan(given)
        return np.where(said, given, rewards).astype(np.float32), masks, None if known is None else known | said

    def model(self, policy: Policy) -> RewardModel | None:
        """A reward learned beside ``policy``, given to `RlConfig.build`; None: `label` says all."""
        return None


class RewardModel(ABC):
    """A reward that is learned; the RL method asks it, trains it, and keeps its state with its own."""

    @abstractmethod
    def __call__(self, inputs: Tensor, actions: Tensor) -> tuple[Tensor, Metrics]:
        """Rewards ``[B]`` of ``inputs [B, D_in]`` and ``actions [B, A]``, without gradient, and metrics."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""

    @abstractmethod
    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""


class CombineConfig(MethodConfig):
    """Settings of a combination of RL and IL."""

    def insertions(self, rl_updates: int) -> tuple[int, int] | None:
        """Insertions of imitation between so many RL updates of the actor, and the IL steps in them.

        None (default): imitation is not inserted.
        """
        return None

    @abstractmethod
    def build(self, actor: FlatParameters, rl_lr: float) -> Combiner:
        """The combination on the parameters ``actor``; ``rl_lr``: `RlConfig.actor_lr`."""


@dataclass(frozen=True)
class StepResult:
    """What a combine method did."""

    metrics: Metrics = field(default_factory=dict)
    """``gradient_cosine`` (of the raw RL and IL gradients), ``step_cosine`` (of the step really taken with the RL
    gradient; negative: the step undoes RL, to first order) and ``norm_removed`` (share of the projected step's norm
    that the projection took) where they exist, besides those of the gradients. Where imitation comes after a whole
    iteration, the displacement by RL stands for its gradient."""
    rl_metrics: Metrics | None = None
    """Of the RL gradient that the step was taken on; None: RL had no part in it."""
    il_steps: int = 0
    """Steps among them on the imitation gradient alone."""


class Combiner(ABC):
    """Takes the actor's step of each RL update. Parameters are one flat vector."""

    uses_rl: ClassVar[bool] = True
    """Whether RL has any part in it; without, no critic is trained."""

    def __init__(self, actor: FlatParameters) -> None:
        self.flat = actor
        self.adams: dict[str, Adam] = {}
        """Optimizers by loss. The learner lowers their rates over the run; `state` and `load` cover them."""
        self.kernels: CDLL | None = None
        """`inril_core.networks.native`, where they are to be used."""

    def take_kernels(self, found: CDLL) -> None:
        """See `inril_core.networks.compute.give_kernels`."""
        self.kernels = found

    @abstractmethod
    def step(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """Change the actor. ``rl`` reads the minibatch of this RL update each time, ``il`` draws a fresh one."""

    def end_update(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """After one whole RL update: an actor step with its critic steps, or a rollout with its epochs."""
        return StepResult()

    def episode_finished(self, episode: Episode) -> None:  # noqa: B027 - most do not listen
        """A training episode was taken in. Called once for each, in order; before the updates that it makes due."""

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        return {f"{name}.{key}": t for name, adam in self.adams.items() for key, t in adam.state().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, adam in self.adams.items():
            adam.load({key: state[f"{name}.{key}"] for key in ("first", "second", "steps")})
