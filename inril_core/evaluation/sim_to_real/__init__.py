"""How far a simulated cell can be trusted: physics fitted to recordings, and verdicts compared with reality's."""
