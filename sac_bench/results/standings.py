"""The states of an experiment's runs, in words."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd


def in_words(statuses: Iterable[str], exploded: int) -> str:
    """Return how many runs have which status, and how many exploded: "4 finished, 1 diverged; 2 exploded"."""
    counts = pd.Series(list(statuses), dtype=object).value_counts()
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{words}; {exploded} exploded" if exploded else words


def of_runs(runs: pd.DataFrame) -> str:
    """Return the same of rows as in Results.runs; variants may share a run."""
    distinct = runs.drop_duplicates("run_id")
    return in_words(distinct["status"], int(distinct["exploded"].notna().sum()))
