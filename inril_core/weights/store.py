"""The packs a policy has accepted, on disk: it starts from them and can roll back to them."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, with_config

from inril_core.errors import ConfigError
from inril_core.files import parse_line, write_atomically
from inril_core.weights.refusal import Refusal, WeightsRefused

STATE_NAME = "state.json"
TRIAL_NAME = "trial_observations.npy"


_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@with_config(extra="forbid")
@dataclass(frozen=True)
class KeptPack:
    """A pack on disk: version, and SHA-256 (hex), which also names its file."""

    run_id: str
    n: Annotated[int, Field(ge=0, lt=2**63)]
    sha256: _Sha256

    @property
    def file_name(self) -> str:
        """Name of the pack's file in the store's folder."""
        return f"{self.n:08d}-{self.sha256[:16]}.pack"


@with_config(extra="forbid")
@dataclass(frozen=True)
class StoreState:
    """What survives a restart."""

    run_id: str = ""
    highest_n: Annotated[int, Field(ge=-1, lt=2**63)] = -1
    """Highest version accepted in the run."""
    pinned: bool = False
    active: _Sha256 | None = None
    """Of the pack that acts; None before the first."""
    packs: tuple[KeptPack, ...] = ()
    """Oldest first."""


class WeightStore:
    """Packs and state in one folder.

    Every file is written beside its place, synced and renamed, and a pack is there before the state names it;
    so after a kill at any moment either the old or the new state is found, whole.
    """

    def __init__(self, folder: Path, keep: int = 8) -> None:
        """Open the folder, and clear away what a kill has left half-done.

        Raises:
            ConfigError: the folder cannot be used, or its state is not readable.
        """
        if keep < 2:
            raise ConfigError(f"keep = {keep}: must be at least 2, the active pack and one to roll back to")
        self._folder = folder
        self._keep = keep
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.state = self._read_state()
            self._clear_leftovers()
        except OSError as error:
            raise ConfigError(f"weights folder {folder}: {error.strerror}; give one that can be written") from error

    def add(self, data: bytes, run_id: str, n: int) -> KeptPack:
        """Keep an accepted pack and count its version as the highest. It does not act yet."""
        kept = KeptPack(run_id, n, hashlib.sha256(data).hexdigest())
        write_atomically(self._folder / kept.file_name, data)
        packs = [pack for pack in self.state.packs if pack.sha256 != kept.sha256] + [kept]
        while len(packs) > self._keep:
            packs.remove(next(pack for pack in packs if pack.sha256 not in (self.state.active, kept.sha256)))
        self._write_state(replace(self.state, run_id=run_id, highest_n=n, packs=tuple(packs)))
        self._clear_leftovers()
        return kept

    def activate(self, sha256: str, pinned: bool) -> None:
        """Note which pack acts from now on."""
        self._write_state(replace(self.state, active=sha256, pinned=pinned))

    def unpin(self) -> None:
        """Note that new versions are accepted again."""
        self._write_state(replace(self.state, pinned=False))

    def active(self) -> KeptPack | None:
        """The pack that acts; None before the first."""
        return next((pack for pack in self.state.packs if pack.sha256 == self.state.active), None)

    def find(self, run_id: str, n: int) -> KeptPack:
        """A kept pack by its version.

        Raises:
            WeightsRefused: it is not kept.
        """
        for kept in self.state.packs:
            if (kept.run_id, kept.n) == (run_id, n):
                return kept
        versions = ", ".join(f"({pack.run_id}, {pack.n})" for pack in self.state.packs)
        raise WeightsRefused(Refusal.NOT_KEPT, f"({run_id}, {n}): kept are {versions or 'none'}")

    def read(self, kept: KeptPack) -> bytes:
        """The bytes of a kept pack.

        Raises:
            ConfigError: the file is missing or has changed.
        """
        path = self._folder / kept.file_name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}; restore it, or remove {self._folder} to start anew"
            ) from error
        if hashlib.sha256(data).hexdigest() != kept.sha256:
            raise ConfigError(f"{path}: has changed on disk; restore it, or remove {self._folder} to start anew")
        return data

    def _read_state(self) -> StoreState:
        path = self._folder / STATE_NAME
        try:
            return parse_line(path.read_bytes(), StoreState)
        except FileNotFoundError:
            return StoreState()
        except ValueError as error:
            raise ConfigError(
                f"{path}: not a state of kept weights ({error}); restore it or remove the folder"
            ) from error

    def keep_trial(self, observations: NDArray[np.float32]) -> None:
        """Keep the observations `[N, D]` that offers are tried on: a restart must not let a wild one through.

        Raises:
            OSError: the disk is full or read-only.
        """
        content = io.BytesIO()
        np.save(content, observations, allow_pickle=False)
        write_atomically(self._folder / TRIAL_NAME, content.getvalue())

    def trial(self, size: int) -> NDArray[np.float32]:
        """The kept observations `[N, size]`; none where nothing usable is kept."""
        nothing = np.empty((0, size), np.float32)
        try:
            kept = np.load(self._folder / TRIAL_NAME, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return nothing
        usable = kept.dtype == np.float32 and kept.ndim == 2 and kept.shape[1] == size and np.isfinite(kept).all()
        return kept if usable else nothing

    def _write_state(self, state: StoreState) -> None:
        write_atomically(self._folder / STATE_NAME, json.dumps(asdict(state), indent=1).encode())
        self.state = state

    def _clear_leftovers(self) -> None:
        """Remove half-written files, and packs that the state does not name (any more)."""
        named = {pack.file_name for pack in self.state.packs}
        for path in self._folder.iterdir():
            unnamed = path.suffix == ".pack" and path.name not in named
            if path.suffix == ".tmp" or unnamed:
                path.unlink()
