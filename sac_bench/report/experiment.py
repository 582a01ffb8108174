"""An experiment's page: the question, the answer, the differences, curves, what is missing, how it was made."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sac_bench.analysis import aggregates, claims
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import answer
from sac_bench.analysis.published import citations
from sac_bench.analysis.scores import note
from sac_bench.errors import InputError
from sac_bench.report.baselines import (
    LEGEND,
    algorithms,
    comparison,
    presented_comparison,
    without_published,
    write_comparison,
)
from sac_bench.report.figures.all import Pictures, write_figures
from sac_bench.report.figures.diagnostics import READING
from sac_bench.report.figures.profile import on_one_scale
from sac_bench.report.page import Block, Grid, Link, Page, Picture, Points, sections, text, written
from sac_bench.report.tables import presented, rules, scores, write_tables
from sac_bench.results.results import Results, load_results, lock_of, superseded
from sac_bench.results.results import about as experiment_of
from sac_bench.spec.claim import from_plain
from sac_bench.store import locks
from sac_bench.store.atomic import write_text

SOURCES = "docs/published.md"


def write_report(folder: Path) -> Page:
    """Tables, figures, report.md and report.html of results/<name>/, from the CSV files there alone.

    Raises InputError when they are damaged.
    """
    with locks.locked(lock_of(folder, "report")):  # two processes may report one experiment
        results = load_results(folder.name, folder.parent)
        try:
            about = experiment_of(folder)
            final = write_tables(results, about, folder / "tables")
            compared = comparison(final, about) if len(algorithms(about)) > 1 else None
            if compared is not None:
                write_comparison(compared, about, folder / "tables")
            judged = judge(results, about, folder / "tables")
            together = aggregated(results, about, folder / "tables")
            pictures = write_figures(results, about, final, folder / "figures", judged)
            return written(
                page(results, about, final, compared, together, judged, pictures, _sources(folder)), folder / "report"
            )
        except (KeyError, TypeError, AttributeError, ValueError, jinja2.TemplateError) as error:
            raise InputError(
                f"{folder}: its files are not what sac-bench writes: {type(error).__name__}: {error}"
            ) from None


def judge(results: Results, about: dict[str, Any], folder: Path) -> list[Comparison]:
    """A claim's comparisons, written to claim.csv too; none where there is no claim."""
    path = folder / "claim.csv"
    if not about.get("claim"):
        path.unlink(missing_ok=True)
        return []
    try:
        claim = from_plain(about["claim"], about["variants"])
    except InputError as error:
        raise InputError(f"{folder.parent}: {error}; sac-bench run with its file writes it again") from None
    judged = claims.comparisons(claim, results, about)
    write_text(path, claims.table(judged).to_csv(index=False))
    return judged


def page(
    results: Results,
    about: dict[str, Any],
    final: pd.DataFrame,
    compared: pd.DataFrame | None,
    together: pd.DataFrame,
    judged: list[Comparison],
    pictures: Pictures,
    sources: str | Link,
) -> Page:
    """What the report says; `compared` where there are several algorithms, `judged` where there is a claim, `sources`
    of the published scores."""
    runs = results.runs.drop_duplicates("run_id")
    shown = presented(final, about)
    if len(about["envs"]) == 1:
        shown = shown.drop(columns="environment")
    standings = ", ".join(f"{n} {s}" for s, n in runs["status"].value_counts().items())
    return Page(
        title=about["name"],
        question=about["question"],
        answer=(*(claims.sentences(judged) if judged else answer(final, about)), *[note(about)] * bool(note(about))),
        claim=(about["claim"]["source"], claims.verdict(judged)) if judged else None,
        superseded=superseded(about),
        summary=f"{len(runs)} runs: {standings}. {len(about['seeds'])} seeds a variant and environment, "
        f"{final['missing'].sum() or 'none'} of them missing.",
        sections=sections(
            ("The claim", _claimed(about, judged, pictures["claim"])),
            ("Differences from the reference", pictures["differences"]),
            ("Final performance", [Grid(shown), *(text(said, small=True) for said in rules(about))]),
            ("Learning curves", pictures["curves"]),
            ("Every seed", pictures["scores"]),
            ("Comparison", [] if compared is None else _compared(compared, about, sources)),
            ("All environments together", _aggregated(together, pictures["profile"])),
            ("Sensitivity", pictures["sensitivity"]),
            ("Why", [*pictures["why"], *([text(READING, small=True)] if pictures["why"] else [])]),
            ("Runs that did not finish", _absent(results.runs)),
            ("Settings", _settings(about)),
            ("How it was made", _made(runs, about)),
        ),
    )


