"""All figures of an experiment's report, by section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis import claim_words
from sac_bench.analysis.aggregates import on_one_scale
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.compute import AXES, differs
from sac_bench.analysis.differences import CORRECTED
from sac_bench.analysis.factorial import Effect
from sac_bench.analysis.scores import at_words, scores
from sac_bench.report.figures.comparison import (
    at_equal_steps,
    compared_panels,
    comparison_curves,
    comparison_names,
    published_shapes,
    whole_trainings,
)
from sac_bench.report.figures.compute import FRONT, pareto
from sac_bench.report.figures.curves import Panel, in_caption, learning_curves, names_of
from sac_bench.report.figures.diagnostics import diagnostics, measured
from sac_bench.report.figures.diagnostics import pages as diagnostics_pages
from sac_bench.report.figures.factorial import LINES, effects, interactions
from sac_bench.report.figures.forest import claim_forest, claim_pages, forest, forest_pages
from sac_bench.report.figures.groups import Group, named_groups, panels, sweeps
from sac_bench.report.figures.looks import Progress, looks
from sac_bench.report.figures.looks import pages as looks_pages
from sac_bench.report.figures.pages import pages_of
from sac_bench.report.figures.profile import profile
from sac_bench.report.figures.scores import final_scores, sensitivity, sensitivity_pages
from sac_bench.report.figures.scores import pages as scores_pages
from sac_bench.report.figures.style import PAPER, Sheet, house_style, variant_styles
from sac_bench.report.findings import Findings
from sac_bench.report.page import NARROW, Picture
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import file_name

T = TypeVar("T")
Pictures = dict[str, list[Picture]]
"""{section: its figures}: claim, effects, differences, looks, curves, scores, compute, profile, sensitivity and
diagnostics."""
OWN = (
    "claim",
    "profile",
    "effects*",
    "interactions*",
    "pareto*",
    "comparison*",
    "curves-*",
    "sensitivity-*",
    "diagnostics-*",
)
"""Names of figures that not every report has, and that earlier ones may have left."""


def write_figures(findings: Findings, folder: Path) -> Pictures:
    """Write all figures that an experiment's results allow, for a page; delete those of earlier results.

    The first ones are also written to the subfolder NARROW, for phones.
    """
    narrow = draw_forests(findings, Sheet(folder / NARROW, PAPER, ("svg",)))
    stems = {picture.path.stem for of_section in narrow.values() for picture in of_section}
    for path in (folder / NARROW).glob("*.svg"):
        if path.stem not in stems:
            path.unlink()
    pictures = draw_figures(findings, Sheet(folder))
    written = {picture.path.stem for of_section in pictures.values() for picture in of_section}
    for path in [path for name in OWN for path in folder.glob(f"{name}.*")]:
        if path.suffix in (".png", ".svg") and path.stem not in written:
            path.unlink()
    return pictures


def draw_figures(findings: Findings, sheet: Sheet) -> Pictures:
    """Write all figures that an experiment's results allow on a sheet."""
    results, manifest = findings.results, findings.manifest
    table = scores(results)
    return draw_forests(findings, sheet) | {
        "looks": _looks(findings.progress, sheet),
        "curves": _curves(results, sheet),
        "scores": _scores(table, manifest, sheet),
        "compute": _compute(findings.compute, results, sheet),
        "profile": _profile(table, manifest, sheet),
        "sensitivity": _sensitivity(table, manifest, sheet),
        "diagnostics": _diagnostics(results, sheet),
    }


def draw_forests(findings: Findings, sheet: Sheet) -> Pictures:
    """Write the figures of effects and differences on a sheet. A claim's replaces the differences."""
    sheet.folder.mkdir(parents=True, exist_ok=True)
    house_style(sheet.style)
    manifest = findings.manifest
    return {
        "claim": _claim(findings.comparisons, manifest, sheet),
        "effects": _effects(findings.effects, findings.results, sheet),
        "differences": [] if findings.comparisons else _differences(findings.final, manifest, sheet),
    }


def name_of(env: str, manifest: Manifest) -> str:
    """Return an environment's part of a figure's file name."""
    return file_name(env, manifest.envs)


def _noted(manifest: Manifest) -> str:
    """Return a sentence on the steps at which runs are scored, if that is not at the end of every training."""
    places = [f"{env}{at_words(manifest, env)}" for env in manifest.envs if at_words(manifest, env)]
    return f" Scored on {', '.join(places)}." if places else ""


def _claim(comparisons: Sequence[Comparison], manifest: Manifest, sheet: Sheet) -> list[Picture]:
    if not any(np.isfinite(one.normalised.value) for one in comparisons):
        return []
    caption = (
        "The claim's comparisons: a - b with intervals, in gains if the measure is in units of return. "
        + (f"{claim_words.CORRECTED} " if any(one.verdict.word for one in comparisons) else "95% intervals. ")
        + "Grey: the margin within which differences do not matter. Right: outcomes."
        + _noted(manifest)
    )
    draw = partial(claim_forest, style=sheet.style)
    return _written("claim", caption, claim_pages(comparisons, sheet.style), draw, sheet)


