"""What becomes of published weights: heard from the policy, and acted on.

The policy may refuse a version (`inril_core.weights.gate`), or a person may roll back to an earlier one. Off-policy
learning goes on all the same: it learns from steps of every version, a later version is pushed when it is due, and the
refusal is reported. On-policy learning goes on from the version that acts, because steps of that version are of no use
to any other.
"""

from dataclasses import dataclass

from inril_core.finetune.learner import Learner


@dataclass(frozen=True)
class PolicyReport:
    """What a policy node says of its weights; -1: none."""

    run_id: str
    """Of the version that acts."""
    active_n: int
    pending_n: int
    """Accepted, acts from the next boundary on."""
    highest_n: int
    """Highest version ever accepted in this run."""
    last_rejected_n: int
    last_rejection: str
    """Why, beginning with the name of the reason."""


class WeightsLoop:
    """Follows the versions that a learner pushed until it is known whether they act.

    Args:
        learner: goes on from the version that acts, where it has to.
        run_id: of the versions that it pushes.
    """

    def __init__(self, learner: Learner, run_id: str) -> None:
        self._learner, self._run_id = learner, run_id
        self._pushed_n: int | None = None
        self._judged = True
        self.refused: list[int] = []
        """Versions of this process that were refused, in order."""
        self.problem = ""
        """Why the newest version does not act, and what to do; empty if all is well."""

    def pushed(self, n: int) -> None:
        """Version ``n`` was published."""
        self._pushed_n, self._judged = n, False

    def heard(self, report: PolicyReport) -> str:
        """Take in what the policy says; returns what changed, for the log, or nothing."""
        ours = report.run_id == self._run_id
        news = self._judge(report, ours)
        knows_all = self._judged and (self._pushed_n is not None or not self._learner.actor_updates)
        acting = report.pending_n if report.pending_n >= 0 else report.active_n
        if not (self._learner.on_policy and knows_all and ours) or acting in (-1, self._learner.version):
            return news
        if self._learner.go_on_from(acting):
            return f"{news}; " * bool(news) + f"learning goes on from version {acting}, which acts"
        before = self.problem
        self.problem = (
            f"version {acting} acts, which this learner does not have: on-policy learning cannot use its steps; roll "
            f"back to version {self._learner.version}, or begin a new run"
        )
        return self.problem if self.problem != before else ""

    def _judge(self, report: PolicyReport, ours: bool) -> str:
        n = self._pushed_n
        if self._judged or n is None:
            return ""
        if ours and report.highest_n >= n:
            self._judged, self.problem = True, ""
        elif report.last_rejected_n == n:
            self._judged = True
            self.refused.append(n)
            self.problem = f"version {n} was refused: {report.last_rejection}"
            return self.problem
        return ""
