"""An experiment's report: question, answer, differences, figures, missing runs, settings and provenance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jinja2
import pandas as pd

from sac_bench.analysis import aggregates, claim_words, claims
from sac_bench.analysis.aggregates import on_one_scale
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import MIXED_DEVICES, TableDifference, table_of
from sac_bench.analysis.scores import note, scores, up_to_common_steps
from sac_bench.errors import InputError
from sac_bench.report import blocks
from sac_bench.report.answers import CLAIM_LEGEND, answer
from sac_bench.report.baselines import (
    comparison,
    write_comparison,
)
from sac_bench.report.blocks import SOURCES
from sac_bench.report.figures.all import Pictures, write_figures
from sac_bench.report.figures.diagnostics import READING
from sac_bench.report.figures.looks import of_comparisons, of_differences
from sac_bench.report.labels import is_quick, setting
from sac_bench.report.page import (
    Answer,
    ClaimSummary,
    Grid,
    Link,
    Page,
    sections,
    text,
    written,
)
from sac_bench.report.protocols import of_results
from sac_bench.report.tables import SHOWN_COLUMNS, presented, rules, write_tables
from sac_bench.results import standings
from sac_bench.results.cards import has_imported
from sac_bench.results.devices import are_comparable, mixed
from sac_bench.results.load import Results, load_results, lock_of
from sac_bench.results.manifest import Manifest
from sac_bench.results.versions import superseded
from sac_bench.spec.claim import Claim
from sac_bench.store import locks
from sac_bench.store.atomic import write_text


def write_report(folder: Path) -> Page:
    """Write tables, figures, report.md and report.html of results/<name>/, from its CSV files alone; return the page.

    Raises InputError if they are damaged.
    """
    with locks.locked(lock_of(folder, "report")):  # two processes may report the same experiment
        results = up_to_common_steps(load_results(folder.name, folder.parent))
        with readable(folder):
            manifest = results.manifest
            final, gaps = write_tables(results, folder / "tables")
            compared = comparison(final, manifest) if len(manifest.algorithms) > 1 else None
            if compared is not None:
                write_comparison(compared, manifest, folder / "tables")
            comparisons = write_claim(results, folder / "tables")
            aggregate = aggregated(results, folder / "tables")
            progress = of_comparisons(comparisons) if manifest.claim else of_differences(gaps, manifest)
            pictures = write_figures(results, final, folder / "figures", comparisons, progress)
            return written(
                page(results, final, gaps, compared, aggregate, comparisons, pictures, _sources(folder)),
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
    pictures: Pictures,
    sources: str | Link,
) -> Page:
    """Return the report's page.

    `gaps`: the differences from the reference. `compared`: the table of several algorithms, if there are several.
    `comparisons`: those of the claim, if there is one. `sources`: the document with the sources of published scores.
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
        answer=_answer(final, gaps, comparisons, manifest),
        picture=next(iter(pictures["claim"] or pictures["differences"]), None),
        claim=_summary(results, comparisons),
        devices=mixed(results),
        superseded=superseded(results.manifest),
        summary=f"{len(runs)} runs: {standings.of_runs(runs)}. "
        f"{results.manifest.seeds_each()} seeds per variant and environment; "
        f"runs without a score: {final['missing'].sum() or 'none'}.",
        sections=sections(
            ("Chosen options", blocks.chosen(results.manifest)),
            ("The claim", blocks.claimed(results, comparisons)),
            (
                "Final performance",
                [Grid(shown, columns, ("verdict",)), *(text(words, small=True) for words in rules(manifest))],
            ),
            ("Seeds until decided", [*pictures["looks"], *blocks.fixed_design(results)]),
            ("What would decide", blocks.lacking(results, gaps, comparisons)),
            ("Learning curves", pictures["curves"]),
            ("Every seed", pictures["scores"]),
            ("Comparison", [] if compared is None else blocks.beside_others(compared, results.manifest, sources)),
            ("All environments together", blocks.pooled(aggregate, gaps, results.manifest, pictures["profile"])),
            ("Sensitivity", pictures["sensitivity"]),
            (
                "Diagnostics",
                [*pictures["diagnostics"], *[text(READING, small=True)] * bool(pictures["diagnostics"])],
            ),
            ("Runs that did not finish", blocks.absent(results.runs, results.manifest)),
            ("Runs that exploded", blocks.exploded(results.runs, results.manifest)),
            ("Protocol", of_results(results)),
            ("Settings", [] if has_imported(results.manifest) else blocks.settings(results.manifest)),
            ("How it was made", [] if has_imported(results.manifest) else blocks.how_made(runs, results.manifest)),
            folded=("Protocol", "Settings", "How it was made"),
        ),
    )


def _answer(
    final: pd.DataFrame, gaps: list[TableDifference], comparisons: list[Comparison], manifest: Manifest
) -> Answer:
    """Return what the report answers, and what a reader must know if variants were trained to different steps."""
    if comparisons:
        base = Answer(claim_words.headline(comparisons), tuple(claim_words.sentences(comparisons)), (CLAIM_LEGEND,))
    else:
        base = answer(final, table_of(gaps), manifest)
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


def _sources(folder: Path) -> str | Link:
    """Return a link from a report in `folder` to the published scores' document; outside the project, its name."""
    root = Path(__file__).resolve().parents[2]
    inside = folder.resolve().is_relative_to(root) and (root / SOURCES).exists()
    return Link(SOURCES, Path(os.path.relpath(root / SOURCES, folder.resolve())).as_posix()) if inside else SOURCES
