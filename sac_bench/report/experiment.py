"""An experiment's report: question, answer, differences, figures, missing runs, settings and provenance."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sac_bench.analysis import aggregates, choice, claim_words, claims, waves
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import MIXED_DEVICES, table_of
from sac_bench.analysis.measures import without_value
from sac_bench.analysis.published import citations
from sac_bench.analysis.scores import note, up_to_common_steps
from sac_bench.report.answers import CLAIM_LEGEND, answer
from sac_bench.report.backends import format_of, of_claim, section, sentences
from sac_bench.report.baselines import (
    LEGEND,
    presented_comparison,
    without_published,
)
from sac_bench.report.compute import compute_section
from sac_bench.report.factorial import answer as effects_answer
from sac_bench.report.factorial import effects_section
from sac_bench.report.figures.all import Pictures, write_figures
from sac_bench.report.figures.diagnostics import READING
from sac_bench.report.findings import Findings, readable, write_tables
from sac_bench.report.labels import is_quick, labelled, setting
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
from sac_bench.report.provenance import absent, exploded, hours, made, settings
from sac_bench.report.tables import SHOWN_COLUMNS, presented, rules, together
from sac_bench.results import standings
from sac_bench.results.cards import has_imported
from sac_bench.results.devices import are_comparable, mixed
from sac_bench.results.load import Results, load_results, lock_of
from sac_bench.results.manifest import Manifest
from sac_bench.results.versions import superseded
from sac_bench.spec.seeds import REFERENCE_FACTOR
from sac_bench.store import locks

SOURCES = "docs/published.md"


def write_report(folder: Path) -> Page:
    """Write tables, figures, report.md and report.html of results/<name>/, from its CSV files alone; return the page.

    Raises InputError if they are damaged.
    """
    with locks.locked(lock_of(folder, "report")):  # two processes may report the same experiment
        results = up_to_common_steps(load_results(folder.name, folder.parent))
        with readable(folder):
            findings = Findings(results, folder)
            write_tables(findings, folder / "tables")
            return written(
                page(findings, write_figures(findings, folder / "figures"), _sources(folder)), folder / "report"
            )


def page(findings: Findings, pictures: Pictures, sources: str | Link) -> Page:
    """Return the report's page. `sources`: the document with the sources of published scores."""
    results, manifest, final = findings.results, findings.manifest, findings.final
    runs = results.runs.drop_duplicates("run_id")
    shown = presented(final, manifest)
    if len(manifest.envs) == 1:
        shown = shown.drop(columns="environment")
    columns = sum(name in SHOWN_COLUMNS for name in shown.columns)
    imported = has_imported(manifest)
    return Page(
        title=manifest.name,
        question=manifest.question,
        setting=setting(manifest),
        is_quick=is_quick(manifest),
        answer=_answer(findings),
        picture=next(iter(pictures["claim"] or pictures["effects"] or pictures["differences"]), None),
        claim=_summary(results, findings.comparisons),
        devices=mixed(results),
        superseded=superseded(manifest),
        summary=f"{len(runs)} runs: {standings.of_runs(runs)}. "
        f"{manifest.seeds_each()} seeds per variant and environment; "
        f"runs without a score: {final['missing'].sum() or 'none'}.",
        sections=sections(
            ("Chosen options", _chosen(manifest)),
            ("The claim", _claimed(results, findings.comparisons)),
            ("Effects", effects_section(findings.effects, manifest, pictures["effects"][1:])),
            (
                "Final performance",
                [Grid(shown, columns, ("verdict",)), *(text(words, small=True) for words in rules(manifest))],
            ),
            ("Change of backend", section(findings.across, manifest, format_of(final, manifest))),
            ("Seeds until decided", [*pictures["looks"], *_fixed_design(results)]),
            ("What would decide", _lacking(findings)),
            ("Learning curves", pictures["curves"]),
            ("Every seed", pictures["scores"]),
            ("Comparison", [] if findings.compared is None else _compared(findings.compared, manifest, sources)),
            ("Compute", compute_section(findings.compute, manifest, pictures["compute"])),
            ("All environments together", _aggregated(findings, pictures["profile"])),
            ("Sensitivity", pictures["sensitivity"]),
            (
                "Diagnostics",
                [*pictures["diagnostics"], *[text(READING, small=True)] * bool(pictures["diagnostics"])],
            ),
            ("Runs that did not finish", absent(results.runs, manifest)),
            ("Runs that exploded", exploded(results.runs, manifest)),
            ("Protocol", of_results(results)),
            ("Settings", [] if imported else settings(manifest)),
            ("How it was made", [] if imported else made(runs, manifest)),
            folded=("Protocol", "Settings", "How it was made"),
        ),
    )


