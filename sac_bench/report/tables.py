"""Tables of an experiment's results, as DataFrames and as CSV, Markdown, LaTeX and plain text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sac_bench.analysis import differences as analysis
from sac_bench.analysis.differences import (
    ALL_ENVIRONMENTS,
    CORRELATION,
    TableDifference,
    table_differences,
    table_of,
    why_no_verdict,
    words_of,
)
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.analysis.scores import Steps, count_exploded, entered, equal_steps, last_episodes, note, scores
from sac_bench.analysis.statistics import mean_interval
from sac_bench.report.labels import titled
from sac_bench.report.latex import final_table
from sac_bench.report.page import markdown
from sac_bench.report.plain import fitted
from sac_bench.results.cards import has_imported
from sac_bench.results.cells import rows_of
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import write_text

SHOWN_COLUMNS = (
    "variant",
    "environment",
    "seeds",
    "score [95% CI]",
    "difference [95% CI]",
    "verdict",
    "did not finish",
)
"""The columns of the final table that are shown at once."""
ACTED = "the mean action (for algorithms without one, of sampled actions)"
ACTED_IN_IMPORTED = "the episodes that the protocol names,"
TERMINAL_WIDTH = 80
"""The width of tables as text, in characters."""
DIFFERENCE_COLUMNS = ("difference", "difference_ci_low", "difference_ci_high")
RULES = (
    "Score of a run: mean return of {acted} over the evaluations in the last {last:.0%} of its steps (if there are "
    "none, the last evaluation before). Whole curve: the "
    "area under the learning curve divided by its width. Intervals: 95%, Student's t over seeds; for the "
    "difference from the reference by inverting its tests (below five seeds Welch's t), unpaired. A "
    "diverged run counts with the return of a random policy if that is known (in curves from the point where it "
    "diverged; as a failure where successes are counted). A run that failed, is damaged or is unfinished does not "
    "count and is listed as left out. A run exploded if |Q| exceeded what the rewards that it saw allow; it keeps its "
    "score."
)


def scoring(manifest: Manifest) -> str:
    """Return how scores and intervals come about."""
    acted = ACTED_IN_IMPORTED if has_imported(manifest) else ACTED
    return RULES.format(last=manifest.score_last, acted=acted)


def rules(manifest: Manifest) -> tuple[str, ...]:
    """Return the notes below the final table, one paragraph each."""
    paragraphs = (scoring(manifest), CORRELATION if manifest.claim else f"{analysis.rules(manifest)} {CORRELATION}")
    return (note(manifest), *paragraphs) if note(manifest) else paragraphs


def performance(results: Results, at: Steps | None = None) -> pd.DataFrame:
    """Return a row per variant and environment: seeds, mean score with its interval, how runs ended.

    `at`: the steps to score at, as in `scores`.
    """
    at = at or equal_steps(results.manifest)
    by_default, sampled = scores(results, at=at), scores(results, "sample", at)
    rows = []
    for env in results.manifest.envs:
        for variant in results.manifest.variants:
            runs = rows_of(by_default, env, variant)
            values = entered(by_default, env, variant)
            score, of_sampled = mean_interval(values), entered(sampled, env, variant)
            row = {
                "env": env,
                "variant": variant,
                "steps": results.manifest.variants[variant].steps[env],
                "scored_at": at[env, variant],
                "seeds": len(values),
                "missing": int(runs["score"].isna().sum()),
                "diverged": int((runs["status"] == "diverged").sum()),
                "failed": int((runs["status"] == "failed").sum()),
                "exploded": count_exploded(by_default, env, [variant]),
                "ended_otherwise": _ended_otherwise(runs),
                "score": score.value,
                "ci_low": score.low,
                "ci_high": score.high,
                "area": float(runs["area"].mean()),
                "sampled_score": float(np.mean(of_sampled)) if len(of_sampled) else float("nan"),
            }
            rows.append(row | last_episodes(results, runs, at[env, variant]))
    return pd.DataFrame(rows)


def all_differences(results: Results) -> list[TableDifference]:
    """Return the differences from the reference (analysis/differences.py)."""
    return table_differences(scores(results), results.manifest, why_no_verdict(results))


def final_performance(results: Results, differences: Sequence[TableDifference] | None = None) -> pd.DataFrame:
    """Return `performance` with the difference from the reference in each environment, and its verdict.

    `differences`: all of them, if they are known already.
    """
    gaps = table_of(all_differences(results) if differences is None else differences)
    table = performance(results).merge(
        gaps[gaps["env"] != ALL_ENVIRONMENTS], "left", ["env", "variant"], validate="1:1"
    )
    return table.fillna({"verdict": "", "no_verdict": "", "state": ""})


def _ended_otherwise(runs: pd.DataFrame) -> str:
    """Return how runs ended that did not finish: "1 diverged (as random), 2 failed (left out)"."""
    words = []
    for (standing, out), count in Counter(zip(runs["status"], runs["score"].isna(), strict=True)).items():
        if standing != "finished" or out:
            words.append(f"{count} {standing} ({'left out' if out else 'as random'})")
    return ", ".join(words)


def verdict_of(row: Mapping[Any, Any]) -> str:
    """Return a row's verdict as shown, or why there is none; "" for the reference."""
    return words_of(row) or (f"no verdict ({row['no_verdict']})" if row["no_verdict"] else "")


