"""A person drives the arm through the training loop before a policy does: measured, judged, stored, asked for."""
