"""The policy that acts, the one that waits for its boundary, and the way from an offer to an action.

Importing this module imports torch. Over 400 lines: what may act next is decided here alone, under one lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inril_core.contract import Contract
from inril_core.errors import ConfigError, InrilError
from inril_core.policies import Memory, Policy, exploration_rng, policy_from_manifest
from inril_core.weights.gate import Gate
from inril_core.weights.memory import PackMemory
from inril_core.weights.offer import Offer
from inril_core.weights.passed import Passed
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import Hashed, unpack, write_pack
from inril_core.weights.store import KeptPack, WeightStore

Array = NDArray[np.float32]

TRIAL_OBSERVATIONS_N = 256
TRIAL_NUMBERS = 1 << 19  # in all of them: with images there are fewer
TRIAL_PARAMETERS = 1 << 25  # observations tried, times parameters: a large policy is tried on fewer
TRIAL_LEAST_N = 8


class Unkept(InrilError):
    """A version acts that the disk did not take: a restart would go back a version."""


@dataclass
class Version:
    """A policy that passed the gate."""

    run_id: str
    n: int
    digest: str
    """Hex, of its pack."""
    policy: Policy
    published_ns: int | None = None
    """By the learner's wall clock; None if it was not pushed."""


@dataclass(frozen=True)
class OfferTrial:
    """What offered weights are compared with."""

    rows: Array
    """Recent observations ``[N, D]``, spread over what was seen."""
    active: Version | None
    actions: Array | None
    """Of the active policy on them, ``[N, A]``."""


@dataclass(frozen=True)
class Answer:
    """The policy's action for one observation, with the version that made it."""

    run_id: str
    n: int
    action: Array
    """float32[A] in [-1, 1]."""
    raw: Array
    """float32[A], before squashing."""
    log_prob: float
    """Of the action under the policy."""
    aux: Array
    """See `Decision`."""
    chunk_id: int
    """Counts the plans made."""
    chunk_index: int
    """See `Decision`."""


