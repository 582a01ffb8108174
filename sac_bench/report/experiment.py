"""An experiment's report: question, answer, differences, figures, missing runs, settings and provenance."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sac_bench.analysis import aggregates, choice, claim_words, claims, waves
from sac_bench.analysis.aggregates import on_one_scale
from sac_bench.analysis.backends import Across
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import MIXED_DEVICES, TableDifference, table_of, why_no_verdict
from sac_bench.analysis.factorial import Effect, effects
from sac_bench.analysis.measures import without_value
from sac_bench.analysis.published import citations
from sac_bench.analysis.scores import note, scores, up_to_common_steps
from sac_bench.errors import InputError
from sac_bench.report.answers import CLAIM_LEGEND, answer
from sac_bench.report.backends import across_backends, format_of, of_claim, section, sentences, write_backends
from sac_bench.report.baselines import (
    LEGEND,
    comparison,
    presented_comparison,
    without_published,
    write_comparison,
)
from sac_bench.report.compute import compute_section, write_compute
from sac_bench.report.factorial import answer as effects_answer
from sac_bench.report.factorial import effects_section, write_effects
from sac_bench.report.figures.all import Pictures, write_figures
from sac_bench.report.figures.diagnostics import READING
from sac_bench.report.figures.looks import of_comparisons, of_differences
from sac_bench.report.labels import is_quick, setting
from sac_bench.report.page import (
    Answer,
    Block,
    ClaimSummary,
    Grid,
    Link,
    Page,
    Picture,
    Points,
    sections,
    text,
    written,
)
from sac_bench.report.protocols import of_results
from sac_bench.report.tables import SHOWN_COLUMNS, presented, rules, together, write_tables
from sac_bench.results import standings
from sac_bench.results.cards import has_imported
from sac_bench.results.devices import are_comparable, mixed
from sac_bench.results.load import Results, load_results, lock_of
from sac_bench.results.manifest import Manifest
from sac_bench.results.schema import PACKAGES
from sac_bench.results.versions import superseded
from sac_bench.spec.claim import Claim
from sac_bench.spec.seeds import REFERENCE_FACTOR
from sac_bench.store import locks
from sac_bench.store.atomic import write_text

SOURCES = "docs/published.md"


def write_report(folder: Path) -> Page:
    """Write tables, figures, report.md and report.html of results/<name>/, from its CSV files alone; return the page.

    Raises InputError if they are damaged.
    """
    with locks.locked(lock_of(folder, "report")):  # two processes may report the same experiment
        results = up_to_common_steps(load_results(folder.name, folder.parent))
        with readable(folder):
            manifest = results.manifest
            final, gaps = write_tables(results, folder / "tables")
            write_compute(results, folder / "tables")
            compared = comparison(final, manifest) if len(manifest.algorithms) > 1 else None
            if compared is not None:
                write_comparison(compared, manifest, folder / "tables")
            comparisons = write_claim(results, folder / "tables")
            across = across_backends(results, gaps, comparisons)
            write_backends(across, manifest, folder / "tables", format_of(final, manifest))
            aggregate = aggregated(results, folder / "tables")
            progress = of_comparisons(comparisons) if manifest.claim else of_differences(gaps, manifest)
            found = effects(results, not why_no_verdict(results))
            write_effects(found, folder / "tables")
            pictures = write_figures(results, final, folder / "figures", comparisons, progress, found)
            return written(
                page(
                    results,
                    final,
                    gaps,
                    compared,
                    aggregate,
                    comparisons,
                    found,
                    pictures,
                    _sources(folder),
                    across,
                ),
                folder / "report",
            )


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raise InputError in place of what results with foreign or damaged content raise in the block."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, jinja2.TemplateError) as error:
        raise InputError(
            f"{folder}: its files are not what sac-bench writes: {type(error).__name__}: {error}"
        ) from None


def write_claim(results: Results, folder: Path) -> list[Comparison]:
    """Return a claim's comparisons and write them to claim.csv; none without a claim, or if runs are not comparable."""
    path, comparisons = folder / "claim.csv", claim_comparisons(results, folder.parent)
    if comparisons:
        write_text(path, claim_words.table(comparisons).to_csv(index=False))
    else:
        path.unlink(missing_ok=True)
    return comparisons


