"""CSV files with a row per run and step: authors' files in the style of SimbaV2, and tidy files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, csv_table, files_in

AUTHORS = {"exp_name": "variant", "env_name": "env", "seed": "seed", "env_step": "step", "value": "return"}
"""{column of an author's file: what it is}."""
RETURNS = ("avg_return", "episode_return", "return")
"""Values of the column `metric` that are returns."""
TIDY = ("env", "seed", "step", "return")
COLUMNS = ["variant", "env", "seed", "step", "return"]


def read_authors(path: Path) -> ForeignResult:
    """Read CSV files with the columns exp_name, env_name, seed, metric, env_step and value."""
    return _read(path, _authors)


def read_tidy(path: Path) -> ForeignResult:
    """Read CSV files with the columns env, variant or algorithm, seed, step and return."""
    return _read(path, _tidy)


def _read(path: Path, table_of: Callable[[Path], pd.DataFrame]) -> ForeignResult:
    runs = []
    for file in files_in(path, "*.csv", "CSV files"):
        for (variant, env, seed), rows in _whole(table_of(file), file).groupby(COLUMNS[:3], sort=False):
            returns = rows[["step", "return"]].reset_index(drop=True)
            runs.append(ForeignRun(file, returns, str(variant), str(env), int(str(seed))))
    return ForeignResult(runs, False)


def _authors(file: Path) -> pd.DataFrame:
    table = csv_table(file, (*AUTHORS, "metric"))
    kept = table[table["metric"].isin(RETURNS)]
    if not len(kept):
        has = ", ".join(sorted(map(str, table["metric"].unique())))
        raise InputError(f"{file}: metric: has no returns ({', '.join(RETURNS)}), only {has}")
    return kept.rename(columns=AUTHORS)[COLUMNS]


def _tidy(file: Path) -> pd.DataFrame:
    table = csv_table(file, TIDY)
    if "variant" not in table and "algorithm" not in table:
        raise InputError(f"{file}: column 'variant' is missing (or 'algorithm')")
    return table.rename(columns={} if "variant" in table else {"algorithm": "variant"})[COLUMNS]


def _whole(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return a table whose seeds and steps are whole numbers. Raises InputError for others, and for missing values."""
    for name in ("seed", "step", "return"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = numbers.isna() if name == "return" else numbers.isna() | (numbers % 1 != 0)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(f"{file}: {name}: {table[name].iloc[row]} in data row {row + 1} is not a valid number")
        table = table.assign(**{name: numbers if name == "return" else numbers.astype("int64")})
    return table
