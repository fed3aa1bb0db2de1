"""Moving weights from the learner to the policy: signed offers, packs, what is refused, and what is kept on disk."""

from inril_core.weights.key import Key, load_or_create_key
from inril_core.weights.offer import Offer
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import Hashed, unpack, write_pack

__all__ = ["Hashed", "Key", "Offer", "Refusal", "WeightsRefused", "load_or_create_key", "unpack", "write_pack"]
