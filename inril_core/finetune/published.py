"""What the learner was when it published its newest versions, so that it can go back to the one that acts."""

from torch import Tensor

from inril_core.finetune.parts import Parts

KEPT_N = 8
"""Versions that are kept; the policy node keeps as many packs to roll back to."""


class PublishedStates:
    """Policy and optimizers at the newest publications, on the learner's device."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._states: dict[int, dict[str, Tensor]] = {}

    def keep(self, version: int) -> None:
        """Note what the policy is now, under its number."""
        self._states.pop(version, None)
        self._states[version] = snapshot(self._parts)
        while len(self._states) > KEPT_N:
            del self._states[next(iter(self._states))]

    def restore(self, version: int) -> bool:
        """Make policy and optimizers what they were; False where the version is not kept."""
        state = self._states.get(version)
        if state is None:
            return False
        go_back(self._parts, state)
        return True

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        return {f"{n}/{name}": tensor for n, state in self._states.items() for name, tensor in state.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._states = {}
        for key, tensor in state.items():
            number, name = key.split("/", 1)
            self._states.setdefault(int(number), {})[name] = tensor
        self._states = dict(sorted(self._states.items()))


def snapshot(parts: Parts) -> dict[str, Tensor]:
    """Copies of policy and optimizers as they are now."""
    state = {f"policy/{name}": t.detach().clone() for name, t in parts.policy.state_dict().items()}
    return state | {f"combine/{name}": t.detach().clone() for name, t in parts.combine.state().items()}


def go_back(parts: Parts, state: dict[str, Tensor]) -> None:
    """Make policy and optimizers what they were at a `snapshot`; critics keep what they have learned."""
    parts.policy.load_state_dict(policy_of(state))
    parts.combine.load({name: t.clone() for name, t in _under(state, "combine/").items()})


def policy_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The policy's tensors of a `snapshot`."""
    return _under(state, "policy/")


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
