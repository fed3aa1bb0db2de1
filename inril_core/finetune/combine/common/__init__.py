"""What several combine methods share: projections, joint steps, the adaptive ratio."""