def claim_comparisons(results: Results, where: Path) -> list[Comparison]:
    """Return a claim's comparisons; none without a claim, or if runs are not comparable. `where`: for messages."""
    if not (results.manifest.claim and are_comparable(results)):
        return []
    try:
        claim = Claim.from_plain(results.manifest.claim.model_dump(), results.manifest.variants)
    except InputError as error:
        raise InputError(f"{where}: {error}; sac-bench run with its file writes it again") from None
    return claims.comparisons(claim, results)


def page(
    results: Results,
    final: pd.DataFrame,
    gaps: list[TableDifference],
    compared: pd.DataFrame | None,
    aggregate: pd.DataFrame,
    comparisons: list[Comparison],
    found: list[Effect],
    pictures: Pictures,
    sources: str | Link,
    across: Sequence[Across] = (),
) -> Page:
    """Return the report's page.

    `gaps`: the differences from the reference. `compared`: the table of several algorithms, if there are several.
    `comparisons`: those of the claim, if there is one. `found`: the effects of a factorial design. `sources`:
    the document with the sources of published scores.
    `across`: the comparisons on two backends.
    """
    runs = results.runs.drop_duplicates("run_id")
    manifest = results.manifest
    shown = presented(final, manifest)
    if len(manifest.envs) == 1:
        shown = shown.drop(columns="environment")
    columns = sum(name in SHOWN_COLUMNS for name in shown.columns)
    return Page(
        title=manifest.name,
        question=manifest.question,
        setting=setting(manifest),
        is_quick=is_quick(manifest),
        answer=_answer(final, gaps, comparisons, found, manifest, across),
        picture=next(iter(pictures["claim"] or pictures["effects"] or pictures["differences"]), None),
        claim=_summary(results, comparisons),
        devices=mixed(results),
        superseded=superseded(results.manifest),
        summary=f"{len(runs)} runs: {standings.of_runs(runs)}. "
        f"{results.manifest.seeds_each()} seeds per variant and environment; "
        f"runs without a score: {final['missing'].sum() or 'none'}.",
        sections=sections(
            ("Chosen options", _chosen(results.manifest)),
            ("The claim", _claimed(results, comparisons)),
            ("Effects", effects_section(found, results, pictures["effects"][1:])),
            (
                "Final performance",
                [Grid(shown, columns, ("verdict",)), *(text(words, small=True) for words in rules(manifest))],
            ),
            ("Change of backend", section(across, manifest, format_of(final, manifest))),
            ("Seeds until decided", [*pictures["looks"], *_fixed_design(results)]),
            ("What would decide", _lacking(results, gaps, comparisons)),
            ("Learning curves", pictures["curves"]),
            ("Every seed", pictures["scores"]),
            ("Comparison", [] if compared is None else _compared(compared, results.manifest, sources)),
            ("Compute", compute_section(results, pictures["compute"])),
            ("All environments together", _aggregated(aggregate, gaps, results.manifest, pictures["profile"])),
            ("Sensitivity", pictures["sensitivity"]),
            (
                "Diagnostics",
                [*pictures["diagnostics"], *[text(READING, small=True)] * bool(pictures["diagnostics"])],
            ),
            ("Runs that did not finish", _absent(results.runs, results.manifest)),
            ("Runs that exploded", _exploded(results.runs, results.manifest)),
            ("Protocol", of_results(results)),
            ("Settings", [] if has_imported(results.manifest) else _settings(results.manifest)),
            ("How it was made", [] if has_imported(results.manifest) else _made(runs, results.manifest)),
            folded=("Protocol", "Settings", "How it was made"),
        ),
    )


def _answer(
    final: pd.DataFrame,
    gaps: list[TableDifference],
    comparisons: list[Comparison],
    found: list[Effect],
    manifest: Manifest,
    across: Sequence[Across],
) -> Answer:
    """Return what the report answers, and what a reader must know if variants were trained to different steps."""
    spec = format_of(final, manifest)
    if comparisons:
        lines = [*claim_words.sentences(comparisons, sentences(across, spec)), of_claim(comparisons, across)]
        base = Answer(claim_words.headline(comparisons), tuple(filter(None, lines)), (CLAIM_LEGEND,))
    elif found:
        base = effects_answer(found, manifest)
    else:
        base = answer(final, table_of(gaps), manifest, sentences(across, spec))
    return replace(base, notes=tuple(filter(None, (note(manifest), *base.notes))))


