"""Episodes in the formats that others read: written, and read into a run. Policies of others in a contract's terms."""
