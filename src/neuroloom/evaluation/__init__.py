"""Evaluation that nobody can fool: splits, contamination, probes, baselines, statistics. Pure functions on arrays."""
