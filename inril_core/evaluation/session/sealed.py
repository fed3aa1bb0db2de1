"""Which code is which policy: sealed until somebody unseals, and provable by digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inril_core.errors import ConfigError
from inril_core.evaluation.session.plan import Code, Digest, Name, Plan
from inril_core.files import write_atomically

SEALED_NAME = "sealed.json"
POLICIES = "policies"


class Subject(BaseModel):
    """One policy that is evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name
    kind: Literal["weights", "expert"]
    """expert: the task's scripted expert; in the graph the scripted human, as it demonstrates."""
    weights_sha256: Digest | None = None
    """Of architecture and tensors, see `inril_core.policies.files.policy_sha256`; None: an expert."""
    origin: str = ""
    """Where the weights came from."""

    @model_validator(mode="after")
    def _weights_have_a_digest(self) -> Subject:
        if (self.kind == "weights") != (self.weights_sha256 is not None):
            raise ValueError("weights have weights_sha256, an expert has none")
        return self

    def file(self, folder: Path) -> Path:
        """The session's own copy of the weights."""
        return folder / POLICIES / f"{self.weights_sha256}.inril"


class Sealed(BaseModel):
    """The secret of a blind session."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    nonce: str = Field(min_length=32)
    """So that the digest in the plan cannot be tried out."""
    subjects: dict[Code, Subject]
    control: Code

    @model_validator(mode="after")
    def _names_are_unique(self) -> Sealed:
        names = [subject.name for subject in self.subjects.values()]
        if len(set(names)) != len(names) or self.control not in self.subjects:
            raise ValueError("each policy needs a name of its own, and the control must be one of them")
        return self

    @property
    def text(self) -> bytes:
        """What the file holds."""
        return (json.dumps(self.model_dump(mode="json"), sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """What the plan commits to."""
        return hashlib.sha256(self.text).hexdigest()


def write_sealed(folder: Path, sealed: Sealed) -> None:
    """Only the owner may read it. That keeps people blind who do not look; it is no encryption.

    Raises:
        OSError: the disk is full or broken.
    """
    write_atomically(folder / SEALED_NAME, sealed.text, mode=0o600)


def read_sealed(folder: Path, plan: Plan) -> Sealed:
    """The secret of a session, for the machine that runs it.

    Raises:
        ConfigError: it is missing, damaged, or not what the plan commits to.
    """
    path = folder / SEALED_NAME
    try:
        data = path.read_bytes()
        content: Any = json.loads(data)
        sealed = Sealed.model_validate(content)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror or error}; restore it, the codes mean nothing without it"
        ) from error
    except (ValueError, ValidationError, RecursionError) as error:
        raise ConfigError(f"{path}: is damaged ({error}); restore it") from error
    if hashlib.sha256(data).hexdigest() != plan.sealed_sha256 or set(sealed.subjects) != set(plan.codes):
        raise ConfigError(f"{path}: is not what the plan commits to; restore it, or begin another session")
    return sealed
