"""The blocks of an experiment's report: tables and sentences, section by section."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sac_bench.analysis import aggregates, choice, claim_words, waves
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import TableDifference
from sac_bench.analysis.measures import without_value
from sac_bench.analysis.published import citations
from sac_bench.report.baselines import (
    LEGEND,
    presented_comparison,
    without_published,
)
from sac_bench.report.page import (
    Block,
    Grid,
    Link,
    Picture,
    Points,
    text,
)
from sac_bench.report.tables import together
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.results.schema import PACKAGES
from sac_bench.spec.seeds import REFERENCE_FACTOR

SOURCES = "docs/published.md"


def pooled(
    aggregate: pd.DataFrame, gaps: list[TableDifference], manifest: Manifest, pictures: list[Picture]
) -> list[Block]:
    """Return the verdicts over all environments (a claim has its own), and the aggregate scores; none for one."""
    if len(manifest.envs) == 1:
        return []
    table = pd.DataFrame() if manifest.claim else together(gaps)
    verdicts: list[Block] = [Grid(_labelled(table, manifest))] if len(table) else []
    if not len(aggregate):
        return verdicts
    shown = _labelled(aggregates.presented(aggregate), manifest)
    return [*verdicts, Grid(shown), text(aggregates.RULES, small=True), *pictures]


def _labelled(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return a table with the labels of its variants."""
    return table.assign(variant=[manifest.label(name) for name in table["variant"]])


def claimed(results: Results, comparisons: list[Comparison]) -> list[Block]:
    """Return the claim's source, what would refute it, its comparisons, what is missing, and the rules."""
    if not results.manifest.claim or not comparisons:
        return []
    claim, missing = results.manifest.claim, without_value(results)
    return [
        text(f"Source: {claim.source}."),
        *[text(f"What would contradict it: {claim.refuted_by}")] * bool(claim.refuted_by),
        Grid(claim_words.grid(comparisons), verdicts=("outcome",)),
        *[text(f"Without a value, so not compared: {'; '.join(missing)}.", small=True)] * bool(missing),
        text(claim_words.rules(results.manifest), small=True),
    ]


def lacking(results: Results, gaps: list[TableDifference], comparisons: list[Comparison]) -> list[Block]:
    """Return a table of the undecided comparisons, with the runs that would decide them and their time."""
    manifest = results.manifest
    compared = waves.of_comparisons(comparisons, manifest) if manifest.claim else waves.of_differences(gaps, manifest)
    lacking = waves.lacks(compared, results)
    rows = {
        "comparison": [one.label for one in lacking],
        "stands": [one.stands for one in lacking],
        "missing runs": [one.runs_in_words() for one in lacking],
        "time": [_time(one) for one in lacking],
    }
    return [
        Grid(pd.DataFrame(rows)),
        text(LACKING_NOTE + ("" if manifest.looks else FIXED_SEEDS_NOTE), small=True),
    ] * bool(lacking)


def _time(lack: waves.Lack) -> str:
    if lack.runs is None and lack.is_constant:
        return ""
    return "unknown" if math.isnan(lack.seconds) else _hours(lack.seconds)


LACKING_NOTE = (
    "Runs that would decide at 80% power if the observed difference and spread were the true ones, beyond those of "
    "this experiment. Comparisons share runs, so do not add these up. Time: of one worker, by the mean time of this "
    "experiment's finished runs; several workers share it."
)
FIXED_SEEDS_NOTE = (
    " The 5% do not hold if seeds are added because a verdict is undecided: give a range (--seeds 5..30) instead."
)


def fixed_design(results: Results) -> list[Block]:
    """Return what a fixed design with the same power would take, where that has been simulated."""
    manifest = results.manifest
    seeds = SEEDS_OF_SAME_POWER.get(manifest.seed_range or "")
    if manifest.claim or seeds is None or manifest.reference_factor != REFERENCE_FACTOR:
        return []
    runs = seeds * (len(manifest.variants) - 1 + REFERENCE_FACTOR) * len(manifest.envs)
    return [
        text(
            f"In simulation, a fixed design with {seeds} seeds per variant ({seeds * REFERENCE_FACTOR} of the "
            f"reference) has about the power of looks from {manifest.looks[0]} to {manifest.looks[-1]} seeds (9 "
            f"variants, normal scores: results/record/sequential). Here it would be {runs:,} runs; this experiment has "
            f"{len(results.runs):,}.",
            small=True,
        )
    ]


SEEDS_OF_SAME_POWER = {"5..30": 20}
"""{range: seeds per variant of a fixed design with about the same power}, by results/record/sequential/power.csv."""


