"""sac-bench figures: an experiment's figures and tables for a paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import QuietOption, ResultsOption, app, complete_result, result_at, say, user_errors
from sac_bench.cli.report import no_results
from sac_bench.errors import InputError, nearest

FORMATS = ("pdf", "png", "svg")
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
"""Units of a width. A point is TeX's."""
NARROWEST, WIDEST = 2.0, 20.0


@app.command(short_help="Write an experiment's figures and a LaTeX table for a paper.")
def figures(
    name: Annotated[
        str, typer.Argument(help="An experiment with results, or a result's folder.", autocompletion=complete_result)
    ],
    formats: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="pdf, png or svg, or several: pdf,png.")
    ] = "pdf",
    width: Annotated[
        Optional[str], typer.Option(metavar="LENGTH", help="The width of every figure: 3.25in, 8cm, 80mm, 240pt.")
    ] = None,
    style: Annotated[str, typer.Option(help="paper (small, without titles) or page (as in reports).")] = "paper",
    x: Annotated[
        Optional[str],
        typer.Option("--x", metavar="AXIS", help="Draw curves against updates, flops or hours, too; several: a,b."),
    ] = None,
    to: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="The folder; by default RESULTS/NAME/paper.")
    ] = None,
    results: ResultsOption = Path("results"),
    quiet: QuietOption = False,
) -> None:
    """Write an experiment's figures for a paper, with captions and a table in LaTeX, without training."""
    with user_errors():
        chosen, inches = formats_of(formats), None if width is None else inches_of(width)
        axes = axes_of(x) if x else []
        from sac_bench.report.figures.style import STYLES, of_width
        from sac_bench.report.paper import write_figures
        from sac_bench.tuning.record import is_study
        from sac_bench.workflow.reports import reported

        if style not in STYLES:
            raise InputError(f"--style {style}: must be {' or '.join(reversed(STYLES))}{nearest(style, STYLES)}")
        name, results = result_at(name, results)
        known = reported(results)
        if name not in known:
            raise no_results(name, results, known)
        if is_study(results / name):
            raise InputError(
                f"{name}: is a study, whose figures are in {results / name / 'figures'}; give an experiment"
            )
        folder = to or results / name / "paper"
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--to {folder}: is a file; give a folder")
        look = STYLES[style] if inches is None else of_width(STYLES[style], inches)
        for path in write_figures(results / name, folder, look, chosen, axes):
            say(path)


def formats_of(text: str) -> list[str]:
    """Return the formats in "pdf,png". Raises InputError for others."""
    chosen = [part.strip().lower().removeprefix(".") for part in text.split(",")]
    if unknown := [one for one in chosen if one not in FORMATS]:
        raise InputError(f"--format {text}: {unknown[0]!r} is unknown; must be {', '.join(FORMATS)}")
    return list(dict.fromkeys(chosen))


def axes_of(text: str) -> list[str]:
    """Return the axes in "flops,hours", without the steps, which are drawn anyway. Raises InputError for others."""
    from sac_bench.analysis.compute import AXES  # imports pandas and SciPy

    chosen = [part.strip().lower() for part in text.split(",")]
    if unknown := [one for one in chosen if one not in AXES]:
        raise InputError(f"--x {text}: {unknown[0]!r} is unknown; must be {', '.join(AXES)}{nearest(unknown[0], AXES)}")
    return [one for one in dict.fromkeys(chosen) if one != "steps"]


def inches_of(text: str) -> float:
    """Return a length with its unit in inches. Raises InputError for what is none, or no width of a figure."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(in|cm|mm|pt)", text.strip())
    if match is None:
        raise InputError(f"--width {text}: must be a length with its unit, such as 3.25in, 8cm, 80mm or 240pt")
    inches = float(match[1]) * INCHES[match[2]]
    if not NARROWEST <= inches <= WIDEST:
        raise InputError(f"--width {text}: must be between {NARROWEST:g}in and {WIDEST:g}in, for text to be legible")
    return inches
