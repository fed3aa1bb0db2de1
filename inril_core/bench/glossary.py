"""What the words on a page mean."""

from inril_core.bench.measures import REACHED, TRAINING_WINDOW_EPISODES
from inril_core.bench.statistics import MIN_SEEDS
from inril_core.evaluation.curve import WINDOW_EPISODES

CURVES = (
    f"Solid: evaluations, interquartile mean, with its 95 % interval from {MIN_SEEDS} seeds on; thin: single seeds; "
    "dashed: training episodes of all seeds, which explore; grey: the method that the others are compared with; "
    "dotted: the first update."
)

COLUMNS = f"""\
* *Fine-tuned*: interquartile mean over the seeds (of up to three: the mean), from {MIN_SEEDS} seeds on with its 95 %
  bootstrap interval over seeds, stratified by task (rliable). *All episodes*: successes of all seeds together with the
  95 % Wilson interval, blind to the spread between seeds.
* *Worst drop*: the first point of the learning curve (the cloned policy, before the first update) minus its lowest
  later point, in percentage points; 0: never below. The curve has starts of its own, which may be harder or easier than
  the evaluation's. The largest seed stands first. *In training episodes*, which explore: the rate before the first
  update minus the lowest of {TRAINING_WINDOW_EPISODES} consecutive episodes after it. (The report of one run takes
  {WINDOW_EPISODES}.)
* *Fall after {100 * REACHED:.0f} %*: the largest fall of the learning curve from its highest point so far, from the
  first point at {100 * REACHED:.0f} % on; –: never there.
* *Steps to*: environment steps, warm-up included, until success reaches the rate for the first time, or for good: it
  never falls below again. –: not within the run. In bold the mean (IQM), where every seed got there. Success is that of
  all training and evaluation episodes in the last W steps, with W the distance of two evaluations.
* *Failed episodes until 90 %*: training episodes after the warm-up that did not succeed, until 90 % for good; ≥: it was
  not reached, all are counted.
  Where somebody takes over in training episodes, both count policy and intervener together: look at the learning curve.
* *Updates due*: those that the environment steps called for, per seed; on-policy, minibatches of all epochs. *Actor
  steps*: those of them in which the actor was trained; on-policy without what the KL stop skipped. *Insertions*: how
  often imitation stepped in between RL updates. *IL steps*: steps of the actor on the imitation gradient alone (a joint
  step on both is none). –: not noted.
* *Against*: means over pairs of one task and seed (not IQMs). A ratio below 1 means fewer steps; a run that never got
  there counts with all its steps; *points more*, *points less drop*: above 0 is better than the baseline. Bold names
  the better one. `--compare` says why it cannot tell: fewer than {MIN_SEEDS} seeds, an interval that contains the tie,
  or a method that never got there. The intervals are not corrected for the number of comparisons.
* *Minutes*: fine-tuning with the evaluations of its curve. *updates/s*: in the learner alone, one thread; –: not noted.
"""
