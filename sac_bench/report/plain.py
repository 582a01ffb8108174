"""Tables as plain text of a limited width, for terminals."""

from __future__ import annotations

import pandas as pd
from tabulate import tabulate

from sac_bench.report.page import are_numbers


def fitted(table: pd.DataFrame, width: int) -> list[str]:
    """Return a table as texts that fit a width: one, or several with some of its columns each, and all with the first.

    Columns of numbers are right-aligned. A column that does not fit beside the first one is wider than `width`.
    """
    first, *others = table.columns
    rows = [[str(cell) for cell in row] for row in table.itertuples(index=False)]
    cells = {name: [row[i] for row in rows] for i, name in enumerate(table.columns)}
    wide = {name: max(map(len, [str(name), *column])) for name, column in cells.items()}
    groups: list[list[str]] = [[]]
    for name in others:
        if groups[-1] and sum(wide[one] + 2 for one in (first, *groups[-1], name)) > width + 2:
            groups.append([])
        groups[-1].append(name)
    return [
        tabulate(
            {name: cells[name] for name in (first, *group)},
            headers="keys",
            tablefmt="simple",
            disable_numparse=True,
            colalign=["right" if are_numbers(cells[name]) else "left" for name in (first, *group)],
        )
        for group in groups
    ]
