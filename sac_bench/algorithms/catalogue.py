"""Tables of every algorithm's options, for `sac-bench list algorithms` and docs/algorithms.md.

python -m sac_bench.algorithms.catalogue docs/algorithms.md    # updates the tables in this file
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sac_bench.algorithms import ALGORITHMS, Algorithm
from sac_bench.options.config import describe_bounds

HEADER = ("option", "default", "values", "in a cohort", "meaning", "default's source")


def options(algorithm: Algorithm) -> list[tuple[str, ...]]:
    """Return one row for each option, in the columns of HEADER."""
    rows: list[tuple[str, ...]] = []
    for key, field in algorithm.config.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        rows.append(
            (
                key,
                "unset" if field.default is None else json.dumps(field.default),
                describe_bounds(field),
                _in_a_cohort(algorithm, key),
                str(field.description),
                str(extra["source"]),
            )
        )
    return rows


def _in_a_cohort(algorithm: Algorithm, key: str) -> str:
    """Return whether runs with different values of an option can train as one program."""
    if key not in algorithm.config.per_member_fields():
        return "shared"
    return "may differ if above 0" if key in algorithm.config.switched_fields() else "may differ"


def filled(document: str) -> str:
    """Return the document with each algorithm's table between <!-- options: NAME --> and <!-- end -->."""

    def table(match: re.Match[str]) -> str:
        algorithm = ALGORITHMS[match[1]]
        rows: list[tuple[str, ...]] = [HEADER, ("---",) * len(HEADER)]
        rows += [(f"`{key}`", f"`{default}`", *rest) for key, default, *rest in options(algorithm)]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        return "\n".join([f"<!-- options: {match[1]} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- options: (\w+) -->.*?<!-- end -->", table, document, flags=re.DOTALL)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
