"""Plays trained policies: robustness measures, videos, and the random policy."""
