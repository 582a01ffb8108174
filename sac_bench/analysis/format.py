"""Numbers and intervals as text for readers. What is missing is an empty string."""

from __future__ import annotations

import math

import pandas as pd


def score_format(largest: float) -> str:
    """Return the format of a table's scores, given their largest absolute value: ".1f" below 100, else ".0f"."""
    return ".1f" if largest < 100 else ".0f"


def number(value: float | None, spec: str) -> str:
    """Return a number in a format such as ".1f"; "" for NaN or None."""
    return "" if value is None or pd.isna(value) else _rounded(value, spec)


def interval(value: float, low: float, high: float, *, spec: str) -> str:
    """Return "80 [55, 105]"; without the bounds if they are NaN, "" if the value is. An infinite bound is "unknown"."""
    if pd.isna(value):
        return ""
    if pd.isna(low):
        return _rounded(value, spec)
    bounds = [_rounded(bound, spec) if math.isfinite(bound) else "unknown" for bound in (low, high)]
    shown = dict.fromkeys(bounds) if bounds[0] == "unknown" else bounds
    return f"{_rounded(value, spec)} [{', '.join(shown)}]"


def _rounded(value: float, spec: str) -> str:
    """Return a number in a format such as ".1f" or "+.2f", without the sign of what is rounded to 0: "0", not "-0"."""
    sign = spec[:1] if spec[:1] in "+-" else ""
    return format(float(value), f"{sign}z{spec.removeprefix(sign)}")
