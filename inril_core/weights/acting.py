"""The policy that acts, the one that waits for its boundary, and the way from an offer to an action.

Importing this module imports torch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.policies import Memory, Policy, exploration_rng, policy_from_manifest
from inril_core.weights.gate import Gate, Offer
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import pack, unpack
from inril_core.weights.store import KeptPack, WeightStore

Array = NDArray[np.float32]

TRIAL_OBSERVATIONS_N = 256
TRIAL_NUMBERS = 1 << 19  # in all of them: with images there are fewer, or the trial would cost ticks


@dataclass
class Version:
    """A policy that passed the gate.

    sha256: hex, of its pack. published_ns: by the learner's wall clock; None if it was not pushed.
    """

    run_id: str
    n: int
    sha256: str
    policy: Policy
    published_ns: int | None = None


@dataclass(frozen=True)
class Answer:
    """The policy's action for one observation, with the version that made it.

    action: float32[A] in [-1, 1]; raw: before squashing; log_prob: of the action under the policy. aux, chunk_index:
    see `Decision`. chunk_id: counts the plans made.
    """

    run_id: str
    n: int
    action: Array
    raw: Array
    log_prob: float
    aux: Array
    chunk_id: int
    chunk_index: int


class ActingPolicy:
    """Answers observations, and changes weights only as a whole and only at a boundary.

    swap_at: `episode` (before step 0) or `chunk` (before the next plan: a Gaussian policy's is one step).
    What is accepted is on disk before it is pending, so a restart goes on from there.
    """

    def __init__(
        self,
        contract: Contract,
        gate: Gate,
        store: WeightStore,
        key: bytes,
        swap_at: Literal["episode", "chunk"] = "episode",
    ) -> None:
        self._sizes = (contract.observation_size, contract.action.size)
        self._gate = gate
        self._store = store
        self._key = key
        self._swap_at = swap_at
        rows = min(TRIAL_OBSERVATIONS_N, max(8, TRIAL_NUMBERS // contract.observation_size))
        self._recent: deque[Array] = deque(maxlen=rows)
        self._has_swapped = False
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
        data = pack(policy.state_dict(), manifest, self._key)
        kept = self._store.add(data, self._gate.run_id, n)
        self._store.activate(kept.sha256, self._gate.pinned)
        self._gate.accept(Offer(kept.run_id, kept.n, len(data), bytes.fromhex(kept.sha256)))
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

    def take(self, data: bytes, offer: Offer, published_ns: int | None) -> None:
        """Check a pack, try it beside the active policy, keep it, and let it wait for the boundary.

        Raises:
            WeightsRefused: it may not act; counted, and the active policy is untouched.
        """
        try:
            active = self.active
            shapes = None if active is None else {k: tuple(v.shape) for k, v in active.policy.state_dict().items()}
            state, manifest = self._gate.open_pack(data, offer, shapes)
            policy = self._build(state, manifest)
            self._keep_trial()
            self._try_out(policy)
        except WeightsRefused as error:
            self.note_refusal(offer.n, error)
            raise
        try:
            kept = self._store.add(data, offer.run_id, offer.n)
        except OSError as error:
            refusal = WeightsRefused(Refusal.NOT_KEPT, f"cannot be written to disk ({error}); free some space")
            self.note_refusal(offer.n, refusal)
            raise refusal from error
        self._gate.accept(offer)
        self.accepted += 1
        self.pending = Version(offer.run_id, offer.n, kept.sha256, policy, published_ns)
        if self.active is None:
            self._swap()

    def note_refusal(self, n: int, error: WeightsRefused) -> None:
        """Count a refusal, also one that happened outside, such as a failed pull."""
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
        if self.pending is not None and (step == 0 or (self._swap_at == "chunk" and not self._memory.queue)):
            self._swap()
            self._memory.clear()
        active = self.active
        if active is None:
            return None
        rng = exploration_rng(seed, step)
        made = active.policy.act(observation, explore, rng, self._memory)
        self._plans += made.chunk_index == 0
        self._recent.append(observation)
        return Answer(
            active.run_id, active.n, made.action, made.raw, made.log_prob, made.aux, self._plans - 1, made.chunk_index
        )

    def after_answer(self, now_ns: int) -> bool:
        """Call when an answer is out: the first of a version notes how long it took, and which pack acts.

        Returns True for that first answer. `now_ns`: wall clock.
        """
        if not self._has_swapped or self.active is None:
            return False
        self._store.activate(self.active.sha256, self._gate.pinned)
        self._has_swapped = False
        if self.active.published_ns is not None:
            self.push_to_acting_ms = (now_ns - self.active.published_ns) / 1e6
        return True

    def roll_back(self, run_id: str, n: int) -> None:
        """Go back to a kept version at the next boundary and accept no other until `unpin`.

        Raises:
            WeightsRefused: the version is not kept, or does not fit the contract.
            ConfigError: its file is damaged.
        """
        version = self._load(self._store.find(run_id, n))
        self._gate.pinned = True
        self._store.activate(version.sha256, pinned=True)
        self.pending = version

    def unpin(self) -> None:
        """Accept new versions again."""
        self._gate.pinned = False
        self._store.unpin()

    def knows(self, offer: Offer) -> bool:
        """Whether this very pack was accepted: a latched offer comes again after a restart."""
        kept = (pack for pack in self._store.state.packs if pack.sha256 == offer.sha256.hex())
        return any((pack.run_id, pack.n) == (offer.run_id, offer.n) for pack in kept)

    def _load(self, kept: KeptPack) -> Version:
        state, manifest = unpack(self._store.read(kept), self._key)
        self._gate.check_content(state, manifest, None)
        return Version(kept.run_id, kept.n, kept.sha256, self._build(state, manifest))

    def _swap(self) -> None:
        self.active, self.pending = self.pending, None
        self._has_swapped = True

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

    def _keep_trial(self) -> None:
        try:
            if self._recent:
                self._store.keep_trial(np.array(self._recent, dtype=np.float32))
        except OSError as error:
            raise WeightsRefused(Refusal.NOT_KEPT, f"the disk cannot be written ({error}); free some space") from error

    def _try_out(self, policy: Policy) -> None:
        """The trial on recent observations, before anything moves by it."""
        recent = np.array(self._recent, dtype=np.float32).reshape(-1, policy.observation_size)
        active = None if self.active is None else self.active.policy.trial(recent)
        self._gate.check_actions(policy.trial(recent), active)