def aggregated(results: Results, about: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Scores over all environments, written to aggregates.csv too; empty where there is no scale common to them."""
    found = aggregates.aggregates(on_one_scale(scores(results, about), about), about)
    write_text(folder / "aggregates.csv", aggregates.table(found).to_csv(index=False))
    return found


def _aggregated(together: pd.DataFrame, pictures: list[Picture]) -> list[Block]:
    if not len(together):
        return []
    return [Grid(aggregates.presented(together)), text(aggregates.RULES, small=True), *pictures]


def _claimed(about: dict[str, Any], judged: list[Comparison], pictures: list[Picture]) -> list[Block]:
    """Where it is made, its comparisons as a figure and as a table, and what the words mean."""
    if not judged:
        return []
    return [
        text(f"Source: {about['claim']['source']}."),
        *pictures,
        Grid(claims.grid(judged)),
        text(claims.RULES, small=True),
    ]


def _compared(compared: pd.DataFrame, about: dict[str, Any], sources: str | Link) -> list[Block]:
    """The section on several algorithms: the table, what is not in it, the metrics, the sources."""
    shown = compared[(compared["kind"] == "published") & compared["near"]]
    before, after = LEGEND.split(SOURCES)
    blocks: list[Block] = [Grid(presented_comparison(compared, about))]
    if lacking := without_published(compared, about):
        blocks.append(text(lacking))
    blocks.append(text(before, sources, after, small=True))
    if len(shown):
        cited = tuple(f"{key}: {citations()[key]}" for key in sorted(set(shown["source"])))
        blocks += [text("Sources of the published scores:", small=True), Points(cited)]
    return blocks


def _sources(folder: Path) -> str | Link:
    """A link from a report in `folder` to the published scores' document, by name alone outside of the project."""
    root = Path(__file__).resolve().parents[2]
    inside = folder.resolve().is_relative_to(root) and (root / SOURCES).exists()
    return Link(SOURCES, Path(os.path.relpath(root / SOURCES, folder.resolve())).as_posix()) if inside else SOURCES


def _absent(runs: pd.DataFrame) -> list[Block]:
    """What diverged, failed or is not there yet, with reasons."""
    absent = runs[runs["status"] != "finished"]
    columns = ["variant", "env", "seed", "status", "steps", "target_steps", "run_id", "reason"]
    return [Grid(absent.reindex(columns=columns).astype({"reason": object}).fillna({"reason": ""}))] * bool(len(absent))


def _settings(about: dict[str, Any]) -> list[Block]:
    """All options of the reference, and what every other variant changes."""
    configs = [about["config"][about["reference"]][env] for env in about["envs"]]
    values = [[json.dumps(config.get(option)) for config in configs] for option in configs[0]]
    settings = {"option": list(configs[0]), "value": [_everywhere(about["envs"], row) for row in values]}
    variants = about["variants"]
    changed = {
        "variant": list(variants),
        "algorithm": [v["algorithm"] for v in variants.values()],
        "changes": [_changes(v["overrides"]) for v in variants.values()],
        "steps": [_steps(v["steps"]) for v in variants.values()],
    }
    return [
        text("What each variant changes:"),
        Grid(pd.DataFrame(changed)),
        text(f"The reference is `{about['reference']}`: {variants[about['reference']]['algorithm']} with"),
        Grid(pd.DataFrame(settings)),
    ]


def _made(runs: pd.DataFrame, about: dict[str, Any]) -> list[Block]:
    """The command, the machine, the versions, and what it cost."""
    # A cohort's time is all its members' time: count it once.
    seconds = (runs["wall_seconds"] / runs["cohort_size"]).sum()
    hours = f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    random = "; ".join(
        f"{env} {r['return_mean']:.1f} (std {r['return_std']:.1f}, {r['episodes']} episodes)"
        if math.isfinite(r["return_mean"])
        else f"{env} not finite"
        for env, r in about["random"].items()
    )
    facts = {
        "command": about["command"],
        "machine": _distinct(runs, "device"),
        "versions": _distinct(runs, "versions"),
        "code": _distinct(runs, "commit"),
        "compiled": _distinct(runs, "compiled"),
        "threads of a worker": _distinct(runs, "threads"),
        "matrix products": _distinct(runs, "products"),
        "seeds": ", ".join(map(str, about["seeds"])),
        "transitions": f"{runs['steps'].sum():,}",
        "time": f"{hours} in all cohorts together (of several on one machine at once)",
        "random policy's return": random or "not measured",
    }
    return [Grid(pd.DataFrame({"what": list(facts), "value": list(facts.values())}))]


def _everywhere(envs: list[str], values: list[str]) -> str:
    """A value of each environment, or the one of all."""
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
