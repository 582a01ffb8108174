"""The page that compares two results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import pandas as pd

from sac_bench.analysis.differences import CORRECTED, CORRECTED_BOUNDS
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.errors import InputError
from sac_bench.report.answers import LEGEND as NUMBERS
from sac_bench.report.answers import count_tested, finding
from sac_bench.report.figures.forest import forest
from sac_bench.report.figures.style import house_style, write_figure
from sac_bench.report.labels import is_quick, marked, setting
from sac_bench.report.page import Answer, Block, Grid, Page, Picture, Points, Text, render, sections, text
from sac_bench.report.plain import fitted
from sac_bench.report.protocols import beside, notes
from sac_bench.report.sides import (
    Side,
    by_place,
    compare,
    conditions_that_differ,
    devices,
    only_in_one,
    rules,
    settings_that_differ,
)
from sac_bench.report.tables import scoring, verdict_of
from sac_bench.results.cards import has_imported
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import file_name, write_text

NAME_OF_A = "result A"
"""The reference's name in figures. It cannot be a variant's, because of the space."""
LEGEND = (
    "The reference is A. Seeds: numbers of scored seeds in A and B. Same runs: runs with the same id in both, and "
    "whether their numbers, except times, are equal. Exploded: numbers of such runs in A and B. Variants whose runs "
    "are all identical are not tested and do not count in Holm's correction."
)


def page(a: Side, b: Side, figures: Path, mix_devices: bool = False) -> Page:
    """Return the page that compares two results, with its figures written to a folder. Raises as `compare`."""
    table = compare(a, b, mix_devices)
    imported = has_imported(a.manifest) or has_imported(b.manifest)
    settings = settings_that_differ(a, b)
    conditions = pd.DataFrame() if imported else conditions_that_differ(a, b)
    lone = only_in_one(a, b)
    same: list[Block] = []
    if not len(settings) and not imported:
        same.append(text("Settings are the same in both."))
    if not len(conditions) and not imported:
        same.append(text("Seeds, backend, machine, versions and commit are the same in both."))
    pictures = _pictures(table, figures)
    return Page(
        title=f"{a.folder} and {b.folder}",
        question="Is B different from A?",
        setting=" ".join(dict.fromkeys(setting(side.manifest) for side in (a, b))),
        is_quick=any(is_quick(side.manifest) for side in (a, b)),
        answer=_answer(table, a.manifest, notes(a.results, b.results, list(by_place(table))) if imported else []),
        picture=pictures[0] if len(pictures) == 1 else None,
        devices=devices(a, b, mix_devices),
        summary=f"A: {a.in_words()}. B: {b.in_words()}.",
        sections=sections(
            ("Differences", pictures if len(pictures) > 1 else []),
            (
                "Scores",
                [
                    Grid(presented(table, a.manifest), verdicts=("verdict",)),
                    *(text(note, small=True) for note in (LEGEND, scoring(a.manifest), rules(a, b))),
                ],
            ),
            ("Protocols", beside(a.results, b.results, list(by_place(table))) if imported else []),
            ("Only in one", [Points(tuple(lone))] * bool(lone)),
            ("Other differences", [*(Grid(rows) for rows in (settings, conditions) if len(rows)), *same]),
        ),
    )


def _answer(table: pd.DataFrame, manifest: Manifest, protocols: Sequence[str]) -> Answer:
    """Return a sentence per variant on its differences, and notes on protocols, identical runs, steps and seeds."""
    tested = table[~table["identical"]]
    if not len(tested):
        return Answer("All common runs are bitwise identical.")
    envs = tested["env"].unique()
    spec = "," + score_format(table[["score_a", "score_b"]].abs().max().max())
    count = count_tested(tested)
    sentences = []
    for variant, rows in tested.groupby("variant", sort=False):
        findings = [
            (f"on {row['env']} " if len(envs) > 1 else "")
            + finding(row | {"seeds": _seeds(row["seeds_a"], row["seeds_b"])}, spec, count)
            for row in rows.to_dict("records")
        ]
        sentences.append(f"{marked(manifest, str(variant))}: {'; '.join(findings)}.")
    where = f" on {envs[0]}" if len(envs) == 1 else ""
    return Answer(f"B against A{where}:", tuple(sentences), (*protocols, *_notes(table, not protocols), NUMBERS))


def _seeds(a: int, b: int) -> str:
    """Return how many seeds both sides have: "5", or "5 and 6"."""
    return str(a) if a == b else f"{a} and {b}"


def _notes(table: pd.DataFrame, seeds_mean_the_same: bool) -> list[str]:
    """Return the sentences on identical runs, steps and shared seeds that apply."""
    sentences = []
    tested, same = table[~table["identical"]], table[table["identical"]]
    for env, rows in same.groupby("env", sort=False):
        names = ", ".join(f"`{variant}`" for variant in rows["variant"])
        sentences.append(f"On {env}, bitwise identical in both: {names}.")
    if count := int(table["deviating"].sum()):
        sentences.append(
            f"{count} of the runs have the same id in both (same settings, seed and backend), but different numbers. "
            "The machine, versions, code or cohort changed them."
        )
    unequal = table[table["steps_a"] != table["steps_b"]]
    for (place, *steps), rows in unequal.groupby(["env", "steps_a", "steps_b", "scored_at"], sort=False):
        in_a, in_b, scored = (f"{n:,}" for n in steps)
        names = ", ".join(f"`{variant}`" for variant in rows["variant"])
        sentences.append(f"On {place}, trained to {in_a} steps in A and {in_b} in B, and scored at {scored}: {names}.")
    if seeds_mean_the_same and tested["shared_seeds"].any():
        sentences.append(
            "The results share seeds, and so initial weights and environment seeds. Intervals and verdicts treat them "
            "as independent; r is their correlation."
        )
    return sentences


def presented(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return the table for a reader."""
    spec = "," + score_format(table[["score_a", "score_b"]].abs().max().max())
    rows = []
    for row in table.to_dict("records"):
        gap = interval(row["difference"], row["difference_ci_low"], row["difference_ci_high"], spec=spec)
        comparison = (gap, verdict_of(row), number(row["seed_correlation"], "+.2f"))
        if row["identical"]:
            comparison = ("0", "identical", "")
        rows.append(
            {
                "variant": manifest.label(row["variant"]),
                "environment": row["env"],
                "seeds": f"{row['seeds_a']}, {row['seeds_b']}",
                "A [95% CI]": interval(row["score_a"], row["ci_low_a"], row["ci_high_a"], spec=spec),
                "B [95% CI]": interval(row["score_b"], row["ci_low_b"], row["ci_high_b"], spec=spec),
                **dict(zip(("B - A [95% CI]", "verdict", "r"), comparison, strict=True)),
                "same runs": row["same_runs"],
                "did not finish": row["ended_otherwise"],
                "exploded": f"{row['exploded_a']}, {row['exploded_b']}",
            }
        )
    shown = pd.DataFrame(rows)
    needed = {
        "environment": table["env"].nunique() > 1,
        "did not finish": table["ended_otherwise"].any(),
        "exploded": table["exploded"].any(),
    }
    return shown.drop(columns=[column for column, is_needed in needed.items() if not is_needed])


