"""May these weights go on? The answer of a report, for scripts and continuous integration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inril_core.errors import ConfigError
from inril_core.evaluation.session.analysis import CLAIMS, SCHEMA_VERSION
from inril_core.evaluation.statistics.comparison import Verdict

MAX_BYTES = 64 << 20


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
    if content["blind"]:
        raise ConfigError(f"{path}: is blind; `inril evaluate unseal` the session and write its report again")
    found = [c for c in content["comparisons"] if c["control"] == control and policy in ("", c["policy"])]
    if len(found) != 1:
        known = ", ".join(f"{c['policy']} against {c['control']}" for c in content["comparisons"]) or "nothing"
        which = f"{policy or 'one policy'} with {control}"
        raise ConfigError(f"{path}: does not compare {which}; it compares {known}. Name the policy with --policy")
    compared = found[0]
    verdict = Verdict(compared["verdict"])
    low, high = (100 * bound for bound in compared["difference_interval"])
    text = (
        f"{compared['policy']} against {control}: {verdict} ({100 * compared['difference']:+.1f} points, "
        f"[{low:+.1f}, {high:+.1f}], p = {compared['p_value']:.3g}"
        + ("" if content["finished"] else "; the session is not finished")
        + ")"
    )
    if not content["finished"] and not content["sequential"]:
        return CLAIMS[Verdict.CANNOT_TELL], f"{text}: a fixed number of trials is not to be judged before its end"
    if any(
        "NOT PROVEN" in p["weights_proof"] for p in content["policies"] if p["name"] in (compared["policy"], control)
    ):
        raise ConfigError(f"{path}: other weights acted than were planned; run those trials again")
    return CLAIMS[verdict], text


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MB; this is no report")
        content: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; write it with `inril evaluate report`") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no report ({error}); write it with `inril evaluate report`") from error
    try:
        if content["kind"] != "inril evaluation report" or content["schema_version"] != SCHEMA_VERSION:
            raise ConfigError(f"{path}: is no report of this version; write it again with `inril evaluate report`")
        for name, kind in (("blind", bool), ("finished", bool), ("sequential", bool)):
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} = {content[name]!r:.40}")
        for compared in content["comparisons"]:
            Verdict(compared["verdict"])
            low, high = (float(bound) for bound in compared["difference_interval"])
            values = (compared["difference"], compared["p_value"], low, high)
            if not all(-1.0 <= float(value) <= 1.0 for value in values):
                raise ValueError(f"difference, interval or p_value out of range: {values}")
            if not all(isinstance(compared[name], str) for name in ("policy", "control")):
                raise TypeError("policy and control must be names")
        for summary in content["policies"]:
            if not all(isinstance(summary[name], str) for name in ("name", "weights_proof")):
                raise TypeError("policies must have name and weights_proof")
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: is damaged ({type(error).__name__}: {error}); write it again") from error
    found: dict[str, Any] = content
    return found
