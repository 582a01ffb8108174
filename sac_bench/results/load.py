"""Read an experiment's results back as DataFrames. Imports no torch, so notebooks start quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError, nearest
from sac_bench.results.manifest import FILE, Manifest, load_manifest
from sac_bench.results.schema import OPTIONAL_TABLES, TABLES, columns
from sac_bench.results.standings import of_runs
from sac_bench.store import locks
from sac_bench.store.atomic import check
from sac_bench.store.status import UNENDED

Ended = Mapping[tuple[str, str], frozenset[int]]
"""{(environment, variant): the seeds of its runs that have ended}."""


@dataclass(frozen=True, eq=False)
class Results:
    """One experiment: its manifest and its tables (results/schema.py). Every table has run_id, variant, env, seed."""

    manifest: Manifest
    runs: pd.DataFrame
    evaluations: pd.DataFrame
    episodes: pd.DataFrame
    training: pd.DataFrame
    robustness: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __repr__(self) -> str:
        """Return what there is in a line; the tables have thousands of rows."""
        rows = ", ".join(f"{name} {len(own)}" for name in TABLES if len(own := getattr(self, name)))
        return f"Results of {self.manifest.name}: {of_runs(self.runs) or 'no runs'} (rows: {rows or 'none'})"

    def first_seeds(self, count: int | None) -> Results:
        """Return the results of the first `count` seeds of the experiment; None: of all."""
        if count is None:
            return self
        kept = self.manifest.seeds[:count]
        tables = {name: getattr(self, name) for name in TABLES}
        return replace(self, **{name: rows[rows["seed"].isin(kept)] for name, rows in tables.items() if len(rows)})


def ended(runs: pd.DataFrame) -> Ended:
    """Return the seeds of the runs that have ended, given a row per run with env, variant, seed and status."""
    rows = runs[~runs["status"].isin(UNENDED)]
    return {
        (str(env), str(variant)): frozenset(own["seed"]) for (env, variant), own in rows.groupby(["env", "variant"])
    }


def have_ended(of_cell: Ended, seeds: Sequence[int], counts: Mapping[tuple[str, str], int]) -> bool:
    """Return whether all runs with the first n of `seeds` have ended, given {(environment, variant): n}.

    Runs that are not listed have not ended.
    """
    return all(n <= len(seeds) and of_cell.get(cell, frozenset()).issuperset(seeds[:n]) for cell, n in counts.items())


def lock_of(folder: Path, what: str) -> Path:
    """Return the lock that a process holds while it writes an experiment's "tables" or "report"."""
    return folder.parent / ".locks" / "experiments" / f"{folder.name}.{what}"


def load_results(name: str, results: str | Path = "results") -> Results:
    """Load an experiment's tables.

    `results` is the folder that contains `<name>/`; "results/record" holds the committed results.

    Raises InputError if there is no such experiment, or its files are damaged.
    """
    folder = Path(results) / name
    if not (folder / FILE).exists():
        known = [path.parent.name for path in Path(results).glob(f"*/{FILE}")]
        raise InputError(f"{results}: no results of {name!r}{nearest(name, known)}")
    with locks.settled(lock_of(folder, "tables")):
        return read_results(folder)


def read_results(folder: Path) -> Results:
    """Read an experiment's tables while no process writes them. Raises InputError if its files are damaged."""
    manifest = load_manifest(folder)
    try:
        for table, fingerprint in manifest.tables.items():
            check(folder / f"{table}.csv", fingerprint)
    except InputError as error:
        raise InputError(f"{folder}: {error}; run the experiment again to rewrite it") from None
    tables = {
        table: _read(folder / f"{table}.csv", table)
        for table in TABLES
        if table not in OPTIONAL_TABLES or (folder / f"{table}.csv").exists()
    }
    return Results(manifest, **tables)


TYPES: dict[Any, Any] = {"run_id": str, "variant": str, "exploded": "Int64"}


def _read(path: Path, table: str) -> pd.DataFrame:
    try:
        # A variant may be called "null": only an empty field is missing.
        rows = pd.read_csv(path, dtype=TYPES, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if missing := [column for column in columns(table) if column not in rows]:
        raise InputError(f"{path}: column {missing[0]!r} is missing; run the experiment again to rewrite it")
    return rows