class ActingPolicy:
    """Answers observations, and changes weights only as a whole and only at a boundary.

    `take` and `note_active` may run in another thread than the rest, so that no tick waits for a large pack or for the
    disk. A version may act a moment before the disk has it: killed in between, the policy starts from the version
    before, and the newest offer, which is latched, is taken again.

    Args:
        swap_at: `episode` (before step 0), `chunk` (before the next plan: a Gaussian policy's is one step), or `tick`
            (before the next step; the rest of a plan is given up).
    """

    def __init__(
        self,
        contract: Contract,
        gate: Gate,
        store: WeightStore,
        key: bytes,
        swap_at: Literal["episode", "chunk", "tick"] = "episode",
    ) -> None:
        self._sizes = (contract.observation_size, contract.action.size)
        self._gate = gate
        self._store = store
        self._key = key
        self._swap_at = swap_at
        self._passed = Passed(store.folder)
        self._memory_of_packs = PackMemory()
        self._lock = threading.Lock()  # of what both threads change; never held while anything is computed or written
        rows = min(TRIAL_OBSERVATIONS_N, max(8, TRIAL_NUMBERS // contract.observation_size))
        self._recent: deque[Array] = deque(maxlen=rows)
        self._disk = threading.Lock()  # of what is written
        self._unkept: tuple[Path, Offer] | None = None  # accepted, and not on disk yet
        self._unnoted: Version | None = None  # it acts, and the disk does not say so yet
        self._replaced: list[Version] = []  # freed by the other thread: that takes long for a large one
        self._first_noted: Version | None = None  # whose first answer is out
        self._memory = Memory()
        self._plans = 0
        self.active: Version | None = None
        self.pending: Version | None = None
        self.accepted = 0
        self.rejected = 0
        self.last_rejected_n = -1
        self.last_rejection = ""
        self.push_to_acting_ms = float("nan")

    @property
    def highest_n(self) -> int:
        """Highest version ever accepted in this run; -1: none."""
        return self._gate.highest_n

    @property
    def pinned(self) -> bool:
        """Whether no new version is accepted since a roll-back."""
        return self._gate.pinned

    def load_kept(self) -> bool:
        """Act with the pack that acted when the process ended; False if there is none.

        A newer one that waited for its boundary waits again.

        Raises:
            ConfigError: the pack is damaged, or was signed with another key or for another contract.
        """
        kept = self._store.active()
        if kept is None:
            return False
        self._recent.extend(self._store.trial(self._sizes[0]))
        try:
            self.active = self._load(kept)
            newest = self._store.state.packs[-1]
            waited = (newest.run_id, newest.n) == (self._gate.run_id, self._gate.highest_n)
            if waited and newest != kept and not self._gate.pinned:
                self.pending = self._load(newest)
        except WeightsRefused as error:
            raise ConfigError(f"kept weights {kept.file_name}: {error}; use the key and contract of the run") from error
        return True

    def load_initial(self, policy: Policy, facts: Mapping[str, Any], created_ns: int, n: int = 0) -> None:
        """Act with a policy that a person has chosen, as version ``n`` of the run. Kept like any other.

        facts: what `load_policy` read beside it; `interface_digest` and `contract_text` are needed.
        n: above `highest_n`.

        Raises:
            WeightsRefused: it is for another contract, of another size, or not finite.
        """
        manifest = {
            "run_id": self._gate.run_id,
            "n": n,
            "parent": None,
            "interface_digest": str(facts.get("interface_digest")),
            "contract_text": str(facts.get("contract_text")),
            "policy": policy.manifest(),
            "created_ns": created_ns,
        }
        self._gate.check_content(policy.state_dict(), manifest, None)
        self._build(policy.state_dict(), manifest)
        self._store.incoming.mkdir(exist_ok=True)
        path = self._store.incoming / "initial.pack"
        size, digest = write_pack(path, policy.state_dict(), manifest)
        offer = Offer.signed(self._key, self._gate.run_id, n, size, digest)
        kept = self._store.add(path, offer)
        self._store.activate(kept.digest, self._gate.pinned)
        self._gate.accept(offer)
        self._passed.note(n, policy.state_dict())
        self.active = self._load(kept)

    def check_offer(self, offer: Offer) -> None:
        """See Gate.check_offer; a refusal is counted.

        Raises:
            WeightsRefused: the offer is not worth pulling.
        """
        try:
            self._gate.check_offer(offer)
        except WeightsRefused as error:
            self.note_refusal(offer.n, error)
            raise

    def memory_for(self, offer: Offer) -> NDArray[np.uint8]:
        """uint8[size_bytes], where the bytes of an offered pack shall be for `take`: they are not copied again.

        Raises:
            WeightsRefused: there is no memory for it; counted.
        """
        try:
            return self._memory_of_packs.take(offer.size_bytes)
        except MemoryError as error:
            text = f"n = {offer.n}: no memory for {offer.size_bytes} bytes; use a smaller policy"
            refusal = WeightsRefused(Refusal.TOO_LARGE, text)
            self.note_refusal(offer.n, refusal)
            raise refusal from error

    def trial(self) -> OfferTrial:
        """What the acting policy does now; in another thread it can be computed while a pack comes."""
        with self._lock:
            recent = np.array(self._recent, dtype=np.float32)
            active = self.active
        parameters = 0 if active is None else sum(parameter.numel() for parameter in active.policy.parameters())
        count = max(TRIAL_LEAST_N, TRIAL_PARAMETERS // max(1, parameters))
        spread = np.linspace(0, len(recent) - 1, min(count, len(recent))).astype(int)
        rows = recent.reshape(-1, self._sizes[0])[spread]
        return OfferTrial(rows, active, None if active is None else active.policy.trial(rows))

    def take(
        self, pack: Hashed, path: Path, offer: Offer, published_ns: int | None, trial: OfferTrial | None = None
    ) -> None:
        """Check a pack, try it beside the active policy, let it wait for the boundary, and keep it.

        Args:
            path: its file, in the store's `incoming`.
            trial: made while the pack came; made now if the policy that acts is another one meanwhile.

        Raises:
            WeightsRefused: it may not act; counted, and the active policy is untouched.
            Unkept: the disk failed when the version acted already; `note_active` tries again.
        """
        if trial is None or trial.active is not self.active:
            trial = self.trial()
        try:
            version = self._checked(pack, offer, trial, published_ns)
            with self._lock:
                self._gate.check_offer(offer)  # a roll-back may have come meanwhile
                before = (self._gate.run_id, self._gate.highest_n)
                self._gate.accept(offer)
                self.pending, self._unkept = version, (path, offer)
                if self.active is None:
                    self._swap()
        except WeightsRefused as error:
            self.note_refusal(offer.n, error)
            with contextlib.suppress(OSError):
                self._store.keep_trial(trial.rows)
            raise
        try:
            self._store.keep_trial(trial.rows)
            self._keep()
            self._passed.note(offer.n, version.policy.state_dict())
        except OSError as error:
            with self._lock:
                if self.pending is not version:
                    raise Unkept(error.strerror or str(error)) from error
                self.pending = self._unkept = None
                self._gate.run_id, self._gate.highest_n = before
            refusal = WeightsRefused(Refusal.NOT_KEPT, f"cannot be written to disk ({error}); free some space")
            self.note_refusal(offer.n, refusal)
            raise refusal from error
        self.accepted += 1

    def _checked(self, pack: Hashed, offer: Offer, trial: OfferTrial, published_ns: int | None) -> Version:
        active = trial.active
        shapes = None if active is None else {k: tuple(v.shape) for k, v in active.policy.state_dict().items()}
        state, manifest = self._gate.open_pack(pack, offer, shapes)
        policy = self._build(state, manifest)
        # what acted before may come back at once, as by a roll-back: the peak guard's best version after a fall
        before = None if self._passed.has(state) else trial.actions
        self._gate.check_actions(policy.trial(trial.rows), before)
        return Version(offer.run_id, offer.n, offer.digest.hex(), policy, published_ns)

    def _keep(self) -> None:
        """Put an accepted pack on disk, unless it is there."""
        with self._disk:
            if self._unkept is not None:
                self._store.add(*self._unkept)
                self._unkept = None

    def note_refusal(self, n: int, error: WeightsRefused) -> None:
        """Count a refusal, also one that happened outside, such as a failed pull."""
        with self._lock:
            self.rejected += 1
            self.last_rejected_n = n
            self.last_rejection = str(error)

    @property
    def plans_ahead(self) -> bool:
        """Whether an answer can depend on a plan made at an earlier step."""
        return self.active is not None and self.active.policy.plan_steps > 1

    def act(self, observation: Array, explore: bool, seed: int, step: int, follows: bool = True) -> Answer | None:
        """Answer one observation `[D]`; None without weights. A waiting version takes over at its boundary.

        Exploration noise depends on the episode's seed and the step alone. A plan made ahead is given up at step 0, at
        a change of weights, and where it was not followed.

        follows: the step before was executed as this policy asked (not by a human, a hold or a reset).

        Raises:
            ValueError: the observation has a wrong size or is not finite.
        """
        if step == 0 or not follows:
            self._memory.clear()
        between_plans = self._swap_at == "chunk" and not self._memory.queue
        if self.pending is not None and (step == 0 or between_plans or self._swap_at == "tick"):
            with self._lock:
                self._swap()
            self._memory.clear()
        active = self.active
        if active is None:
            return None
        rng = exploration_rng(seed, step)
        made = active.policy.act(observation, explore, rng, self._memory)
        self._plans += made.chunk_index == 0
        with self._lock:
            self._recent.append(observation)
        return Answer(
            active.run_id, active.n, made.action, made.raw, made.log_prob, made.aux, self._plans - 1, made.chunk_index
        )

    def after_answer(self, now_ns: int) -> bool:
        """Call when an answer is out: the first of a version notes how long it took.

        Returns True for that first answer. `now_ns`: wall clock.
        """
        version = self.active
        if version is None or version is self._first_noted:
            return False
        self._first_noted = version
        if version.published_ns is not None:
            self.push_to_acting_ms = (now_ns - version.published_ns) / 1e6
        return True

    @property
    def is_noted(self) -> bool:
        """Whether the disk says which pack acts; if not, `note_active` is due, in any thread."""
        return self._unnoted is None

    def note_active(self) -> Version | None:
        """Note on disk which pack acts; the version that was noted, None where it is there already.

        Raises:
            OSError: the disk cannot be written; call it again.
        """
        with self._lock:
            version, pinned = self._unnoted, self._gate.pinned
            replaced, self._replaced = self._replaced, []
        del replaced
        if version is None:
            return None
        self._keep()
        if not self._store.has(version.digest):  # it is not on disk, and another one is on its way there
            return None
        self._store.activate(version.digest, pinned)
        with self._lock:
            if self._unnoted is version:
                self._unnoted = None
        return version

    def roll_back(self, run_id: str, n: int) -> None:
        """Go back to a kept version at the next boundary and accept no other until `unpin`.

        Raises:
            WeightsRefused: the version is not kept, or does not fit the contract.
            ConfigError: its file is damaged.
        """
        version = self._load(self._store.find(run_id, n))
        with self._lock:
            self._gate.pinned = True
            self.pending = version
        self._store.activate(version.digest, pinned=True)

    def unpin(self) -> None:
        """Accept new versions again."""
        with self._lock:
            self._gate.pinned = False
        self._store.unpin()

    def knows(self, offer: Offer) -> bool:
        """Whether this very pack was accepted: a latched offer comes again after a restart."""
        return any(pack.offer == offer for pack in self._store.state.packs)

    def _load(self, kept: KeptPack) -> Version:
        if not kept.offer.is_signed(self._key):
            raise WeightsRefused(Refusal.BAD_SIGNATURE, "altered on disk, or signed with another key")
        state, manifest = unpack(self._store.read(kept, self._memory_of_packs.take(kept.size_bytes)).data)
        self._gate.check_content(state, manifest, None)
        return Version(kept.run_id, kept.n, kept.digest, self._build(state, manifest))

    def _swap(self) -> None:
        if self.active is not None:
            self._replaced.append(self.active)
        self.active, self.pending = self.pending, None
        self._unnoted = self.active

    def _build(self, state: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Policy:
        """The policy of a manifest with these tensors. The manifest alone never takes memory."""
        try:
            with torch.device("meta"):
                policy = policy_from_manifest(manifest["policy"])
            for name, tensor in policy.state_dict().items():
                if name in state and state[name].dtype != tensor.dtype:
                    raise WeightsRefused(Refusal.WRONG_SHAPE, f"{name}: is {state[name].dtype}, not {tensor.dtype}")
            policy.load_state_dict(state, assign=True)
        except ConfigError as error:
            raise WeightsRefused(Refusal.BAD_MANIFEST, str(error)) from error
        except RuntimeError as error:
            raise WeightsRefused(Refusal.WRONG_SHAPE, f"the tensors do not fit the manifest ({error})") from error
        if (policy.observation_size, policy.action_size) != self._sizes:
            raise WeightsRefused(
                Refusal.WRONG_SHAPE,
                f"observation and action sizes {policy.observation_size}, {policy.action_size}: must be "
                f"{self._sizes[0]}, {self._sizes[1]}",
            )
        return policy.eval()
