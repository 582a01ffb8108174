"""Draws the figures of reports and papers."""