def presented(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return the final table for a reader: rounded, intervals in brackets, the reference marked."""
    spec = score_format(table["score"].abs().max())
    requested = [len(manifest.seeds_of(env, name)) for env, name in zip(table["env"], table["variant"], strict=True)]
    shown = pd.DataFrame(
        {
            "variant": [titled(manifest, name) for name in table["variant"]],
            "environment": table["env"],
            "seeds": [
                f"{n} of {seeds}" + (f", {exploded} exploded" if exploded else "")
                for n, seeds, exploded in zip(table["seeds"], requested, table["exploded"], strict=True)
            ],
            "score [95% CI]": [
                interval(*t, spec=spec) for t in table[["score", "ci_low", "ci_high"]].itertuples(index=False)
            ],
            "difference [95% CI]": [
                interval(*t, spec=spec) for t in table[list(DIFFERENCE_COLUMNS)].itertuples(index=False)
            ],
            "verdict": [verdict_of(row) for row in table.to_dict("records")],
            "r": [number(r, "+.2f") for r in table["seed_correlation"]],
            "sampled actions": [number(x, spec) for x in table["sampled_score"]],
            "whole curve": [number(x, spec) for x in table["area"]],
        }
    )
    if manifest.claim:  # the claim's own comparisons have the verdicts
        shown = shown.drop(columns="verdict")
    if table["ended_otherwise"].any():
        shown.insert(list(shown.columns).index("r"), "did not finish", table["ended_otherwise"])
    if "worst_episode" in table:
        shown["worst episode"] = [number(x, spec) for x in table["worst_episode"]]
        shown[f"episodes above {manifest.success_return:g}"] = [number(x, ".0%") for x in table["success_share"]]
    return shown


def together(differences: Sequence[TableDifference]) -> pd.DataFrame:
    """Return the differences over all environments together, for a reader; none if there is one environment."""
    rows = [one.row() for one in differences if one.env == ALL_ENVIRONMENTS]
    return pd.DataFrame(
        {
            "variant": [row["variant"] for row in rows],
            "difference in gains [95% CI]": [
                interval(*(row[c] for c in DIFFERENCE_COLUMNS), spec="+.2f") for row in rows
            ],
            "verdict": [
                one.verdict.in_words() or f"no verdict: {one.row()['no_verdict']}"
                for one in differences
                if one.env == ALL_ENVIRONMENTS
            ],
        }
    )


def write_final(results: Results, differences: Sequence[TableDifference], table: pd.DataFrame, folder: Path) -> None:
    """Write final.{csv,md,tex,txt}, differences.csv and scores.csv, given all differences and final performance."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = presented(table, results.manifest)
    write_text(folder / "final.csv", table.to_csv(index=False))
    write_text(folder / "differences.csv", table_of(differences).to_csv(index=False))
    write_text(folder / "scores.csv", scores(results).to_csv(index=False))
    write_text(folder / "final.md", "\n\n".join([markdown(shown), *rules(results.manifest), ""]))
    write_text(folder / "final.tex", final_table(table, results.manifest, rules(results.manifest)))
    of_one = shown.drop(columns="environment") if len(results.manifest.envs) == 1 else shown
    notes = [textwrap.fill(note, TERMINAL_WIDTH) for note in rules(results.manifest)]
    plain = "\n\n".join([*fitted(of_one, TERMINAL_WIDTH), *notes])
    write_text(folder / "final.txt", plain + "\n")
