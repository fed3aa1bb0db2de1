"""Why weights are refused."""

from __future__ import annotations

from enum import StrEnum

from inril_core.errors import InrilError


class Refusal(StrEnum):
    """Reasons, as they stand in PolicyStatus."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_A_PACK = "not_a_pack"
    BAD_SIGNATURE = "bad_signature"
    BAD_SIZE = "bad_size"
    BAD_DIGEST = "bad_digest"
    BAD_MANIFEST = "bad_manifest"
    BAD_TENSORS = "bad_tensors"
    OTHER_CONTENT = "other_content"
    WRONG_INTERFACE = "wrong_interface"
    WRONG_SHAPE = "wrong_shape"
    NON_FINITE = "non_finite"
    OLD_VERSION = "old_version"
    UNKNOWN_RUN = "unknown_run"
    PINNED = "pinned"
    WILD_ACTION = "wild_action"
    PULL_FAILED = "pull_failed"
    TRIAL_FAILED = "trial_failed"
    NOT_KEPT = "not_kept"


class WeightsRefused(InrilError):
    """Weights that must not act. `reason` is for machines; the message also says what to do."""

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