def _pictures(table: pd.DataFrame, folder: Path) -> list[Picture]:
    """Draw one forest plot per environment, without what is identical."""
    pictures = []
    house_style()
    envs = table["env"].unique()
    for env, rows in table[~table["identical"] & table["difference"].notna()].groupby("env", sort=False):
        seeds = rows["seeds_a"].astype(str) + " and " + rows["seeds_b"].astype(str)
        name = f"differences-{file_name(str(env), envs)}"
        path = write_figure(
            forest(rows.assign(seeds=seeds), [str(env)], list(rows["variant"]), NAME_OF_A), folder / name
        )
        corrected = rows[CORRECTED_BOUNDS[0]].notna().any()
        intervals = f"intervals. {CORRECTED}" if corrected else "95% intervals."
        pictures.append(Picture(path, f"B minus A on {env} with {intervals} Right: verdicts."))
    return pictures


def write_page(a: Side, b: Side, out: Path | None, mix_devices: bool = False) -> Page:
    """Return the page; write it to `out`, an .html file or an .md file with figures/ beside it.

    mix_devices: whether runs of different kinds of devices are compared. Raises InputError for another suffix, or as
    `compare`.
    """
    if out is not None and out.suffix not in (".html", ".md"):
        raise InputError(f"--out {out}: must end in .html or .md")
    with TemporaryDirectory() as scratch:
        figures = out.parent / "figures" if out is not None and out.suffix == ".md" else Path(scratch)
        compared = page(a, b, figures, mix_devices)
        if out is not None:
            write_text(out, render(compared, out.suffix))
    return compared


def in_text(page: Page, width: int) -> str:
    """Return a page for a console with so many columns, without its figures and small print."""
    warnings = [f"{words[:1].upper()}{words[1:]}." for words in page.warnings]
    lines = (*warnings, *page.answer.paragraphs, *page.answer.notes[:-1], page.summary)
    parts = [fill(line, width) for line in lines]
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Grid):
                parts += fitted(block.table, width)
            elif isinstance(block, Points):
                parts.append("\n".join(fill(item, width) for item in block.items))
            elif isinstance(block, Text) and not block.small:
                parts.append(fill("".join(str(part) for part in block.parts), width))
    return "\n\n".join(parts)
