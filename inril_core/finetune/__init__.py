"""Fine-tuning: RL, IL and reward parts that combine. Importing its modules imports torch; this file does not."""
