"""Check whether runs that are in two results are identical. One id can have different numbers on different machines."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from sac_bench.results.load import Results

KEYS = {"evaluations": ["step", "policy"], "episodes": ["step", "policy", "episode"], "training": ["step"]}
"""The columns that identify a row of a run in each table."""
NOT_COMPARED = ("run_id", "variant", "env", "seed", "wall_seconds", "updates", "flops")
"""Labels, the clock, and what follows from a run's settings, which results of earlier versions lack."""

Rows = dict[str, dict[Any, pd.DataFrame]]
"""{table: {(run id, variant): its rows}}."""


class Sameness(NamedTuple):
    """How one variant's runs in one environment agree in two results."""

    same_runs: str
    """For example "4 identical, 1 with different numbers from step 2,500 on"; "none" if no id is in both."""
    identical: bool
    """Whether all runs of both are the same in every number."""
    deviating: int
    """The number of runs with the same id but different numbers."""


def rows_of_runs(results: Results) -> Rows:
    """Return a result's rows by run."""
    tables = ((name, getattr(results, name)) for name in KEYS)
    return {name: dict(list(table.groupby(["run_id", "variant"]))) if len(table) else {} for name, table in tables}


def same_runs(a: pd.DataFrame, b: pd.DataFrame, rows_a: Rows, rows_b: Rows) -> Sameness:
    """Compare the runs `a` and `b` (rows of Results.runs) of one variant and environment, given all rows of both."""
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
    counts = [f"{alike} identical"] * bool(alike)
    counts += [f"{len(shorter)} identical up to {min(shorter):,} steps"] if shorter else []
    counts += [f"{len(deviating)} with different numbers from step {min(deviating):,} on"] if deviating else []
    return Sameness(", ".join(counts) or "none", alike == len(a) == len(b), len(deviating))


def first_difference(a: Rows, b: Rows, run: tuple[str, str]) -> int | None:
    """Return the first step at which a run's numbers differ between two results, in the rows that both have."""
    steps: list[int] = []
    for name, keys in KEYS.items():
        if run in a[name] and run in b[name]:
            in_a, in_b = (side[name][run].set_index(keys) for side in (a, b))
            rows = in_a.index.intersection(in_b.index)
            columns = [column for column in in_a if column in in_b and column not in NOT_COMPARED]
            in_a, in_b = in_a.loc[rows, columns], in_b.loc[rows, columns]
            same = (in_a == in_b) | (in_a.isna() & in_b.isna())
            steps += list(rows[~same.all(axis=1)].get_level_values("step"))
    return min(steps, default=None)
