"""Computes scores, statistics, verdicts and the outcomes of claims."""
