"""What a run achieved: success rates with intervals, learning curves, cadence, and the report."""
