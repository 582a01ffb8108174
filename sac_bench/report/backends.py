"""Says in reports whether verdicts survive a change of backend (analysis/backends.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sac_bench.analysis import backends
from sac_bench.analysis.backends import NOT_DECIDED, Across, Outcome
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import TableDifference
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.analysis.scores import scores
from sac_bench.envs.known import BACKENDS
from sac_bench.report.page import Block, Grid, markdown, text
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.spec.backends import shown
from sac_bench.store.atomic import write_text

RULES = (
    "A verdict survives if it is decided and equal on both backends. It differs if it is decided on both and not "
    "equal, which does not show that the effects differ. Change: the difference on the second backend minus that on "
    "the first, with a 95% interval of each row by itself (Welch's t over the seeds of all four sides, taken as "
    "independent{looks}). If the interval excludes 0, the size of the effect depends on the backend."
)
LOOKS = "; wider in a range of seeds, so that it holds at all looks"


def across_backends(
    results: Results, gaps: Sequence[TableDifference], comparisons: Sequence[Comparison]
) -> list[Across]:
    """Return the comparisons of an experiment on both backends: a claim's, or else differences from the reference."""
    if not backends.pairs(results.manifest):
        return []
    if results.manifest.claim:
        return backends.of_comparisons(comparisons, results.manifest)
    return backends.of_differences(gaps, scores(results), results.manifest)


def sentences(across: Sequence[Across], spec: str) -> dict[str, str]:
    """Return a sentence per variant, or per expectation of a claim, with its outcome on every task.

    spec: the format of numbers, as of `format_of`.
    """
    by_name: dict[str, list[Across]] = {}
    for one in across:
        by_name.setdefault(one.name, []).append(one)
    return {name: _sentence(of, spec) for name, of in by_name.items()}


def of_claim(comparisons: Sequence[Comparison], across: Sequence[Across]) -> str:
    """Return whether the claim's verdict survives; "" if it was tested on one backend only."""
    if not across:
        return ""
    words, outcome = backends.of_claim(comparisons, across)
    named = ", ".join(f"{word.partition(':')[0]} with {BACKENDS[backend]}" for backend, word in words.items())
    return f"The claim's verdict {_in_words(outcome)}: {named}."


def write_backends(across: Sequence[Across], manifest: Manifest, folder: Path, spec: str) -> None:
    """Write backends.csv and backends.md; remove them if nothing is compared on two backends."""
    if not across:
        for suffix in ("csv", "md"):
            (folder / f"backends.{suffix}").unlink(missing_ok=True)
        return
    lines = [f"- {_label(name, manifest)}: {words}" for name, words in sentences(across, spec).items()]
    parts = [markdown(grid(across, manifest, spec)), "\n".join(lines).replace("**", ""), rules(manifest), ""]
    write_text(folder / "backends.csv", backends.table(across).to_csv(index=False))
    write_text(folder / "backends.md", "\n\n".join(parts))


def section(across: Sequence[Across], manifest: Manifest, spec: str) -> list[Block]:
    """Return the table of comparisons on both backends with its rules; [] if there are none."""
    return (
        [Grid(grid(across, manifest, spec), verdicts=("outcome",)), text(rules(manifest), small=True)] if across else []
    )


def grid(across: Sequence[Across], manifest: Manifest, spec: str) -> pd.DataFrame:
    """Return the comparisons on both backends as a table for a reader."""
    rows = []
    for one in across:
        cells = {"expected" if manifest.claim else "variant": _label(one.name, manifest), "task": one.task}
        for backend, word, effect, exploded in zip(one.backends, one.words, one.effects, one.exploded, strict=True):
            value = number(effect.value, spec or _format(one)) if np.isfinite(effect.value) else ""
            cells[BACKENDS[backend]] = ", ".join(
                filter(None, (word, value, f"{exploded} exploded" if exploded else ""))
            )
        rows.append(
            cells | {"change [95% CI]": interval(*one.change, spec=spec or _format(one)), "outcome": one.outcome}
        )
    return pd.DataFrame(rows)


def rules(manifest: Manifest) -> str:
    """Return how the outcomes come about, and which environment is on which backend."""
    where = f"Environments: {shown(manifest.backends, manifest.envs)}."
    return f"{RULES.format(looks=LOOKS if manifest.looks else '')} {where}"


def _sentence(of: Sequence[Across], spec: str) -> str:
    a, b = (BACKENDS[backend] for backend in of[0].backends)
    parts = []
    for one in of:
        change = interval(*one.change, spec=spec or _format(one))
        also = f", and the difference changes by {change}" if change else ""
        parts.append(f"{f'on {one.task} ' if len(of) > 1 else ''}the verdict {_in_words(one.outcome)}{also}")
    return f"From {a} to {b}, {'; '.join(parts)}."


def _in_words(outcome: Outcome) -> str:
    return f"{'is ' if outcome == NOT_DECIDED else ''}**{outcome}**"


def _label(name: str, manifest: Manifest) -> str:
    return name if manifest.claim else manifest.label(name)


def format_of(final: pd.DataFrame, manifest: Manifest) -> str:
    """Return the format of numbers, that of scores; "" in a claim, whose comparisons have their own (`_format`)."""
    return "" if manifest.claim else score_format(final["score"].abs().max())


def _format(one: Across) -> str:
    ends = [abs(x) for effect in one.effects for x in effect if np.isfinite(x)]
    return ".0f" if max(ends, default=0.0) >= 100 else ".2f"
