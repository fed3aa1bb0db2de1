"""From trials to numbers: rates with both intervals, comparisons on shared starts, failures, and what was proven."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from inril_core.contract import Contract, contract_from_text
from inril_core.errors import ConfigError, InrilError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.outcomes import Trace, TrialOutcome, finished, pairs_with
from inril_core.evaluation.statistics.comparison import Comparison, Pairs, Verdict, compare_paired
from inril_core.evaluation.statistics.proportions import Interval, clopper_pearson, wilson
from inril_core.evaluation.statistics.sequential import compare_sequentially

SCHEMA_VERSION = 1
UNPROVEN = "NOT PROVEN"
"""In what shows which weights acted: others did, or may have."""


@dataclass(frozen=True)
class PolicySummary:
    """What one policy did."""

    name: str
    """The code while the session is blind."""
    code: str
    control: bool | None
    """None while the session is blind."""
    trials: int
    successes: int
    rate: float
    clopper_pearson: Interval
    wilson: Interval
    by_level: dict[str, tuple[int, int]]
    """Successes and trials."""
    progress: float | None
    """Mean over the trials, where each is known: 1 for a success."""
    time_to_success_s: tuple[float, float] | None
    """Median and 95th percentile over the successes."""
    successes_per_10_min: float
    """Of the time in which trials ran; resets are left out."""
    steps: int
    helped: int
    """Trials in which a person took control."""
    helped_per_hour: float
    safety_stops: int
    late_ticks: int
    labels_agree: int
    """Trials in which operator and task say the same."""
    labels_differ: int
    failures: dict[str, dict[str, int]]
    """Tag to phase to trials."""
    weights_sha256: str | None
    weights_proof: str
    """What shows that these weights acted."""


@dataclass(frozen=True)
class PolicyComparison:
    """A policy against the control on the starts that both ran."""

    policy: str
    control: str
    pairs: Pairs
    confidence: float
    comparison: Comparison
    by_level: dict[str, Pairs]


@dataclass(frozen=True)
class Analysis:
    """A session in numbers."""

    blind: bool
    finished: bool
    summaries: tuple[PolicySummary, ...]
    comparisons: tuple[PolicyComparison, ...]
    """Empty while the session is blind."""
    interrupted: int
    """Attempts that did not count and were done again."""


def analyse(folder: SessionFolder, outcomes: Sequence[TrialOutcome]) -> Analysis:
    """Everything that is reported; blind as long as nobody has unsealed."""
    plan, sealed = folder.plan, folder.sealed
    blind = folder.unsealed is None
    names = {code: f"policy {code}" if blind else sealed.subjects[code].name for code in plan.codes}
    ran = [code for code in plan.codes if any(o.trial.code == code for o in outcomes)]
    proofs = _proofs(folder, ran, outcomes, blind)
    summaries = [_summary(folder, code, names[code], blind, proofs[code], outcomes) for code in ran]
    if not blind:  # the control first, then as named
        summaries.sort(key=lambda s: (not s.control, s.name))
    comparisons = _comparisons(folder, names, outcomes, blind)
    return Analysis(blind, finished(folder), tuple(summaries), comparisons, len(folder.interrupted()))


def _comparisons(
    folder: SessionFolder, names: dict[str, str], outcomes: Sequence[TrialOutcome], blind: bool
) -> tuple[PolicyComparison, ...]:
    plan, control = folder.plan, folder.sealed.control
    found = []
    for code in () if blind else plan.codes:
        paired = pairs_with(outcomes, code, control)
        if code == control or not paired:
            continue
        confidence = plan.comparison_confidence
        if plan.sequential:
            compared = compare_sequentially(paired, confidence, plan.question.difference).comparison()
        else:
            compared = compare_paired(_count(paired), confidence, plan.question.difference)
        levels = {
            level.name: pairs_with([o for o in outcomes if o.trial.level == level.name], code, control)
            for level in plan.levels
        }
        by_level: dict[str, Pairs] = {name: _count(pairs) for name, pairs in levels.items() if pairs}
        found.append(PolicyComparison(names[code], names[control], _count(paired), confidence, compared, by_level))
    return tuple(sorted(found, key=lambda c: c.policy))


def _count(paired: Sequence[tuple[bool, bool]]) -> Pairs:
    wins = sum(policy and not control for policy, control in paired)
    losses = sum(control and not policy for policy, control in paired)
    return Pairs(wins, losses, len(paired) - wins - losses)


def _summary(
    folder: SessionFolder, code: str, name: str, blind: bool, proof: str, outcomes: Sequence[TrialOutcome]
) -> PolicySummary:
    own, contract = [o for o in outcomes if o.trial.code == code], contract_of(folder)
    won = [o for o in own if o.success]
    times_s = [_time_s(contract, o) for o in won]
    ran_s = sum(_time_s(contract, o) for o in own)
    told = [o for o in own if o.label is not None and o.automatic is not None]
    agree = sum(o.label is not None and o.label.success == o.automatic for o in told)
    length = episode_length_steps(contract, own)
    failures: dict[str, Counter[str]] = {}
    for outcome in own:
        if not outcome.success:
            failures.setdefault(outcome.tag, Counter())[outcome.phase(length)] += 1
    levels: dict[str, tuple[int, int]] = {
        level: (sum(o.success for o in own if o.trial.level == level), sum(o.trial.level == level for o in own))
        for level in dict.fromkeys(o.trial.level for o in own)
    }
    percentiles = None if not times_s else (float(np.median(times_s)), float(np.percentile(times_s, 95)))
    came = [o.progress for o in own]
    subject = folder.sealed.subjects[code]
    counts = (len(won), len(own))
    return PolicySummary(
        name=name,
        code=code,
        control=None if blind else code == folder.sealed.control,
        trials=len(own),
        successes=len(won),
        rate=len(won) / len(own),
        clopper_pearson=clopper_pearson(*counts, folder.plan.confidence),
        wilson=wilson(*counts, folder.plan.confidence),
        by_level=levels,
        progress=None if None in came or not came else float(np.mean([p for p in came if p is not None])),
        time_to_success_s=percentiles,
        successes_per_10_min=600.0 * len(won) / ran_s if ran_s > 0 else 0.0,
        steps=sum(o.result.steps for o in own),
        helped=sum(o.helped for o in own),
        helped_per_hour=3600.0 * sum(o.helped for o in own) / ran_s if ran_s > 0 else 0.0,
        safety_stops=sum(o.safety_stop for o in own),
        late_ticks=sum(o.result.late_ticks for o in own),
        labels_agree=agree,
        labels_differ=len(told) - agree,
        failures={tag: dict(phases) for tag, phases in sorted(failures.items())},
        weights_sha256=None if blind else subject.weights_sha256,
        weights_proof=proof,
    )


def _proofs(
    folder: SessionFolder, codes: Sequence[str], outcomes: Sequence[TrialOutcome], blind: bool
) -> dict[str, str]:
    """By code; while the session is blind the same text for all, because an expert's is another one than of weights."""
    found = {code: _proof(folder, code, [o for o in outcomes if o.trial.code == code]) for code in codes}
    wrong = any(UNPROVEN in text for text in found.values())
    text = f"{UNPROVEN} for one policy or more; which one is said after unsealing" if wrong else "said after unsealing"
    return dict.fromkeys(found, text) if blind else found


