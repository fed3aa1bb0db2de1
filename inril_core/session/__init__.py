"""A session: its plan, its states, what it asks of others, and the ledger of what happened."""
