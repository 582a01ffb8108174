"""The rows of one variant in one environment, found without a pass over the whole table."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sac_bench.results.load import Results

T = TypeVar("T")
Cells = Mapping[Any, NDArray[np.intp]]
"""{(environment, variant): the positions of its rows}."""
_CELLS: dict[int, Cells] = {}
"""By the identity of a table, which is forgotten with it."""
_KNOWN: weakref.WeakKeyDictionary[Results, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def rows_of(table: pd.DataFrame, env: str, variant: str) -> pd.DataFrame:
    """Return the rows of a variant in an environment. An empty table need not have columns.

    Positions are kept, so do not change the table in place afterwards.
    """
    if not len(table):
        return table
    own = _cells(table).get((env, variant))
    return table.iloc[:0] if own is None else table.take(own)


def once(results: Results, key: Hashable, compute: Callable[[], T]) -> T:
    """Return what `compute` returns for a key. It is called once for the same results."""
    known = _KNOWN.setdefault(results, {})
    if key not in known:
        known[key] = compute()
    return known[key]  # type: ignore[no-any-return]  # a key has the type of its `compute`


def _cells(table: pd.DataFrame) -> Cells:
    key = id(table)
    if key not in _CELLS:
        found = table.groupby(["env", "variant"]).indices
        _CELLS[key] = {cell: np.asarray(rows, dtype=np.intp) for cell, rows in found.items()}
        weakref.finalize(table, _CELLS.pop, key, None).atexit = False
    return _CELLS[key]
