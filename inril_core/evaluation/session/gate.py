"""May these weights go on? The answer of a report, for scripts and continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.evaluation.session.analysis import CLAIMS, UNPROVEN
from inril_core.evaluation.statistics.comparison import Verdict

MAX_BYTES = 64 << 20
_WRITE_AGAIN = "write it again with `inril evaluate report`"
_Difference = Annotated[float, Field(ge=-1.0, le=1.0)]


class _Part(BaseModel):
    """What the gate reads of a report; nothing is converted, and there is more in it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Compared(_Part):
    policy: str
    control: str
    difference: _Difference
    difference_interval: tuple[_Difference, _Difference]
    p_value: Annotated[float, Field(ge=0.0, le=1.0)]
    verdict: Verdict


class _Policy(_Part):
    name: str
    weights_proof: str


class _Report(_Part):
    kind: Literal["inril evaluation report"]
    schema_version: Literal[1]
    blind: bool
    finished: bool
    sequential: bool
    deviations: tuple[object, ...]
    policies: tuple[_Policy, ...]
    comparisons: tuple[_Compared, ...]


def decide(report: Path, control: str, policy: str = "") -> tuple[int, str]:
    """Exit code (0 better, 1 not better, 2 cannot tell) and a sentence.

    Args:
        report: ``report.json``, or the session's folder that holds it.
        control: name of the policy that must be beaten.
        policy: which one must be better; empty: the only other one.

    Raises:
        ConfigError: the report cannot be read, is blind, or does not compare these two.
    """
    path = report / "report.json" if report.is_dir() else report
    content = _read(path)
    if content.blind:
        raise ConfigError(f"{path}: is blind; `inril evaluate unseal` the session and write its report again")
    found = [c for c in content.comparisons if c.control == control and policy in ("", c.policy)]
    if len(found) != 1:
        known = ", ".join(f"{c.policy} against {c.control}" for c in content.comparisons) or "nothing"
        which = f"{policy or 'one policy'} with {control}"
        raise ConfigError(f"{path}: does not compare {which}; it compares {known}. Name the policy with --policy")
    compared = found[0]
    low, high = (100 * bound for bound in compared.difference_interval)
    text = (
        f"{compared.policy} against {control}: {compared.verdict} ({100 * compared.difference:+.1f} points, "
        f"[{low:+.1f}, {high:+.1f}], p = {compared.p_value:.3g}"
        + ("" if content.finished else "; the session is not finished")
        + (
            f"; deviations from the plan, which the report names: {len(content.deviations)}"
            if content.deviations
            else ""
        )
        + ")"
    )
    if not content.finished and not content.sequential:
        return CLAIMS[Verdict.CANNOT_TELL], f"{text}: a fixed number of trials is not to be judged before its end"
    if any(UNPROVEN in p.weights_proof for p in content.policies if p.name in (compared.policy, control)):
        raise ConfigError(f"{path}: other weights acted than were planned; run those trials again")
    return CLAIMS[compared.verdict], text


def _read(path: Path) -> _Report:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MB; this is no report")
        report = _Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; write it with `inril evaluate report`") from error
    except ValidationError as error:
        first = describe(error).splitlines()[0].strip(" :")
        raise ConfigError(f"{path}: is no report, or a damaged one ({first}); {_WRITE_AGAIN}") from error
    return report
