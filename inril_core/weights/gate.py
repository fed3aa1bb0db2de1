"""Which weights may act."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inril_core.errors import ConfigError
from inril_core.weights.offer import Offer
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import MAX_PACK_BYTES, Hashed, unpack

if TYPE_CHECKING:
    from torch import Tensor

Actions = NDArray[np.float32]


@dataclass(frozen=True)
class GateRules:
    """What the gate lets pass.

    Raises:
        ConfigError: `max_action_change` is not in (0, 2].
    """

    interface_digest: str
    """Hex, of the contract the graph runs."""
    max_action_change: float = 0.5
    """Mean absolute change of the action, contract units, on recent observations; [-1, 1] is two wide, so 2 lets
    everything pass."""

    def __post_init__(self) -> None:
        if not 0.0 < self.max_action_change <= 2.0:
            raise ConfigError(f"max_action_change = {self.max_action_change}: must be in (0, 2]")


class Gate:
    """Decides on offered weights, cheapest check first. Remembers the run, its highest version and the pin.

    An offer passes `check_offer`, its pack `open_pack`, its policy `check_actions`; then `accept` counts it.
    Whatever refuses leaves the gate as it was.
    """

    def __init__(self, rules: GateRules, key: bytes, run_id: str, highest_n: int = -1, pinned: bool = False) -> None:
        self._rules = rules
        self._key = key
        self.run_id = run_id
        self.highest_n = highest_n
        self.pinned = pinned

    def check_offer(self, offer: Offer) -> None:
        """Before any byte is pulled or memory is taken: signature, version, pin and size.

        Raises:
            WeightsRefused: not signed with this key, pinned, of another run, not newer than the highest accepted, or
                of a wrong size.
        """
        if not offer.is_signed(self._key):
            raise WeightsRefused(
                Refusal.BAD_SIGNATURE,
                f"n = {offer.n}: altered on the way, or signed with another key; both hosts need the same key",
            )
        if self.pinned:
            raise WeightsRefused(Refusal.PINNED, f"n = {offer.n}: rolled back and pinned; unpin to accept it")
        if offer.run_id != self.run_id:
            raise WeightsRefused(
                Refusal.UNKNOWN_RUN,
                f"run {offer.run_id!r:.80} is not {self.run_id!r}; if it is the learner of this robot, start it with "
                f"run_id:={self.run_id} and a new run_dir",
            )
        if offer.n <= self.highest_n:
            raise WeightsRefused(Refusal.OLD_VERSION, f"n = {offer.n}: must be above {self.highest_n}")
        if offer.size_bytes == 0:
            raise WeightsRefused(Refusal.EMPTY, f"n = {offer.n}: announces no bytes")
        if offer.size_bytes > MAX_PACK_BYTES:
            raise WeightsRefused(
                Refusal.TOO_LARGE,
                f"n = {offer.n}: announces {offer.size_bytes} bytes, at most {MAX_PACK_BYTES}",
            )

    def open_pack(
        self, pack: Hashed, offer: Offer, shapes: Mapping[str, Sequence[int]] | None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, views of its bytes, and manifest of a pulled pack.

        Args:
            shapes: of the active policy's tensors; None without one.

        Raises:
            WeightsRefused: the pack is not what was offered, not sound, for another interface, of other
                shapes, or holds NaN or infinity.
        """
        self.check_offer(offer)  # a rollback may have come while it was pulled
        if len(pack.data) != offer.size_bytes:
            reason = Refusal.EMPTY if not len(pack.data) else Refusal.BAD_SIZE
            raise WeightsRefused(reason, f"n = {offer.n}: {len(pack.data)} bytes came, {offer.size_bytes} announced")
        if pack.digest != offer.digest:
            raise WeightsRefused(Refusal.BAD_DIGEST, f"n = {offer.n}: not the pack that was announced")
        state, manifest = unpack(pack.data)
        if (manifest["run_id"], manifest["n"]) != (offer.run_id, offer.n):
            raise WeightsRefused(
                Refusal.OTHER_CONTENT,
                f"announced as n = {offer.n} of {offer.run_id!r:.80}, but holds n = {manifest['n']} "
                f"of {manifest['run_id']!r:.80}",
            )
        self.check_content(state, manifest, shapes)
        return state, manifest

    def check_content(
        self,
        state: Mapping[str, Tensor],
        manifest: Mapping[str, Any],
        shapes: Mapping[str, Sequence[int]] | None,
    ) -> None:
        """What holds for every pack, however it came: interface, shapes, finite numbers.

        Raises:
            WeightsRefused: one of them is wrong.
        """
        if manifest["interface_digest"] != self._rules.interface_digest:
            raise WeightsRefused(
                Refusal.WRONG_INTERFACE,
                "made for another observation, action or rate; give graph and learner the same contract",
            )
        if shapes is not None:
            given = {name: tuple(tensor.shape) for name, tensor in state.items()}
            wanted = {name: tuple(shape) for name, shape in shapes.items()}
            if given != wanted:
                name = min(n for n in given.keys() | wanted.keys() if given.get(n) != wanted.get(n))
                raise WeightsRefused(
                    Refusal.WRONG_SHAPE,
                    f"{name}: has {given.get(name)}, the active policy {wanted.get(name)}",
                )
        for name, tensor in state.items():
            if tensor.is_floating_point() and not _is_finite(tensor):
                raise WeightsRefused(Refusal.NON_FINITE, f"{name} holds NaN or infinity")

    def check_actions(self, candidate: Actions, active: Actions | None) -> None:
        """The trial: deterministic actions `[N, A]` on recent observations; `active`: of the active policy, if any.

        Raises:
            WeightsRefused: an action is not finite, or they differ too much on average.
        """
        if not np.isfinite(candidate).all():
            raise WeightsRefused(Refusal.NON_FINITE, "its actions on recent observations are not finite")
        if active is None or candidate.size == 0:
            return
        change = float(np.abs(candidate - active).mean())
        if not change <= self._rules.max_action_change or math.isnan(change):
            raise WeightsRefused(
                Refusal.WILD_ACTION,
                f"actions change by {change:.3f} on average over {len(candidate)} recent observations; "
                f"max_action_change is {self._rules.max_action_change}",
            )

    def accept(self, offer: Offer) -> None:
        """Count a version that passed everything."""
        self.run_id, self.highest_n = offer.run_id, offer.n


def _is_finite(tensor: Tensor) -> bool:
    """Whether all its numbers are. A sum is infinite or NaN where one of them is, and ten times faster than a look at
    each; the sum of large finite ones may be, too, and then they are looked at."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
