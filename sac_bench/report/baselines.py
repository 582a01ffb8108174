"""The table that compares algorithms: a row per variant and published result, a column per environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.analysis.format import interval, score_format
from sac_bench.analysis.published import METRICS, STEPS_TOLERANCE, for_env, in_words, of_algorithm
from sac_bench.analysis.scores import equal_steps, note
from sac_bench.report.labels import steps_note
from sac_bench.report.latex import words_table
from sac_bench.report.page import markdown
from sac_bench.report.tables import scoring
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import write_text

LEGEND = (
    "Cells: mean score [95% interval] (seeds that count). Published scores: mean ± standard deviation over seeds "
    "(seeds), or IQM where marked, from other code and settings. The metrics differ: a final evaluation is the mean "
    "over seeds of one evaluation at that step; a maximum over the curve is the best evaluation, so it is higher by "
    "construction; a training return is from training episodes, including exploration; ~ marks values read off a "
    "graph. Sources and the definition of comparable: docs/published.md."
)
LATEX_CAPTION = "Mean scores with 95% intervals (seeds), beside published scores with standard deviations."
MARKS = ("diverged", "exploded")
"""Columns with numbers of runs, shown where there are any."""
COLUMNS = (
    "kind",
    "env",
    "variant",
    "algorithm",
    "steps",
    "metric",
    "mean",
    "ci_low",
    "ci_high",
    "seeds",
    *MARKS,
    "published_env",
    "spread",
    "spread_kind",
    "source",
    "note",
    "near",
)


def beside(manifest: Manifest, env: str) -> pd.DataFrame:
    """Return the published scores of an experiment's algorithms that are comparable in an environment.

    `near`: at about the steps at which the experiment's runs are scored.
    """
    rows = for_env(env, equal_steps(manifest)[env, manifest.reference])
    return pd.concat([of_algorithm(rows, algorithm) for algorithm in manifest.algorithms], ignore_index=True)


def comparison(final: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return a row per score: ours, then published ones. `near`: at about our number of steps, so shown to readers."""
    of_variant = {name: variant.algorithm for name, variant in manifest.variants.items()}
    rows = []
    for row in _records(final):
        same = {key: row[key] for key in ("env", "variant", "seeds", *MARKS, "ci_low", "ci_high")}
        rows.append(
            same
            | {
                "kind": "ours",
                "algorithm": of_variant[row["variant"]],
                "metric": "score",
                "steps": row["scored_at"],
                "mean": row["score"],
                "near": True,
            }
        )
    for env in manifest.envs:
        for row in _records(beside(manifest, env)):
            rows.append(row | {"kind": "published", "env": env, "published_env": row["env"]})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(("seeds", *MARKS), "Int64"))


def presented_comparison(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return the table for a reader: a row per variant, then per set of published scores; a column per environment."""
    shown = table[table["near"]]
    names = {variant: _variant_label(variant, manifest) for variant in manifest.variants}
    published = _published_labels([row for row in _records(shown) if _is_published(row)])
    cells: dict[str, list[str]] = {"variant": list(dict.fromkeys([*names.values(), *published.values()]))}
    for env in manifest.envs:
        of_env = shown[shown["env"] == env]
        spec = score_format(of_env["mean"].abs().max())
        column = {}
        for row in _records(of_env):
            if _is_published(row):
                column[published[_published_key(row)]] = _published_cell(row, spec)
            else:
                column[names[row["variant"]]] = _our_cell(row, len(manifest.seeds_of(env, row["variant"])), spec)
        cells[env] = [column.get(label, "") for label in cells["variant"]]
    return pd.DataFrame(cells)


def without_published(table: pd.DataFrame, manifest: Manifest) -> str:
    """Return a sentence on the environments without a comparable published score; "" if all have one."""
    covered = set(table.loc[(table["kind"] == "published") & table["near"], "env"])
    lacking = [
        f"{env} ({in_words(equal_steps(manifest)[env, manifest.reference])} steps)"
        for env in manifest.envs
        if env not in covered
    ]
    return (
        f"No comparable published score within {STEPS_TOLERANCE:.0%} of the steps: {', '.join(lacking)}."
        if lacking
        else ""
    )


def write_comparison(table: pd.DataFrame, manifest: Manifest, folder: Path) -> None:
    """Write comparison.csv with all comparable published scores, and .md and .tex with those at about our steps."""
    shown = presented_comparison(table, manifest)
    notes = [text for text in (note(manifest), without_published(table, manifest), LEGEND, scoring(manifest)) if text]
    write_text(folder / "comparison.csv", table.to_csv(index=False))
    write_text(folder / "comparison.md", "\n\n".join([markdown(shown), *notes]) + "\n")
    write_text(folder / "comparison.tex", words_table(shown, LATEX_CAPTION, f"tab:{manifest.name}-comparison", notes))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _is_published(row: dict[str, Any]) -> bool:
    return bool(row["kind"] == "published")


def _variant_label(variant: str, manifest: Manifest) -> str:
    """Return "ppo", or "v1 (sac)" if the label is not the algorithm's; with its steps if its score is of fewer."""
    algorithm, label = manifest.variants[variant].algorithm, manifest.label(variant)
    return (label if label == algorithm else f"{label} ({algorithm})") + steps_note(manifest, variant)


def _published_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the published scores in one row of the table have in common: everything except the task."""
    version = row["published_env"].rpartition("-")[2]
    return row["algorithm"], row["source"], row["metric"], row["steps"], row["seeds"], version


def _published_labels(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], str]:
    """Return labels such as "published SAC, simbav2 (final evaluation, HalfCheetah-v4, 1M steps, 10 seeds)".

    With several tasks, the label has only their version, for example "v4".
    """
    envs: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        envs.setdefault(_published_key(row), set()).add(row["published_env"])
    labels = {}
    for key, names in envs.items():
        algorithm, source, metric, steps, seeds, version = key
        env = next(iter(names)) if len(names) == 1 else version
        many = "seeds not stated" if pd.isna(seeds) else f"{seeds} seeds"
        labels[key] = f"published {algorithm}, {source} ({METRICS[metric]}, {env}, {in_words(steps)} steps, {many})"
    return labels


def _our_cell(row: dict[str, Any], requested: int, spec: str) -> str:
    """Return "80 [55, 105] (3)"; "(2 of 3)" if some seeds do not count, "(3, 1 diverged, 2 exploded)"."""
    counts = [str(row["seeds"]) + (f" of {requested}" if row["seeds"] < requested else "")]
    counts += [f"{row[mark]} {mark}" for mark in MARKS if row[mark]]
    return f"{interval(row['mean'], row['ci_low'], row['ci_high'], spec=spec)} ({', '.join(counts)})".lstrip()


def _published_cell(row: dict[str, Any], spec: str) -> str:
    """Return "11321 ± 1108 (10)", "10872 IQM (5)" or "~10400"."""
    approximate = "~" if row["metric"] == "curve_reading" else ""
    middle = " IQM" if row["spread_kind"] == "iqm" else ""
    spread = "" if pd.isna(row["spread"]) else f" ± {row['spread']:{spec}}"
    seeds = "" if pd.isna(row["seeds"]) else f" ({row['seeds']})"
    return f"{approximate}{row['mean']:{spec}}{middle}{spread}{seeds}"
