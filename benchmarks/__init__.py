"""Paired measurements: each prints its figure, its comparator's from the same run, and the goal."""
