"""Moving weights from the learner to the policy: signed packs, what is refused, and what is kept on disk."""

from inril_core.weights.key import Key, load_or_create_key
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import pack, unpack

__all__ = ["Key", "Refusal", "WeightsRefused", "load_or_create_key", "pack", "unpack"]
