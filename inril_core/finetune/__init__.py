"""Fine-tuning: RL, IL and reward parts that combine. Importing its modules imports torch; this file does not."""

DEFAULT_PRESET = "weighted_sum"
"""What fine-tuning runs unless told otherwise; docs/results.md shows why this one."""