def _effects(found: Sequence[Effect], results: Results, sheet: Sheet) -> list[Picture]:
    pictures = []
    for env in dict.fromkeys(one.env for one in found):
        of_env = [one for one in found if one.env == env]
        name = name_of(env, results.manifest)
        caption = f"Effects on the score on {env}, with 95% intervals. Colours: verdicts, corrected for all effects."
        path = sheet.write(effects(of_env, results, sheet.style), f"effects-{name}")
        pictures.append(Picture(path, caption))
        pairs = [(one.factors[0], one.factors[1]) for one in of_env if len(one.factors) == 2]
        if not pairs:
            continue
        caption = (
            f"Mean scores on {env} at the levels of two factors, over the levels of the others, with 95% intervals. "
            "Lines that are not parallel show an interaction."
        )
        parts = pages_of(pairs, lambda _: LINES, sheet.style)
        draw = partial(interactions, results, env, style=sheet.style)
        pictures += _written(f"interactions-{name}", caption, parts, draw, sheet)
    return pictures


def _differences(final: pd.DataFrame, manifest: Manifest, sheet: Sheet) -> list[Picture]:
    if not final["difference"].notna().any():
        return []
    corrected = final["corrected_ci_low"].notna().any()
    intervals = f"intervals. {CORRECTED}" if corrected else "95% intervals."
    caption = (
        f"Differences from {manifest.label(manifest.reference)} with {intervals} Right: verdicts.{_noted(manifest)}"
    )
    others = [name for name in manifest.variants if name != manifest.reference]
    shown = {name: (manifest.label(name), variant.group) for name, variant in manifest.variants.items()}
    colors = {name: style["color"] for name, style in variant_styles(manifest).items()}

    def draw(part: tuple[Sequence[str], Sequence[str]]) -> Figure:
        return forest(final, *part, manifest.label(manifest.reference), sheet.style, shown, colors)

    parts = forest_pages(final, manifest.envs, others, sheet.style, shown)
    return _written("differences", caption, parts, draw, sheet)


def _looks(progress: Sequence[Progress], sheet: Sheet) -> list[Picture]:
    if not progress:
        return []
    caption = (
        "Differences at every look at the results, with intervals that hold for all looks together. The last, coloured "
        "one is the look at which a comparison was decided or stopped. Grey: the margin."
    )
    draw = partial(looks, style=sheet.style)
    return _written("looks", caption, looks_pages(progress, sheet.style), draw, sheet)


def _curves(results: Results, sheet: Sheet) -> list[Picture]:
    """Write the curves of several algorithms, and those of a single one and of sweeps.

    The latter have a figure per group of variants with a panel per environment; with one environment, one figure with
    a panel per group.
    """
    if not len(results.evaluations):
        return []
    manifest = results.manifest
    several = len(manifest.algorithms) > 1
    pictures = _comparison(results, sheet) if several else []
    compared = named_groups(manifest) if several else ()
    return pictures + _curves_of(
        results, sheet, {key: group for key, group in panels(manifest).items() if key not in compared}
    )


def curves_against(results: Results, axis: str, sheet: Sheet) -> list[Picture]:
    """Write the curves of all variants against what training took, one of analysis.compute.AXES."""
    return _curves_of(results, sheet, panels(results.manifest), axis) if len(results.evaluations) else []


def _curves_of(results: Results, sheet: Sheet, groups: Mapping[str, Group], axis: str = "steps") -> list[Picture]:
    """Write the curves of groups of variants, as `_curves` does."""
    manifest, pictures = results.manifest, list[Picture]()
    words, start = ("", "curves-") if axis == "steps" else (f" against {AXES[axis].label}", f"curves-by-{axis}-")
    evaluated = [env for env in manifest.envs if (results.evaluations["env"] == env).any()]
    if len(evaluated) == 1:
        shown = [Panel(title, evaluated[0], tuple(variants)) for title, variants in groups.values()]
        if len(shown) == 1:
            shown = [replace(shown[0], title=evaluated[0])]
        figures = {name_of(evaluated[0], manifest): (f"on {evaluated[0]}", shown)} if shown else {}
    else:
        figures = {
            file_name(key, groups): (f"of {title}", [Panel(env, env, tuple(variants)) for env in evaluated])
            for key, (title, variants) in groups.items()
        }
    for name, (places, drawn) in figures.items():
        found = [replace(panel, against=axis) for panel in drawn]
        caption = f"Learning curves {places}{words}: {in_caption(results, found)}{_noted(manifest)}"
        draw = partial(learning_curves, results, style=sheet.style)
        parts = pages_of(found, lambda part: list(names_of(manifest, part).values()), sheet.style)
        pictures += _written(f"{start}{name}", caption, parts, draw, sheet)
    return pictures


def _written(name: str, caption: str, parts: Sequence[T], draw: Callable[[T], Figure], sheet: Sheet) -> list[Picture]:
    """Draw and write a figure, in several numbered ones if it does not fit one page."""
    if len(parts) == 1:
        return [Picture(sheet.write(draw(parts[0]), name), caption)]
    return [
        Picture(sheet.write(draw(part), f"{name}-{i}"), f"Part {i} of {len(parts)}. {caption}")
        for i, part in enumerate(parts, 1)
    ]


