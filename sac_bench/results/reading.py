"""Reads one table of many runs. Runs with the same columns are parsed together, because a parser's start costs most."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sac_bench.errors import InputError
from sac_bench.store.run import RunDirectory

RUNS_AT_ONCE = 256
"""Runs that are parsed together. If a table of one is damaged, each is parsed alone."""
TEXT_COLUMNS = ["policy"]


class Rows(NamedTuple):
    """Rows of a table. `of`: for each row, the position of its run among those that were read."""

    table: pd.DataFrame
    of: NDArray[np.intp]


def read(runs: Sequence[RunDirectory | None], name: str) -> tuple[Rows, dict[int, str]]:
    """Return the rows of a table of all runs but None, run by run, and why those of some cannot be read.

    A last line that is incomplete is left out. The table has no columns if there are no rows.
    """
    by_header: dict[bytes, list[tuple[int, bytes]]] = {}
    for i, run in enumerate(runs):
        header, _, body = run.lines(name).partition(b"\n") if run else (b"", b"", b"")
        if header or body:
            by_header.setdefault(header, []).append((i, body))
    parts, reasons = [], dict[int, str]()
    for header, bodies in by_header.items():
        for at in range(0, len(bodies), RUNS_AT_ONCE):
            some = bodies[at : at + RUNS_AT_ONCE]
            if (rows := _together(header, some)) is not None:
                parts.append(rows)
                continue
            for i, _ in some:
                run = runs[i]
                assert run
                try:
                    table = run.table(name)
                    parts.append(Rows(table, np.full(len(table), i)))
                except InputError as error:
                    reasons[i] = str(error)
    return joined(parts), reasons


def joined(parts: Iterable[Rows]) -> Rows:
    """Return all rows, ordered by their runs. Columns are in the order of the parts."""
    kept = [part for part in parts if len(part.table)]
    if not kept:
        return Rows(pd.DataFrame(), np.zeros(0, dtype=np.intp))
    table, of = pd.concat([part.table for part in kept], ignore_index=True), np.concatenate([part.of for part in kept])
    if (of[1:] >= of[:-1]).all():
        return Rows(table, of)
    order = np.argsort(of, kind="stable")
    return Rows(table.take(order).reset_index(drop=True), of[order])


def _together(header: bytes, bodies: Sequence[tuple[int, bytes]]) -> Rows | None:
    """Return the rows of runs with one header; None if a row may be damaged."""
    if not all(body for _, body in bodies):
        return None
    counts = [body.count(b"\n") + 1 for _, body in bodies]
    try:
        table = pd.read_csv(io.BytesIO(b"\n".join([header, *(body for _, body in bodies)])), low_memory=False)
    except ValueError:
        return None
    numbers = all(pd.api.types.is_numeric_dtype(table[name]) for name in table.columns.difference(TEXT_COLUMNS))
    is_whole = "step" in table and pd.api.types.is_integer_dtype(table["step"]) and len(table) == sum(counts)
    return Rows(table, np.repeat([i for i, _ in bodies], counts)) if numbers and is_whole else None
