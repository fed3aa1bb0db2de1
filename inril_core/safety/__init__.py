"""What keeps the arm safe: limits on every command and the arbiter that decides who is in control."""