def _comparison(results: Results, sheet: Sheet) -> list[Picture]:
    """Write the curves of all algorithms to equal steps and, if some train longer, of whole trainings."""
    manifest = results.manifest
    equal, whole = at_equal_steps(manifest), whole_trainings(manifest)
    pictures = _compared(results, equal, "comparison", "Learning curves to equal steps", sheet)
    if whole != equal:
        words = "Whole trainings, which end at different steps: only up to the line do they compare algorithms"
        pictures += _compared(results, whole, "comparison-whole", words, sheet)
    return pictures


def _compared(results: Results, until: Mapping[str, int], name: str, words: str, sheet: Sheet) -> list[Picture]:
    shown = compared_panels(results.manifest)
    published = published_shapes(results.manifest, until)
    marked = " Markers: published final evaluations (docs/published.md), mean and standard deviation, or IQM where "
    marked += "marked; those beyond the axis are stacked at its edge, each with its value and an arrow."
    caption = f"{words}: {in_caption(results, shown, until)}{marked if published else ''}"
    parts = pages_of(shown, lambda part: list(comparison_names(results.manifest, part, until).values()), sheet.style)
    draw = partial(comparison_curves, results, until, sheet.style)
    return _written(name, caption + _noted(results.manifest), parts, draw, sheet)


def _scores(table: pd.DataFrame, manifest: Manifest, sheet: Sheet) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    caption = (
        "Scores: one dot per seed, mean and 95% interval (Student's t). Dashed: the reference's mean. Dotted: a random "
        "policy." + _noted(manifest)
    )

    def draw(part: tuple[Sequence[str], Sequence[str]]) -> Figure:
        return final_scores(table, manifest, sheet.style, *part)

    return _written("final", caption, scores_pages(manifest, sheet.style), draw, sheet)


def _compute(table: pd.DataFrame, results: Results, sheet: Sheet) -> list[Picture]:
    """Write scores and curves against FLOPs, if these are known and differ between variants."""
    manifest = results.manifest
    if not differs(table):
        return []
    caption = (
        "Scores at the end of each training against its FLOPs: mean and 95% interval (Student's t). Grey: the Pareto "
        "front, variants that no cheaper one exceeds."
    )
    names = [*map(manifest.label, manifest.variants), FRONT, "random policy"]
    parts = pages_of(manifest.envs, lambda _: names, sheet.style)
    draw = partial(pareto, table, manifest, sheet.style)
    return [*_written("pareto", caption, parts, draw, sheet), *curves_against(results, "flops", sheet)]


def _profile(table: pd.DataFrame, manifest: Manifest, sheet: Sheet) -> list[Picture]:
    """Write the profile over several environments; of one it would show no more than the scores."""
    scaled = on_one_scale(table, manifest)
    if len(scaled) < 2:
        return []
    without = [task for task in manifest.tasks if task not in scaled]
    caption = (
        f"Share of runs above a score, over {', '.join(scaled)}. Score 0 is a random policy's, 1 the mean of "
        f"{manifest.label(manifest.reference)}. Bands: 95% stratified bootstrap."
        + (f" Without {', '.join(without)}, where this scale is not defined." if without else "")
        + _noted(manifest)
    )
    return [Picture(sheet.write(profile(scaled, manifest, sheet.style), "profile"), caption)]


def _sensitivity(table: pd.DataFrame, manifest: Manifest, sheet: Sheet) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    pictures = []
    for key, sweep in sweeps(manifest).items():
        draw = partial(sensitivity, table, manifest, sweep, sheet.style)
        caption = f"Score against {sweep.title}: mean and 95% interval, one dot per seed.{_noted(manifest)}"
        parts = sensitivity_pages(manifest, sweep, sheet.style)
        pictures += _written(f"sensitivity-{file_name(key)}", caption, parts, draw, sheet)
    return pictures


def _diagnostics(results: Results, sheet: Sheet) -> list[Picture]:
    manifest, pictures = results.manifest, []
    for env in manifest.envs:
        for key, (title, variants) in panels(manifest).items():
            if measured(results, env, variants):
                name = f"diagnostics-{name_of(env, manifest)}-{file_name(key)}"
                draw = partial(diagnostics, results, env, variants, sheet.style)
                caption = (
                    f"Training metrics on {env}, {title}: means over the updates between two evaluations. "
                    f"Line: median over seeds. Band: lowest to highest seed.{_lengths(manifest, env, variants)}"
                )
                pictures += _written(name, caption, diagnostics_pages(results, env, variants, sheet.style), draw, sheet)
    return pictures


def _lengths(manifest: Manifest, env: str, variants: Sequence[str]) -> str:
    """Return a sentence on how long variants train, if that differs."""
    steps: dict[int, list[str]] = {}
    for name in variants:
        steps.setdefault(manifest.variants[name].steps[env], []).append(manifest.label(name))
    if len(steps) == 1:
        return ""
    lengths = [f"{', '.join(names)}: {n:,} steps" for n, names in steps.items()]
    return f" Trainings differ in length: {'; '.join(lengths)}."
