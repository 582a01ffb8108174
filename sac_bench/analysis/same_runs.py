"""Whether runs that stand in two results are the very same: one id can have other numbers, on another machine say."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from sac_bench.results.load import Results

KEYS = {"evaluations": ["step", "policy"], "episodes": ["step", "policy", "episode"], "training": ["step"]}
"""What names a row of a run, in each table."""
NOT_COMPARED = ("run_id", "variant", "env", "seed", "wall_seconds")

Rows = dict[str, dict[Any, pd.DataFrame]]
"""{table: {(run id, variant): its rows}}."""


class Sameness(NamedTuple):
    """Of one variant's runs on one environment in two results."""

    same_runs: str
    """In words: "4 identical, 1 with other numbers from step 2,500 on"; "none" where no id is in both."""
    identical: bool
    """All runs of either are the same in every number."""
    deviating: int
    """Runs with one id and other numbers."""


def rows_of_runs(results: Results) -> Rows:
    """A result's rows by run."""
    tables = ((name, getattr(results, name)) for name in KEYS)
    return {name: dict(list(table.groupby(["run_id", "variant"]))) if len(table) else {} for name, table in tables}


def same_runs(a: pd.DataFrame, b: pd.DataFrame, rows_a: Rows, rows_b: Rows) -> Sameness:
    """Of the runs `a` and `b` (rows of Results.runs) of one variant and environment, with all results' rows."""
    alike, shorter, deviating = 0, [], []
    for run in a.merge(b, on=["run_id", "variant"], suffixes=("_a", "_b")).to_dict("records"):
        step = first_difference(rows_a, rows_b, (run["run_id"], run["variant"]))
        if step is not None:
            deviating.append(step)
        elif not min(run["steps_a"], run["steps_b"]):
            continue  # nothing to compare
        elif (run["steps_a"], run["status_a"]) == (run["steps_b"], run["status_b"]):
            alike += 1
        else:
            shorter.append(min(run["steps_a"], run["steps_b"]))
    said = [f"{alike} identical"] * bool(alike)
    said += [f"{len(shorter)} identical up to {min(shorter):,} steps"] if shorter else []
    said += [f"{len(deviating)} with other numbers from step {min(deviating):,} on"] if deviating else []
    return Sameness(", ".join(said) or "none", alike == len(a) == len(b), len(deviating))


def first_difference(a: Rows, b: Rows, run: tuple[str, str]) -> int | None:
    """The first step at which a run's numbers are not the same in two results, of the rows that both have."""
    steps: list[int] = []
    for name, keys in KEYS.items():
        if run in a[name] and run in b[name]:
            mine, other = (side[name][run].set_index(keys) for side in (a, b))
            rows = mine.index.intersection(other.index)
            columns = [column for column in mine if column in other and column not in NOT_COMPARED]
            mine, other = mine.loc[rows, columns], other.loc[rows, columns]
            same = (mine == other) | (mine.isna() & other.isna())
            steps += list(rows[~same.all(axis=1)].get_level_values("step"))
    return min(steps, default=None)
