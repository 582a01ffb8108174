"""Differences from the reference, each with its verdict: Holm goes over an experiment's whole table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sac_bench.analysis.statistics import difference_interval, seed_correlation, unpaired
from sac_bench.analysis.verdicts import MIN_SEEDS, Verdict, verdicts
from sac_bench.results.manifest import Manifest

WORDS = (
    "Verdicts: better or worse where the difference is shown at 5% (two-sided, Welch's t, p after Holm over the whole "
    f"table), else undecided, with the seeds a side that would decide at 80% power were the difference and the spread "
    f"seen the true ones; none below {MIN_SEEDS} seeds a side."
)
CORRELATION = (
    "r: Pearson's correlation with the reference over equal seeds; where it is positive, these intervals are too wide, "
    "where negative, too narrow."
)
ORDER = {word: word for word in ("better", "worse", "equivalent")} | {
    "undecided": "undecided (this many seeds a side would decide)",
    "": f"no verdict below {MIN_SEEDS} seeds",
}
"""The words in the order in which to tell them, and how; "" is none."""
COLUMNS = (
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "verdict",
    "p_holm",
    "seeds_needed",
    "seed_correlation",
)


def differences(scores: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """A row an environment and variant other than the reference: COLUMNS, from a table of scores a run."""
    table, found = [], []
    entered = scores.dropna(subset="score")
    for env in manifest.envs:
        of_env = entered[entered["env"] == env]
        by_variant = {name: rows.set_index("seed")["score"] for name, rows in of_env.groupby("variant")}
        nothing = pd.Series(dtype=float)
        reference = by_variant.get(manifest.reference, nothing)
        for variant in manifest.variants:
            if variant == manifest.reference:
                continue
            mine = by_variant.get(variant, nothing)
            both = mine.index.intersection(reference.index)
            gap = difference_interval(mine, reference)
            found.append(unpaired(mine, reference))
            table.append(
                {
                    "env": env,
                    "variant": variant,
                    "difference": gap.value,
                    "difference_ci_low": gap.low,
                    "difference_ci_high": gap.high,
                    "seed_correlation": seed_correlation(mine[both], reference[both]),
                }
            )
    for row, verdict in zip(table, verdicts(found, [None] * len(found)), strict=True):
        row |= {"verdict": verdict.word or "", "p_holm": verdict.p_difference, "seeds_needed": verdict.seeds_needed}
    return pd.DataFrame(table, columns=["env", "variant", *COLUMNS]).astype({"seeds_needed": "Int64"})


def in_words(row: Mapping[Any, Any]) -> str:
    """A row's verdict as a reader gets it, with the seeds that would decide; empty where there is none."""
    if not row["verdict"]:
        return ""
    needed = None if pd.isna(row["seeds_needed"]) else int(row["seeds_needed"])
    return Verdict(row["verdict"], row["p_holm"], float("nan"), needed).in_words()


def answer(final: pd.DataFrame, envs: Sequence[str], reference: str) -> list[str]:
    """What a table of final performance says of the differences, a sentence an environment; names in backticks."""
    sentences = []
    for env in envs:
        rows = final[(final["env"] == env) & (final["variant"] != reference)].to_dict("records")
        told = []
        for word, said in ORDER.items():
            names = [_named(row) for row in rows if row["verdict"] == word]
            if names:
                told.append(f"{said}: {', '.join(names)}")
        sentences.append(f"On {env}, against `{reference}`: {'; '.join(told) or 'nothing to compare'}.")
    return sentences


def _named(row: Mapping[Any, Any]) -> str:
    """A variant with what a reader must know of it: "one-q (23 seeds)", "one-q (1 failed (left out))"."""
    seeds = in_words(row).partition("(")[2].removesuffix(" a side would decide)")
    notes = [note for note in (seeds, row["ended_otherwise"]) if note]
    return str(row["variant"]) + (f" ({'; '.join(notes)})" if notes else "")