def _summary(results: Results, comparisons: list[Comparison]) -> ClaimSummary | None:
    """Return a claim's row in the index; None without a claim or comparisons."""
    manifest, runs = results.manifest, results.runs
    comparable = are_comparable(results)
    if not manifest.claim or (comparable and not comparisons):
        return None
    reference_runs = frozenset(runs.loc[runs["variant"] == manifest.reference, "run_id"])
    verdict = claims.verdict(comparisons) if comparable else f"no verdict: {MIXED_DEVICES}"
    return ClaimSummary(manifest.claim.source, verdict, manifest.reference, reference_runs)


def aggregated(results: Results, folder: Path) -> pd.DataFrame:
    """Return the aggregate scores over all environments and write them to aggregates.csv; empty without a scale."""
    estimates = aggregates.aggregates(on_one_scale(scores(results), results.manifest), results.manifest)
    write_text(folder / "aggregates.csv", aggregates.table(estimates).to_csv(index=False))
    return estimates


def _aggregated(
    aggregate: pd.DataFrame, gaps: list[TableDifference], manifest: Manifest, pictures: list[Picture]
) -> list[Block]:
    """Return the verdicts over all environments (a claim has its own), and the aggregate scores; none for one."""
    if len(manifest.tasks) == 1:
        return []
    pooled = [] if manifest.claim else [Grid(_labelled(table, manifest))] if len(table := together(gaps)) else []
    if not len(aggregate):
        return [*pooled]
    shown = _labelled(aggregates.presented(aggregate), manifest)
    notes = aggregates.RULES + (aggregates.RULES_OF_BACKENDS if manifest.backends else "")
    return [*pooled, Grid(shown), text(notes, small=True), *pictures]


def _labelled(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return a table with the labels of its variants."""
    return table.assign(variant=[manifest.label(name) for name in table["variant"]])


def _claimed(results: Results, comparisons: list[Comparison]) -> list[Block]:
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


def _lacking(results: Results, gaps: list[TableDifference], comparisons: list[Comparison]) -> list[Block]:
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


def _fixed_design(results: Results) -> list[Block]:
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


def _chosen(manifest: Manifest) -> list[Block]:
    """Return the options that the variants chose, and how."""
    return [Grid(choice.grid(manifest)), text(choice.rules(manifest), small=True)] if manifest.choices else []


def _compared(compared: pd.DataFrame, manifest: Manifest, sources: str | Link) -> list[Block]:
    """Return the section on several algorithms: the table, what is not in it, the metrics and the sources."""
    shown = compared[(compared["kind"] == "published") & compared["near"]]
    before, after = LEGEND.split(SOURCES)
    blocks: list[Block] = [Grid(presented_comparison(compared, manifest))]
    if lacking := without_published(compared, manifest):
        blocks.append(text(lacking))
    blocks.append(text(before, sources, after, small=True))
    if len(shown):
        cited = tuple(f"{key}: {citations()[key]}" for key in sorted(set(shown["source"])))
        blocks += [text("Sources of the published scores:", small=True), Points(cited)]
    return blocks


def _sources(folder: Path) -> str | Link:
    """Return a link from a report in `folder` to the published scores' document; outside the project, its name."""
    root = Path(__file__).resolve().parents[2]
    inside = folder.resolve().is_relative_to(root) and (root / SOURCES).exists()
    return Link(SOURCES, Path(os.path.relpath(root / SOURCES, folder.resolve())).as_posix()) if inside else SOURCES


def _absent(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return a table of the runs that diverged, failed or are not finished, with reasons."""
    absent = _labelled(runs[runs["status"] != "finished"], manifest)
    columns = ["variant", "env", "seed", "status", "steps", "target_steps", "run_id", "reason"]
    return [Grid(absent.reindex(columns=columns).astype({"reason": object}).fillna({"reason": ""}))] * bool(len(absent))


def _exploded(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return a table of the runs that exploded, and since which steps."""
    own = _labelled(runs[runs["exploded"].notna()], manifest)
    return [Grid(own[["variant", "env", "seed", "status", "exploded", "run_id"]])] * bool(len(own))


def _settings(manifest: Manifest) -> list[Block]:
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


def _made(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
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
