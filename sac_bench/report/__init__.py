"""Writes tables, figures, reports, comparisons and the index."""
