"""Passes over all recordings of a corpus within one job: where they run, and in which order results come."""
