"""Trains one cohort of runs in one process."""
