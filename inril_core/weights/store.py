"""The packs a policy has accepted, on disk: it starts from them and can roll back to them."""

from __future__ import annotations

import io
import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, with_config

from inril_core.errors import ConfigError
from inril_core.files import parse_line, sync_file, sync_folder, write_atomically
from inril_core.weights.offer import Offer
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import MAX_PACK_BYTES, Bytes, Hashed, unpack

if TYPE_CHECKING:
    from torch import Tensor

STATE_NAME = "state.json"
TRIAL_NAME = "trial_observations.npy"


_Hex32 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@with_config(extra="forbid")
@dataclass(frozen=True)
class KeptPack:
    """A pack on disk, as it was offered."""

    run_id: str
    n: Annotated[int, Field(ge=0, lt=2**63)]
    size_bytes: Annotated[int, Field(ge=1, le=MAX_PACK_BYTES)]
    digest: _Hex32
    """BLAKE3, hex; also names its file."""
    mac: _Hex32
    """Of the offer, hex."""

    @classmethod
    def of(cls, offer: Offer) -> KeptPack:
        """What keeps an offered pack."""
        return cls(offer.run_id, offer.n, offer.size_bytes, offer.digest.hex(), offer.mac.hex())

    @property
    def offer(self) -> Offer:
        """The offer that it came with."""
        return Offer(self.run_id, self.n, self.size_bytes, bytes.fromhex(self.digest), bytes.fromhex(self.mac))

    @property
    def file_name(self) -> str:
        """Name of the pack's file in the store's folder."""
        return f"{self.n:08d}-{self.digest[:16]}.pack"


@with_config(extra="forbid")
@dataclass(frozen=True)
class StoreState:
    """What survives a restart."""

    run_id: str = ""
    highest_n: Annotated[int, Field(ge=-1, lt=2**63)] = -1
    """Highest version accepted in the run."""
    pinned: bool = False
    active: _Hex32 | None = None
    """Of the pack that acts; None before the first."""
    packs: tuple[KeptPack, ...] = ()
    """Oldest first."""


class WeightStore:
    """Packs and state in one folder.

    Every file is written beside its place, synced and renamed, and a pack is there before the state names it;
    so after a kill at any moment either the old or the new state is found, whole. Several threads may use it.
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
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.state = self._read_state()
            self._clear_leftovers()
        except OSError as error:
            raise ConfigError(f"weights folder {folder}: {error.strerror}; give one that can be written") from error

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self._folder

    @property
    def incoming(self) -> Path:
        """Where packs may be put together; a file there outlives a restart until another one is begun."""
        return self._folder / "incoming"

    def add(self, path: Path, offer: Offer) -> KeptPack:
        """Keep an accepted pack, and count its version as the highest. It does not act yet.

        path: of the file, in `incoming`; it is moved.

        Raises:
            OSError: the disk is full or broken.
        """
        kept = KeptPack.of(offer)
        sync_file(path)
        with self._lock:
            os.replace(path, self._folder / kept.file_name)
            sync_folder(self._folder)
            packs = [pack for pack in self.state.packs if pack.digest != kept.digest] + [kept]
            while len(packs) > self._keep:
                packs.remove(next(pack for pack in packs if pack.digest not in (self.state.active, kept.digest)))
            self._write_state(replace(self.state, run_id=offer.run_id, highest_n=offer.n, packs=tuple(packs)))
            self._clear_leftovers()
        return kept

    def activate(self, digest: str, pinned: bool) -> None:
        """Note which pack acts from now on."""
        with self._lock:
            self._write_state(replace(self.state, active=digest, pinned=pinned))

    def unpin(self) -> None:
        """Note that new versions are accepted again."""
        with self._lock:
            self._write_state(replace(self.state, pinned=False))

    def active(self) -> KeptPack | None:
        """The pack that acts; None before the first."""
        return next((pack for pack in self.state.packs if pack.digest == self.state.active), None)

    def has(self, digest: str) -> bool:
        """Whether the state names a pack with this digest."""
        return any(pack.digest == digest for pack in self.state.packs)

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

    def read(self, kept: KeptPack, memory: Bytes) -> Hashed:
        """A kept pack, in ``memory [size_bytes]``.

        Raises:
            ConfigError: the file is missing or has changed.
        """
        path = self._folder / kept.file_name
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                view = memory.data
                while size == kept.size_bytes and view:
                    view = view[file.readinto(view) or len(view) :]
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}; restore it, or remove {self._folder} to start anew"
            ) from error
        pack = Hashed.of(memory)
        if size != kept.size_bytes or pack.digest.hex() != kept.digest:
            raise ConfigError(f"{path}: has changed on disk; restore it, or remove {self._folder} to start anew")
        return pack

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


def read_kept(path: Path, kept: KeptPack, key: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and manifest of a kept pack, for whoever looks at the store of another process.

    Raises:
        OSError: the file cannot be read. WeightsRefused: it has changed, or was signed with another key.
    """
    pack = Hashed.of(np.frombuffer(bytearray(path.read_bytes()), np.uint8))
    if not kept.offer.is_signed(key):
        raise WeightsRefused(Refusal.BAD_SIGNATURE, f"{path}: altered, or signed with another key")
    if pack.digest.hex() != kept.digest:
        raise WeightsRefused(Refusal.BAD_DIGEST, f"{path}: has changed on disk")
    return unpack(pack.data)
