"""Readers of results that other programs wrote: one module per format, all with one type (runs.py)."""
