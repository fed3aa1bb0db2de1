"""How methods are found: the name in a config is the name of a file.

``combine: {method: interleave, ...}`` means ``inril_core/finetune/combine/interleave.py``, whose ``Config`` class holds
the settings and builds the method. A new method is one new file and a preset.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.policies import Policy
from inril_core.settings import Settings

Array = npt.NDArray[np.float32]
_SHORT = {part: ", e.g. {method: NAME}" for part in ("rl", "il", "rewards", "combine")} | {
    "policy": ", e.g. {kind: NAME}"
}
_BRANCHES = ("int", "float", "str", "bool", "none")  # names that pydantic gives to the kinds of a union


class MethodConfig(Settings):
    """Settings of one method, and what it needs from and offers to the others.

    Attributes:
        method: the file's name.
        provides: capabilities that others may ask for, e.g. ``actor_gradient`` of an RL or IL method.
        requires: capabilities a method needs of the other parts, as (part, capability); part is ``policy``, ``rl``,
            ``il``, ``rewards`` or ``combine``.
        reasons: why a capability is needed and what to choose instead, told where a combination is refused.
        asks_expert: an IL method that needs `Episode.expert_actions` at every step.
    """

    method: str
    provides: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[tuple[tuple[str, str], ...]] = ()
    reasons: ClassVar[Mapping[str, str]] = {}
    asks_expert: ClassVar[bool] = False

    def offers(self) -> frozenset[str]:
        """What these settings provide; ``provides``, unless a method's settings decide."""
        return self.provides

    def needs(self) -> tuple[tuple[str, str], ...]:
        """What these settings require; ``requires``, unless a method's settings decide."""
        return self.requires

    def check(self, whole: Any) -> None:
        """Refuse to work with other settings of ``whole``, a `FineTuneConfig`.

        Raises:
            ConfigError: says why they do not fit, and what to set.
        """


class RewardConfig(MethodConfig):
    """Settings of a reward method."""

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """Rewards ``[T]`` and masks ``[T]``; the mask is 1 where the value bootstraps.

        Recordings hold facts only, so this is computed at ingestion and can be changed later.
        """
        raise NotImplementedError

    def model(self, policy: Policy) -> Any | None:
        """A reward learned beside ``policy``, given to the RL method as ``reward``; None: `label` says all."""
        return None

    def keep(self, episode: Episode) -> npt.NDArray[np.bool_] | None:
        """Which steps ``[T]`` may enter replay; None: all usable ones."""
        return None

    def known(self, episode: Episode) -> npt.NDArray[np.bool_] | None:
        """Of which steps ``[T]`` the reward is known; None: of all. No return may be summed over the others."""
        return None


def known_methods(part: str) -> list[str]:
    """Names of the methods in ``inril_core.finetune.<part>``."""
    package = importlib.import_module(f"inril_core.finetune.{part}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base" and not m.ispkg)


def method_config(part: str, values: Mapping[str, Any]) -> MethodConfig:
    """The settings of one part (``rl``, ``il``, ``rewards``, ``combine``) from plain values.

    Raises:
        ConfigError: unknown method, or a setting is unknown, missing or out of its range.
    """
    name = values.get("method")
    known = known_methods(part)
    if name not in known:
        raise ConfigError(f"{part}.method = {name!r}: must be one of {known}")
    config: type[MethodConfig] = importlib.import_module(f"inril_core.finetune.{part}.{name}").Config
    try:
        return config(**values)
    except ValidationError as error:
        raise ConfigError(describe(error, part, config)) from error


def describe(error: ValidationError, prefix: str, settings: type[BaseModel]) -> str:
    """Each wrong field of ``settings``: name, value, what is allowed."""
    told: dict[str, list[str]] = {}
    for item in error.errors():
        loc = item["loc"]
        while loc and _is_branch(loc[-1]):  # of a union: "int", "literal['adaptive']"
            loc = loc[:-1]
        field = ".".join(map(str, [*([prefix] if prefix else []), *loc]))
        if item["type"] == "missing":
            told[f"{field} is missing"] = []
            continue
        text = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
        if item["type"] == "extra_forbidden":
            known = sorted(_settings_at(settings, loc[:-1]).model_fields)
            close = difflib.get_close_matches(str(loc[-1]), known, n=1)
            text = "there is no such setting; " + (f"did you mean {close[0]!r}?" if close else f"there are {known}")
        elif item["type"] in ("model_type", "dict_type"):
            text = "must be a mapping of settings" + _SHORT.get(field, "")
        # without a field it is a check of the whole, which names what it is about
        told.setdefault(f"{field} = {item['input']!r}" if field else text, []).extend([text] if field else [])
    return "; ".join(f"{what}: {' or '.join(texts)}" if texts else what for what, texts in told.items())


def _is_branch(name: int | str) -> bool:
    return isinstance(name, str) and (name in _BRANCHES or "[" in name)


def _settings_at(settings: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The settings within ``settings`` that a path of fields, keys and list positions leads to."""
    for name in path:
        field = settings.model_fields.get(str(name))
        for kind in _flat(None if field is None else field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                settings = kind
    return settings


def _flat(annotation: Any) -> list[Any]:
    inner = [kind for part in get_args(annotation) for kind in _flat(part)]
    return inner or [annotation]
