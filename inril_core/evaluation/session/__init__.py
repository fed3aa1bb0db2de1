"""An evaluation session: a locked plan with blind codes, trials that are never lost or repeated, report and gate."""