def _proof(folder: SessionFolder, code: str, own: Sequence[TrialOutcome]) -> str:
    """Each step of a recording names the version that answered; in one process the digest is checked before a trial."""
    if folder.sealed.subjects[code].kind == "expert":
        return "no weights: the scripted expert"
    n = folder.plan.version_n(code)
    wrong = [o.number for o in own if o.result.version_n != n]
    recorded = [o for o in own if isinstance(o.trace, Trace) and o.trace.versions]
    wrong += [o.number for o in recorded if isinstance(o.trace, Trace) and o.trace.versions != {n}]
    if wrong:
        return f"{UNPROVEN}: trials {sorted(set(wrong))[:10]} were answered by other weights"
    if recorded:
        return f"every step of {len(recorded)} recordings of {len(own)} trials names them; {kept_digest(folder, n)}"
    return "their digest was checked before each trial"


def kept_digest(folder: SessionFolder, n: int) -> str:
    """Whether the pack that the policy node kept as version n holds the plan's weights."""
    from inril_core.files import parse_line
    from inril_core.policies import policy_from_manifest
    from inril_core.policies.files import policy_sha256
    from inril_core.run import default_key_path
    from inril_core.weights import load_or_create_key
    from inril_core.weights.store import STATE_NAME, StoreState, read_kept

    weights = folder.paths.weights
    try:
        kept = next(p for p in parse_line((weights / STATE_NAME).read_bytes(), StoreState).packs if p.n == n)
        state, manifest = read_kept(weights / kept.file_name, kept, load_or_create_key(default_key_path()))
        policy = policy_from_manifest(manifest["policy"])
        policy.load_state_dict(state)
    except (OSError, ValueError, StopIteration, RuntimeError, InrilError) as error:
        return f"the kept pack cannot be read ({error or type(error).__name__})"
    if policy_sha256(policy) != folder.sealed.subjects[folder.plan.codes[n]].weights_sha256:
        return f"{UNPROVEN}: the kept pack holds other weights"
    return "the kept pack has their digest"


