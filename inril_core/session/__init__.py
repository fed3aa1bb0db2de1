"""What a session consists of: its plan, and the ledger of what happened."""
