"""Figures and tables of an experiment for a paper or a talk, without its pages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from sac_bench.analysis.scores import up_to_common_steps
from sac_bench.report import latex
from sac_bench.report.figures.all import curves_against, draw_figures
from sac_bench.report.figures.style import Sheet, Style
from sac_bench.report.findings import Findings, readable
from sac_bench.report.tables import rules
from sac_bench.results.collect import refresh
from sac_bench.results.load import load_results
from sac_bench.store.atomic import write_text
from sac_bench.store.store import Store


def write_figures(folder: Path, to: Path, style: Style, formats: Sequence[str], axes: Sequence[str] = ()) -> list[Path]:
    """Write the figures of results/<name>/ to a folder, with figures.tex and table.tex; return all files.

    axes: what to draw learning curves against, too (analysis.compute.AXES).

    figures.tex has the captions, which say what a figure without a title leaves out. During training, they show the
    steps so far that the runs have in common, without verdicts. Raises InputError if the results are damaged.
    """
    refresh(Store(folder.parent), folder.name)
    results = up_to_common_steps(load_results(folder.name, folder.parent))
    with readable(folder):
        findings, sheet = Findings(results, folder), Sheet(to, style, tuple(formats))
        drawn = draw_figures(findings, sheet)
        pictures = list(chain.from_iterable(drawn.values()))
        drawn_stems = {picture.path.stem for picture in pictures}
        more = chain.from_iterable(curves_against(results, axis, sheet) for axis in axes)
        pictures += [picture for picture in more if picture.path.stem not in drawn_stems]
        texts = {
            "figures.tex": latex.figures(pictures, results.manifest.name, style.width if style.is_exact else None),
            "table.tex": latex.final_table(findings.final, results.manifest, rules(results.manifest)),
        }
    for name, text in texts.items():
        write_text(to / name, text)
    stems = [picture.path.stem for picture in pictures]
    return [*(to / f"{stem}.{suffix}" for stem in stems for suffix in formats), *(to / name for name in texts)]