def _answer(findings: Findings) -> Answer:
    """Return what the report answers, and what a reader must know if variants were trained to different steps."""
    manifest, comparisons = findings.manifest, findings.comparisons
    on_backends = sentences(findings.across, format_of(findings.final, manifest))
    if comparisons:
        lines = [*claim_words.sentences(comparisons, on_backends), of_claim(comparisons, findings.across)]
        base = Answer(claim_words.headline(comparisons), tuple(filter(None, lines)), (CLAIM_LEGEND,))
    elif findings.effects:
        base = effects_answer(findings.effects, findings.results)
    else:
        base = answer(findings.final, table_of(findings.differences), manifest, on_backends)
    return replace(base, notes=tuple(filter(None, (note(manifest), *base.notes))))


def _summary(results: Results, comparisons: list[Comparison]) -> ClaimSummary | None:
    """Return a claim's row in the index; None without a claim or comparisons."""
    manifest, runs = results.manifest, results.runs
    comparable = are_comparable(results)
    if not manifest.claim or (comparable and not comparisons):
        return None
    verdict = claims.verdict(comparisons) if comparable else f"no verdict: {MIXED_DEVICES}"
    return ClaimSummary(manifest.claim.source, verdict, dict(zip(runs["run_id"], runs["variant"], strict=True)))


def _aggregated(findings: Findings, pictures: list[Picture]) -> list[Block]:
    """Return the verdicts over all environments (a claim has its own), and the aggregate scores; none for one."""
    manifest, aggregate, gaps = findings.manifest, findings.aggregate, findings.differences
    if len(manifest.tasks) == 1:
        return []
    pooled = [] if manifest.claim else [Grid(labelled(table, manifest))] if len(table := together(gaps)) else []
    if not len(aggregate):
        return [*pooled]
    shown = labelled(aggregates.presented(aggregate), manifest)
    notes = aggregates.RULES + (aggregates.RULES_OF_BACKENDS if manifest.backends else "")
    return [*pooled, Grid(shown), text(notes, small=True), *pictures]


def _claimed(results: Results, comparisons: list[Comparison]) -> list[Block]:
    """Return the claim's source, what would count against it, its comparisons, what is missing, and the rules."""
    if not results.manifest.claim or not comparisons:
        return []
    claim, missing = results.manifest.claim, without_value(results)
    return [
        text(f"Source: {claim.source}."),
        *[text(f"What would count against it: {claim.refuted_by}")] * bool(claim.refuted_by),
        Grid(claim_words.grid(comparisons), verdicts=("outcome",)),
        *[text(f"Without a value, so not compared: {'; '.join(missing)}.", small=True)] * bool(missing),
        text(claim_words.rules(results.manifest), small=True),
    ]


def _lacking(findings: Findings) -> list[Block]:
    """Return a table of the undecided comparisons, with the runs that would decide them and their time."""
    manifest, results = findings.manifest, findings.results
    compared = (
        waves.of_comparisons(findings.comparisons, manifest)
        if manifest.claim
        else waves.of_differences(findings.differences, manifest)
    )
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
    return "unknown" if math.isnan(lack.seconds) else hours(lack.seconds)


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
        cited = tuple(f"{key}: {citations()[str(key)]}{_protocol(of)}" for key, of in shown.groupby("source"))
        blocks += [text("Sources of the published scores:", small=True), Points(cited)]
    return blocks


def _protocol(rows: pd.DataFrame) -> str:
    """Return what is known of how the published scores of a source came about: " Protocol: 3 episodes."."""
    notes = dict.fromkeys(note for note in rows["note"] if isinstance(note, str) and note)
    return f" Protocol: {'; '.join(notes)}." if notes else ""


def _sources(folder: Path) -> str | Link:
    """Return a link from a report in `folder` to the published scores' document; outside the project, its name."""
    root = Path(__file__).resolve().parents[2]
    inside = folder.resolve().is_relative_to(root) and (root / SOURCES).exists()
    return Link(SOURCES, Path(os.path.relpath(root / SOURCES, folder.resolve())).as_posix()) if inside else SOURCES
