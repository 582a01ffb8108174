"""Numbers and intervals as text for readers. What is missing is an empty string."""

from __future__ import annotations

import pandas as pd


def score_format(largest: float) -> str:
    """Return the format of a table's scores, given their largest absolute value: ".1f" below 100, else ".0f"."""
    return ".1f" if largest < 100 else ".0f"


def number(value: float | None, spec: str) -> str:
    """Return a number in a format such as ".1f"; "" for NaN or None."""
    return "" if value is None or pd.isna(value) else format(value, spec)


def interval(value: float, low: float, high: float, *, spec: str) -> str:
    """Return "80 [55, 105]"; without the bounds if they are NaN, "" if the value is."""
    if pd.isna(value):
        return ""
    return format(value, spec) + ("" if pd.isna(low) else f" [{low:{spec}}, {high:{spec}}]")