def contract_of(folder: SessionFolder) -> Contract | None:
    """The contract of a session's task; None where the task has none."""
    try:
        return contract_from_text(folder.plan.contract_text)
    except ConfigError:
        return None


def _time_s(contract: Contract | None, outcome: TrialOutcome) -> float:
    """How long a trial takes at the control rate; a lockstep simulation runs at the machine's own pace."""
    result = outcome.result
    return result.duration_s if contract is None else result.steps / contract.control_rate_hz


def episode_length_steps(contract: Contract | None, outcomes: Sequence[TrialOutcome]) -> int:
    """Steps that an episode has; without a contract, the longest one that ran."""
    return max((o.result.steps for o in outcomes), default=1) if contract is None else contract.episode_length_steps


def as_json(folder: SessionFolder, analysis: Analysis) -> dict[str, Any]:
    """`report.json`: what `inril evaluate gate` reads."""
    plan = folder.plan
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "inril evaluation report",
        "session_id": plan.session_id,
        "task": plan.task,
        "plan_sha256": plan.digest,
        "blind": analysis.blind,
        "finished": analysis.finished,
        "trials_planned": len(plan.trials),
        "trials_done": len(folder.done),
        "trials_interrupted": analysis.interrupted,
        "confidence": plan.confidence,
        "sequential": plan.sequential,
        "question": plan.question.model_dump(),
        "deviations": [asdict(deviation) for deviation in folder.deviations],
        "policies": [asdict(summary) for summary in analysis.summaries],
        "comparisons": [_comparison_json(compared) for compared in analysis.comparisons],
    }


def _comparison_json(compared: PolicyComparison) -> dict[str, Any]:
    return {
        "policy": compared.policy,
        "control": compared.control,
        "pairs": asdict(compared.pairs),
        "confidence": compared.confidence,
        "difference": compared.comparison.difference,
        "difference_interval": list(compared.comparison.interval),
        "p_value": compared.comparison.p_value,
        "verdict": str(compared.comparison.verdict),
        "method": compared.comparison.method,
        "by_level": {name: asdict(pairs) for name, pairs in compared.by_level.items()},
    }


CLAIMS = {Verdict.BETTER: 0, Verdict.WORSE: 1, Verdict.NO_RELEVANT_GAIN: 1, Verdict.CANNOT_TELL: 2}
"""Exit codes of the gate."""
