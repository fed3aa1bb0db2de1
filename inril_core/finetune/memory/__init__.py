"""What the learner keeps of episodes: replay, images, rollouts."""
