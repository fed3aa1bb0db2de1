"""Moving weights from the learner to the policy: signed packs, what is refused, and what is kept on disk."""

from inril_core.weights.key import Key, load_or_create_key
from inril_core.weights.pack import pack, unpack
from inril_core.weights.refusal import Refusal, WeightsRefused

__all__ = ["Key", "Refusal", "WeightsRefused", "load_or_create_key", "pack", "unpack"]
