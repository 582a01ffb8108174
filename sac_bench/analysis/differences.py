"""Differences from the reference, each with its verdict. Holm's correction is over an experiment's whole table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sac_bench.analysis.choice import edge
from sac_bench.analysis.statistics import difference_interval, seed_correlation, unpaired
from sac_bench.analysis.verdicts import MIN_SEEDS, Verdict, seeds_text, verdicts
from sac_bench.results.manifest import Manifest

WORDS = (
    "Verdicts: better or worse if the difference is shown at 5% (two-sided Welch's t test, Holm's correction over the "
    "whole table), otherwise undecided, with the number of seeds per side that would decide at 80% power if the "
    f"observed difference and spread were the true ones. There is no verdict below {MIN_SEEDS} seeds per side."
)
CORRELATION = (
    "r: Pearson's correlation with the reference over shared seeds. If it is positive, these intervals are too wide; "
    "if negative, too narrow."
)
MIXED = "mixed devices"
"""Why there is no verdict if the runs must not be compared (results/devices.py)."""
ORDER = {word: word for word in ("better", "worse", "equivalent")} | {
    "undecided": "undecided (this many seeds per side would decide)",
    "": "no verdict",
}
"""The verdicts in their order in an answer, and as shown there; "" is none."""
COLUMNS = (
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "verdict",
    "p_holm",
    "seeds_needed",
    "seed_correlation",
    "no_verdict",
)
"""`no_verdict`: why there is none, else empty."""


def differences(scores: pd.DataFrame, manifest: Manifest, no_verdict: str = "") -> pd.DataFrame:
    """Return a row per environment and variant other than the reference, with COLUMNS, given the runs' scores.

    `no_verdict`: why no difference gets a verdict, or "".
    """
    table: list[dict[str, Any]] = []
    gaps = []
    entered = scores.dropna(subset="score")
    for env in manifest.envs:
        of_env = entered[entered["env"] == env]
        by_variant = {name: rows.set_index("seed")["score"] for name, rows in of_env.groupby("variant")}
        nothing = pd.Series(dtype=float)
        reference = by_variant.get(manifest.reference, nothing)
        for variant in manifest.variants:
            if variant == manifest.reference:
                continue
            own = by_variant.get(variant, nothing)
            both = own.index.intersection(reference.index)
            gap = difference_interval(own, reference)
            gaps.append(unpaired(own, reference))
            few = min(len(own), len(reference))
            reason = f"{few} seeds" if few < MIN_SEEDS else edge(manifest, env, variant, manifest.reference)
            table.append(
                {
                    "env": env,
                    "variant": variant,
                    "difference": gap.value,
                    "difference_ci_low": gap.low,
                    "difference_ci_high": gap.high,
                    "seed_correlation": seed_correlation(own[both], reference[both]),
                    "no_verdict": no_verdict or reason,
                }
            )
    judged = verdicts(gaps, [None] * len(gaps), excluded=[bool(row["no_verdict"]) for row in table])
    for row, verdict in zip(table, judged, strict=True):
        row |= {"verdict": verdict.word or "", "p_holm": verdict.p_difference, "seeds_needed": verdict.seeds_needed}
    return pd.DataFrame(table, columns=["env", "variant", *COLUMNS]).astype({"seeds_needed": "Int64"})


def in_words(row: Mapping[Any, Any], short: bool = False) -> str:
    """Return a row's verdict as shown, with the seeds that would decide; "" if there is none."""
    if not row["verdict"]:
        return ""
    return Verdict(row["verdict"], row["p_holm"], float("nan"), _seeds_needed(row)).in_words(short)


def _seeds_needed(row: Mapping[Any, Any]) -> int | None:
    return None if pd.isna(row["seeds_needed"]) else int(row["seeds_needed"])


def answer(final: pd.DataFrame, envs: Sequence[str], reference: str) -> list[str]:
    """Return one sentence per environment on the differences in a table of final performance."""
    sentences = []
    for env in envs:
        rows = final[(final["env"] == env) & (final["variant"] != reference)].to_dict("records")
        lists = []
        for word, shown in ORDER.items():
            names = [_named(row) for row in rows if row["verdict"] == word]
            if names:
                lists.append(f"{shown}: {', '.join(names)}")
        sentences.append(f"On {env}, against `{reference}`: {'; '.join(lists) or 'nothing to compare'}.")
    return sentences


def _named(row: Mapping[Any, Any]) -> str:
    """Return a variant's name with notes: "one-q (23 seeds)", "one-q (1 failed (left out); 2 exploded)"."""
    seeds = seeds_text(_seeds_needed(row)) if row["verdict"] == "undecided" else ""
    no_verdict = "" if row["verdict"] else row["no_verdict"]
    exploded = f"{row['exploded']} exploded" if row["exploded"] else ""
    notes = [note for note in (seeds, no_verdict, row["ended_otherwise"], exploded) if note]
    return str(row["variant"]) + (f" ({'; '.join(notes)})" if notes else "")
