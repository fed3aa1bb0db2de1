"""Settings of a fine-tuning run: read once, validated, frozen."""

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from inril_core.errors import ConfigError
from inril_core.evaluation.guard import GuardConfig
from inril_core.evaluation.shadow import GateConfig
from inril_core.experts.intervener import InterventionConfig
from inril_core.finetune.contracts import CombineConfig, IlConfig, MethodConfig, RewardConfig, RlConfig
from inril_core.finetune.methods import describe, method_config
from inril_core.networks.compute import ComputeConfig
from inril_core.policies import PolicyConfig, gaussian, policy_config, residual
from inril_core.settings import Settings
from inril_core.yaml_text import read_yaml


class EncoderFitConfig(Settings):
    """How the images' encoder is fitted before cloning, where ``policy.encoder.trained_by`` is ``key_poses``."""

    updates: int = Field(6000, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(2e-3, gt=0.0)
    """At its highest; it rises over the first twentieth and falls along a half cosine to 0."""
    brightness: float = Field(0.1, ge=0.0, lt=1.0)
    """Each image is made brighter or darker by up to this share, and gets or loses contrast likewise."""


class PretrainConfig(Settings):
    """Behaviour cloning before fine-tuning; the loss is the ``il`` part's."""

    updates: int = Field(3000, ge=0)
    batch: int = Field(128, ge=1)
    lr: float = Field(1e-3, gt=0.0)
    std_floor: float = Field(0.01, gt=0.0, description="smallest std of the observation normaliser, field's unit")
    encoder: EncoderFitConfig = EncoderFitConfig()


class ScheduleConfig(Settings):
    """When to train on what."""

    utd: float = Field(1.0, gt=0.0, le=100.0)
    """RL updates per ingested environment step, counted from the end of the warm-up. It and the two warm-ups are of
    off-policy methods; on-policy a full rollout calls for its epochs, see `OnPolicyConfig`."""
    warmup_steps: int = Field(2000, ge=0)
    """Environment steps collected by the pre-trained policy before the first update."""
    critic_warmup_updates: int = Field(2000, ge=0)
    """Critic-only updates at the end of the warm-up, on top of ``utd``."""
    rewards_before_actor: int = Field(3, ge=0)
    """Steps that tell good from bad (successes, or what else the reward method calls informative) that critics must
    have been given, off-policy in replay, on-policy in full rollouts, before the actor is trained. Critics that never
    saw one give values without meaning, and an actor that follows them forgets what it was shown. Not asked where the
    reward is learned, and of imitation alone."""
    budget_steps: int = Field(10000, ge=1)
    """Environment steps after which the run is over."""
    actor_lr_end: float = Field(1.0, gt=0.0, le=1.0)
    """Share of the actor's learning rates (RL and IL) that is left at the end of the budget; they fall linearly from
    the first actor update, so that the policy settles."""
    replay_capacity: int = Field(100_000, ge=1)
    """Steps of replay, and as many of demonstrations; the oldest are forgotten."""
    demos_in_replay: bool = False
    """Whether replay begins with the demonstrations, which off-policy critics then learn from like anything else,
    under the run's own rewards (RLIF). ``rl.demo_share`` gives them a share of each batch."""
    demo_growth: tuple[Literal["corrections", "successes"], ...] = ("corrections",)
    """What else becomes a demonstration: ``corrections`` (steps with a human in control, as in HIL-SERL),
    ``successes`` (successful training episodes)."""


class FineTuneConfig(Settings):
    """Everything that decides the numbers of a run, besides the data.

    A method is named by its file, see `inril_core.finetune.methods`; an architecture by its file in
    `inril_core.policies`.
    """

    name: str
    seed: int = Field(0, ge=0)
    policy: SerializeAsAny[PolicyConfig] = gaussian.Config()
    pretrain: PretrainConfig = PretrainConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    rl: SerializeAsAny[RlConfig]
    il: SerializeAsAny[IlConfig]
    rewards: SerializeAsAny[RewardConfig]
    combine: SerializeAsAny[CombineConfig]
    compute: ComputeConfig = ComputeConfig()
    interventions: InterventionConfig | None = None
    """A simulated intervener of in-process runs; on a robot a person helps."""
    guard: GuardConfig | None = None
    """How the best version so far is kept while a run goes on; None: it is not."""
    gate: GateConfig | None = None
    """What a trained version must show in simulation before it is offered to the running policy; None: nothing."""
    metrics_every_updates: int = Field(200, ge=1)
    push_every_updates: int = Field(500, ge=1)
    checkpoint_every_updates: int = Field(2000, ge=1)

    @field_validator("rl", "il", "rewards", "combine", mode="before")
    @classmethod
    def _method(cls, value: Any, info: Any) -> Any:
        return method_config(info.field_name, value) if isinstance(value, dict) else value

    @field_validator("policy", mode="before")
    @classmethod
    def _policy(cls, value: Any) -> Any:
        return policy_config(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _combination(self) -> "FineTuneConfig":
        self._refuse_imitation_of_nothing()
        for asking in ("rl", "il", "rewards", "combine"):
            method: MethodConfig = getattr(self, asking)
            for part, capability in method.needs():
                other = getattr(self, part)
                if capability not in other.offers():
                    name = f"policy.kind = {other.kind!r}" if part == "policy" else f"{part}.method = {other.method!r}"
                    remedy = method.reasons.get(capability, f"choose another {part} or {asking} method")
                    raise ConfigError(
                        f"{asking}.method = {method.method!r} needs {capability!r} from {part}, which "
                        f"{name} does not give; {remedy}"
                    )
            method.check(self)
        self._refuse_replay_of_a_planning_base()
        if self.guard is not None and self.gate is not None:
            raise ConfigError(
                "guard with gate: the guard looks at versions that act, the gate lets none act that is shown worse; "
                "leave one of the two sections out"
            )
        if self.schedule.demos_in_replay and self.rl.collection == "on_policy":
            raise ConfigError(
                f"schedule.demos_in_replay with rl.method = {self.rl.method!r}, which has no replay; set it to false"
            )
        if self.schedule.warmup_steps and self.rl.collection == "on_policy":
            raise ConfigError(
                f"schedule.warmup_steps = {self.schedule.warmup_steps} with rl.method = {self.rl.method!r}, which "
                "trains as soon as a rollout is full (rl.rollout_steps); set it to 0"
            )
        if self.schedule.warmup_steps >= self.schedule.budget_steps:
            raise ConfigError(
                f"schedule.warmup_steps = {self.schedule.warmup_steps}: must be below schedule.budget_steps = "
                f"{self.schedule.budget_steps}, or nothing is ever trained"
            )
        return self

    def _refuse_imitation_of_nothing(self) -> None:
        """A frozen base leaves imitation nothing to train, unless there is a learned part beside it.

        Raises:
            ConfigError: imitation, and nothing that it may change.
        """
        policy = self.policy
        if not isinstance(policy, residual.Config):
            return
        if policy.freeze_base and policy.learned is None and ("il", "actor_gradient") in self.combine.needs():
            unfreeze = "set policy.freeze_base to false, " if policy.base.imitates else ""
            raise ConfigError(
                f"combine.method = {self.combine.method!r} trains by imitation, which policy.freeze_base forbids; "
                f"{unfreeze}give the policy a learned part (policy.learned: {{kind: hetstat}}) that imitation and RL "
                "both train, or set combine.method to 'rl_only'"
            )

    def _refuse_replay_of_a_planning_base(self) -> None:
        """Off-policy, a residual's inputs are asked of its base again as it learns: of one that plans they cannot be.

        Raises:
            ConfigError: replay, and a base without a density that imitation moves.
        """
        base = self.policy.trained_base()
        both = {("rl", "actor_gradient"), ("il", "actor_gradient")} <= set(self.combine.needs())
        if base is not None and "density" not in base.offers() and both and self.rl.collection == "off_policy":
            raise ConfigError(
                f"policy.base.kind = {base.kind!r} learns by imitation under rl.method = {self.rl.method!r}, "
                "whose replay would go on showing the residual what the base did before; set policy.freeze_base to "
                "true and combine.method to 'rl_only', or choose rl.method 'ppo' or a base of kind 'gaussian'"
            )

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The usual machine, and guard or gate that are not there, are not mentioned: digests and checkpoints of such
        runs stay what they were."""
        values: dict[str, Any] = handler(self)
        if self.compute == ComputeConfig():
            values.pop("compute", None)
        for name in ("guard", "gate"):
            if values.get(name) is None:
                values.pop(name, None)
        return values

    def refuse_nobody(self) -> None:
        """Refuse to run in one process what only a person, or an intervener, can give the signal for.

        Raises:
            ConfigError: the reward or the imitation lives on interventions or labels, and nobody gives any.
        """
        helped = self.interventions is not None and self.interventions.kind != "none"
        for part in ("rewards", "il", "rl", "combine"):
            method: MethodConfig = getattr(self, part)
            needed = method.lives_on()
            if "takeovers" in needed and not helped:
                raise ConfigError(
                    f"{part}.method = {method.method!r} learns from takeovers, and nobody takes over here: describe a "
                    "simulated intervener in the section interventions (bench/rlif.yaml has some)"
                )
            if "answers" in needed and self.interventions is None:
                raise ConfigError(
                    f"{part}.method = {method.method!r} asks an expert at every step, and there is none here: describe "
                    "one in the section interventions"
                )
            if "labels" in needed:
                raise ConfigError(
                    f"{part}.method = {method.method!r} learns from what a person says of an episode (rewards.by = "
                    "'person'), and in one process no person labels one; choose settings that take the task's own "
                    "judgement (rewards.by: anyone)"
                )

    def changed(self, **values: Any) -> "FineTuneConfig":
        """A validated copy with dotted settings replaced, e.g. ``changed(**{"combine.rl_per_il": 4})``.

        Raises:
            ConfigError: unknown setting or a value out of its range.
        """
        data = {**self.model_dump(mode="json"), "compute": self.compute.model_dump(mode="json")}
        for path, value in values.items():
            *parents, last = path.split(".")
            node = data
            for parent in parents:
                if not isinstance(node.get(parent), dict):
                    raise ConfigError(f"{path}: there is no setting {parent!r}")
                node = node[parent]
            node[last] = value
        return config_from_values(data, self.name)


def config_from_values(values: Any, source: str) -> FineTuneConfig:
    """A config from plain values, e.g. of a YAML file.

    Raises:
        ConfigError: names ``source``, field, value and what is allowed.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: must be a mapping of settings, found {type(values).__name__}")
    try:
        return FineTuneConfig(**values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {describe(error, '', FineTuneConfig)}") from error
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def preset_names() -> list[str]:
    """Names of the packaged presets."""
    folder = resources.files("inril_core.finetune") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_config(name_or_path: str | Path) -> FineTuneConfig:
    """A packaged preset by name, or a YAML file by path.

    A file may name a preset it starts from: ``base: NAME``; its other settings replace the preset's, part by part.

    Raises:
        ConfigError: not found, not YAML, or a setting is wrong.
    """
    return config_from_values(_read_values(str(name_or_path)), str(name_or_path))


def _read_values(source: str, depth: int = 0) -> Any:
    path = Path(source)
    if not source.endswith((".yaml", ".yml")):
        if source not in preset_names():
            raise ConfigError(f"fine-tuning config {source!r}: neither a .yaml path nor one of {preset_names()}")
        path = Path(str(resources.files("inril_core.finetune") / "presets" / f"{source}.yaml"))
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source}: cannot be read: {error}; give a YAML file of settings") from error
    return layered_values(values, source, depth) if isinstance(values, dict) else values


def layered_values(values: dict[str, Any], source: str, depth: int = 0) -> dict[str, Any]:
    """``values`` over those of their ``base``, part by part; a part of another method replaces the base's whole.

    Args:
        values: settings; ``base`` in them, if any, is a preset, a path or a mapping of settings.
        source: for messages.

    Raises:
        ConfigError: the base cannot be read, or bases refer to each other.
    """
    if "base" not in values:
        return values
    if depth > 4:
        raise ConfigError(f"{source}: base presets refer to each other")
    given = values["base"]
    base = dict(given) if isinstance(given, dict) else _read_values(str(given), depth + 1)
    for key, value in values.items():
        if key == "base":
            continue
        other_method = _method_of(value) not in (None, _method_of(base.get(key)))
        if isinstance(value, dict) and isinstance(base.get(key), dict) and not other_method:
            base[key] = {**base[key], **value}
        else:
            base[key] = value
    return base


def _method_of(values: Any) -> Any:
    """What names the file whose settings these are: those of another file are not mixed with them."""
    return values.get("method", values.get("kind")) if isinstance(values, dict) else None
