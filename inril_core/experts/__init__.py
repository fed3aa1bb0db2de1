"""Who acts: scripted and trained experts, and experts made worse. Who decides when to take over: `intervener`."""

from inril_core.experts.base import Expert, HasExpert
from inril_core.experts.quality import ExpertConfig, make_expert

__all__ = ["Expert", "ExpertConfig", "HasExpert", "make_expert"]