def chosen(manifest: Manifest) -> list[Block]:
    """Return the options that the variants chose, and how."""
    return [Grid(choice.grid(manifest)), text(choice.rules(manifest), small=True)] if manifest.choices else []


def beside_others(compared: pd.DataFrame, manifest: Manifest, sources: str | Link) -> list[Block]:
    """Return the section on several algorithms: the table, what is not in it, the metrics and the sources."""
    shown = compared[(compared["kind"] == "published") & compared["near"]]
    before, after = LEGEND.split(SOURCES)
    blocks: list[Block] = [Grid(presented_comparison(compared, manifest))]
    if without := without_published(compared, manifest):
        blocks.append(text(without))
    blocks.append(text(before, sources, after, small=True))
    if len(shown):
        cited = tuple(f"{key}: {citations()[key]}" for key in sorted(set(shown["source"])))
        blocks += [text("Sources of the published scores:", small=True), Points(cited)]
    return blocks


def absent(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return a table of the runs that diverged, failed or are not finished, with reasons."""
    absent = _labelled(runs[runs["status"] != "finished"], manifest)
    columns = ["variant", "env", "seed", "status", "steps", "target_steps", "run_id", "reason"]
    return [Grid(absent.reindex(columns=columns).astype({"reason": object}).fillna({"reason": ""}))] * bool(len(absent))


def exploded(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return a table of the runs that exploded, and since which steps."""
    own = _labelled(runs[runs["exploded"].notna()], manifest)
    return [Grid(own[["variant", "env", "seed", "status", "exploded", "run_id"]])] * bool(len(own))


def settings(manifest: Manifest) -> list[Block]:
    """Return all options of the reference, and what the other variants change."""
    configs = [manifest.variants[manifest.reference].configs[env] for env in manifest.envs]
    values = [[json.dumps(config.get(option)) for config in configs] for option in configs[0]]
    settings = {"option": list(configs[0]), "value": [_everywhere(manifest.envs, row) for row in values]}
    variants = manifest.variants
    changed = {
        "variant": list(variants),
        "algorithm": [v.algorithm for v in variants.values()],
        "changes": [_changes(v.overrides) for v in variants.values()],
        "steps": [_steps(v.steps) for v in variants.values()],
    }
    return [
        text("What each variant changes:"),
        Grid(pd.DataFrame(changed)),
        text(f"All options of the reference, `{manifest.reference}` ({variants[manifest.reference].algorithm}):"),
        Grid(pd.DataFrame(settings)),
    ]


def how_made(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return the command, the machine, the versions and the training time."""
    # Each member's row has the whole cohort's time: count it once.
    seconds = (runs["wall_seconds"] / runs["cohort_size"]).sum()
    random = "; ".join(
        f"{env} {of.return_mean:.1f} (std {of.return_std:.1f}, {of.episodes} episodes)"
        if math.isfinite(of.return_mean)
        else f"{env} not finite"
        for env, of in manifest.random.items()
    )
    facts = {
        "command": manifest.command,
        "machine": _distinct(runs, "device"),
        "versions": ", ".join(f"{name} {_distinct(runs, name)}" for name in PACKAGES),
        "code": _distinct(runs, "commit"),
        "compiled": _distinct(runs, "compiled"),
        "threads of a worker": _distinct(runs, "threads"),
        "matrix products": _distinct(runs, "products"),
        "seeds": manifest.seeds_in_words(),
        "transitions": f"{runs['steps'].sum():,}",
        "time": f"{_hours(seconds)} in total over cohorts, which may have run in parallel on one machine",
        "random policy's return": random or "not measured",
    }
    return [Grid(pd.DataFrame({"what": list(facts), "value": list(facts.values())}))]


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _everywhere(envs: Sequence[str], values: list[str]) -> str:
    """Return the value of each environment, or a single one if all are equal."""
    if len(set(values)) == 1:
        return values[0]
    return "; ".join(f"{env}: {value}" for env, value in zip(envs, values, strict=True))


def _changes(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in overrides.items()) or "nothing"


def _steps(steps: dict[str, int]) -> str:
    if len(set(steps.values())) == 1:
        return f"{next(iter(steps.values())):,}"
    return ", ".join(f"{env} {count:,}" for env, count in steps.items())


def _distinct(runs: pd.DataFrame, column: str) -> str:
    return "; ".join(sorted({str(v) for v in runs.get(column, pd.Series(dtype=object)).dropna()})) or "unknown"
