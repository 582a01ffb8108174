"""The style of all figures, and their output. Sizes are in inches and points."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.ticker
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sac_bench.analysis.statistics import bootstrap_iqm
from sac_bench.report.labels import FORMULA
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import write_atomically

PALETTE = sns.color_palette("colorblind")
COLORS = [PALETTE[i] for i in (0, 1, 2, 3, 4, 5, 9, 6, 8)]
"""Colours of variants, in their order. The palette's seventh is the gray of the random policy's line."""
DPI = 120
PNG_COLORS = 256
REFERENCE = {"color": "black", "linewidth": 1.8}
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (7, 2, 1, 1, 1, 1)))
"""Line styles of an experiment's algorithms or, if it has one, of its variants, in their order."""
MARKERS = "osD^vph<>*"
SEEDS_FOR_IQM = 5
"""With fewer seeds, curves are means in bands from the lowest to the highest seed."""


def _band_of_range(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0)


Summary = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
SUMMARIES: dict[str, tuple[Summary, str]] = {
    "range": (_band_of_range, "mean over seeds; band: lowest to highest seed"),
    "iqm": (bootstrap_iqm, "IQM over seeds; band: 95% bootstrap interval"),
}
"""{name: (function from curves [seeds, T] to middle, low and high [T], its description)}."""


def statistic_of(manifest: Manifest) -> str:
    """Return the summary of an experiment's curves. With few seeds, the mean and range, as the IQM is hardly other."""
    most = max(len(manifest.seeds_of(env, variant)) for env in manifest.envs for variant in manifest.variants)
    return "iqm" if most >= SEEDS_FOR_IQM else "range"


@dataclass(frozen=True)
class Style:
    """The width and text of figures."""

    name: str
    width: float
    """Of a figure: exactly, or at most."""
    is_exact: bool
    panel: float
    """The least width of a panel with a scale of its own."""
    text: float
    small: float
    """Points of legends, numbers at axes, and notes."""
    label: int
    """Characters of a row's label in a line."""
    has_titles: bool
    """Whether a panel that stands alone has a title. Panels that stand side by side always have."""
    tallest: float
    """The height in inches, without legends, up to which panels and rows have their usual heights."""

    page: float
    """The height in inches that a figure has at most, if it can be split."""

    def squeezed(self, height: float, least: float) -> float:
        """Return a figure's height, reduced to the tallest but to no less than a share of it."""
        return min(height, max(self.tallest, least * height))


PAGE = Style("page", 8.6, False, 2.8, 9.5, 8.0, 32, True, np.inf, np.inf)
PAPER = Style("paper", 3.25, True, 2.1, 8.0, 7.0, 20, False, 5.5, 9.0)
STYLES = {style.name: style for style in (PAGE, PAPER)}
MIN_PANEL_HEIGHT = 1.2
"""The least height of a panel."""
LEGIBLE_PANEL_HEIGHT = 1.35
"""The height of a panel down to which a page with many is filled."""
WIDEST = 4.6
"""A panel, if the width of figures is a maximum."""


def house_style(style: Style = PAGE) -> None:
    """Set the style of all figures. Text in SVG files is drawn, so that it has the same width everywhere."""
    scale = style.text / PAGE.text
    settings = {
        "svg.hashsalt": "sac_bench",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,  # TrueType: what publishers accept
        "font.sans-serif": ["DejaVu Sans"],  # matplotlib ships it
        "figure.dpi": DPI,
        "savefig.dpi": DPI if style is PAGE else 300,
        "font.size": style.text,
        "axes.titlesize": style.text,
        "axes.labelsize": style.text,
        "figure.titlesize": style.text,
        "figure.labelsize": style.text,
        "xtick.labelsize": style.small,
        "ytick.labelsize": style.small,
        "legend.fontsize": style.small,
        "legend.title_fontsize": style.small,
        "axes.linewidth": 0.8 * scale,
        "grid.linewidth": 0.6 * scale,
        "xtick.major.pad": 2.5 * scale,
        "ytick.major.pad": 2.5 * scale,
    }
    sns.set_theme(style="whitegrid", context="paper", rc=settings)


@dataclass(frozen=True)
class Sheet:
    """Where figures are written, in which style and formats."""

    folder: Path
    style: Style = PAGE
    formats: tuple[str, ...] = ("svg", "png")

    def write(self, figure: Figure, name: str) -> Path:
        """Write a figure; return its path in the last format."""
        return write_figure(figure, self.folder / name, self.formats)


def variant_styles(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return {variant: its line style in all figures}, by its order in the file; the reference is black.

    Dashes distinguish algorithms, or the variants of a single one without colours.
    """
    algorithms, styles = manifest.algorithms, {}
    others = [name for name in manifest.variants if name != manifest.reference]
    for name, variant in manifest.variants.items():
        at = 0 if name == manifest.reference else others.index(name) + 1
        dash = DASHES[(algorithms.index(variant.algorithm) if len(algorithms) > 1 else at) % len(DASHES)]
        own = REFERENCE if name == manifest.reference else {"color": COLORS[(at - 1) % len(COLORS)], "linewidth": 1.3}
        styles[name] = own | {"linestyle": dash}
    return styles


class Sweep(NamedTuple):
    """The variants {name: value} that differ from a base in one numeric option; with the base, if it has a number.

    title: what readers call it, "reward scale of fixed temperature"; label: what they call the option.
    """

    option: str
    base: str
    values: dict[str, float]
    title: str
    label: str


class Group(NamedTuple):
    """Variants that are drawn in a panel, with its title."""

    title: str
    variants: list[str]


def sweeps(manifest: Manifest) -> dict[str, Sweep]:
    """Return {name: sweep}. The name, for files, is the option; of a base other than the reference "option of base"."""
    swept: dict[str, Sweep] = {}
    for name, variant in manifest.variants.items():
        if variant.swept:
            option, value = variant.swept
            base = variant.sweep_of or manifest.reference
            label = variant.sweep_label or option
            key, title = (
                (option, label)
                if base == manifest.reference
                else (f"{option} of {base}", f"{label} of {manifest.label(base)}")
            )
            swept.setdefault(key, Sweep(option, base, {}, title, label)).values[name] = value
    for sweep in swept.values():
        own = option_of(manifest, sweep)
        if own is not None and own not in sweep.values.values():
            sweep.values[sweep.base] = own
    return swept


def option_of(manifest: Manifest, sweep: Sweep) -> float | None:
    """Return the value that a sweep's base has in the first environment, if it is a number."""
    own = manifest.option(sweep.base, manifest.envs[0], sweep.option)
    return float(own) if isinstance(own, (int, float)) else None


def panels(manifest: Manifest) -> dict[str, Group]:
    """Return {name for files: group}: one of the named variants and one per sweep, each with the reference."""
    swept = sweeps(manifest)
    named = [name for name, v in manifest.variants.items() if not v.swept]
    groups = named_groups(manifest) if len(named) > 1 or not swept else {}
    for key, sweep in swept.items():
        others = sorted((name for name in sweep.values if name != sweep.base), key=sweep.values.__getitem__)
        groups[key] = Group(sweep.title, [sweep.base, *others])
    return {
        key: Group(title, [manifest.reference, *(name for name in names if name != manifest.reference)])
        for key, (title, names) in groups.items()
    }


def named_groups(manifest: Manifest) -> dict[str, Group]:
    """Return {name for files: group} of the variants that are not swept: by their groups if colours would repeat."""
    named = [name for name, variant in manifest.variants.items() if not variant.swept]
    headings = dict.fromkeys(manifest.variants[name].group for name in named)
    if len(named) <= len(COLORS) or len(headings) == 1:
        return {"variants": Group("variants", named)}
    of_heading = {one: [name for name in named if manifest.variants[name].group == one] for one in headings}
    return {f"variants {one or 'others'}": Group(one or "others", names) for one, names in of_heading.items()}


def panel_grid(
    count: int, style: Style, ratio: float = 0.72, least: float | None = None, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns], as many in a row as fit; surplus axes are hidden.

    ratio: a panel's height by its width. least: its least width, by default the style's.
    """
    columns, rows = even_grid(count, panels_in_a_row(style, least))
    width = style.width if style.is_exact else min(style.width, columns * WIDEST + 0.4)
    height = max(MIN_PANEL_HEIGHT, min(ratio * width / columns, max(LEGIBLE_PANEL_HEIGHT, style.tallest / rows)))
    return _grid(count, columns, rows, (width, rows * height), options)


def panels_in_a_row(style: Style, least: float | None = None) -> int:
    """Return how many panels of a least width, by default the style's, fit side by side."""
    return max(1, int(style.width / (least or style.panel) + 1e-9))


def row_panels(count: int, columns: int, rows: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure of this size and its axes [rows, columns], with shared rows; surplus axes are hidden."""
    return _grid(count, columns, rows, (width, height), {"sharey": True})


def _grid(
    count: int, columns: int, rows: int, size: tuple[float, float], options: Mapping[str, Any]
) -> tuple[Figure, np.ndarray]:
    figure, axes = subplots(rows, columns, size, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes


def subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of this size in inches and its axes [rows, columns].

    pyplot does not know it, so it opens no window, and the backend that a notebook or program has chosen stays.
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def even_grid(count: int, most: int) -> tuple[int, int]:
    """Return columns and rows for so many panels, at most `most` in a row: as few rows as fit, about equally full."""
    rows = -(-count // max(1, most))
    return -(-count // rows), rows


def grown(figure: Figure, inches: float) -> None:
    """Make a figure higher, for what stands outside its panels."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches)


class Legend(NamedTuple):
    """The columns of a legend, and its height in inches."""

    columns: int
    inches: float

    @classmethod
    def of(cls, labels: Sequence[str], width: float, style: Style) -> Legend:
        """Return the legend below a figure of this width."""
        em = style.small / 72
        entry = (3.9 + 0.56 * max(map(len, labels))) * em
        columns, rows = even_grid(len(labels), int((width - 0.1) / entry))
        return cls(columns, (1.5 * rows + 0.8) * em)


def shared_legend(figure: Figure, style: Style, names: Mapping[str, str] | Sequence[str]) -> None:
    """Put one legend for all panels below them, in the order of `names`, {label of a line: what to call it} or labels.

    A label that nothing has is left out.
    """
    drawn: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            drawn.setdefault(label, handle)
    called = dict(names) if isinstance(names, Mapping) else dict(zip(names, names, strict=True))
    labels = [label for label in called if label in drawn]
    if not labels:
        return
    legend = Legend.of([called[label] for label in labels], figure.get_size_inches()[0], style)
    height = figure.get_size_inches()[1]
    most = max(style.page, legend.inches + MIN_PANEL_HEIGHT)  # pages_of leaves all panels a legible height
    grown(figure, min(legend.inches, most - height))
    figure.legend(
        [drawn[label] for label in labels],
        [called[label] for label in labels],
        loc="outside lower center",
        frameon=False,
        ncols=legend.columns,
        handlelength=2.4,
        columnspacing=1.0,
        labelspacing=0.35,
        borderaxespad=0.2,
    )


def wrapped(label: str, width: int) -> str:
    """Return a variant's label on lines of at most `width` characters if it has spaces or "+" to break at.

    It does not break beside "=", or within a formula.
    """
    kept = label.replace("+", "+ ").replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    kept = FORMULA.sub(lambda formula: formula[0].replace(" ", "\N{NO-BREAK SPACE}"), kept)
    lines = textwrap.wrap(kept, width, break_long_words=False, break_on_hyphens=False)
    return FORMULA.sub(lambda formula: formula[0].replace("\N{NO-BREAK SPACE}", " "), "\n".join(lines)).replace(
        "+ ", "+"
    )


def ticks(most: int) -> matplotlib.ticker.Locator:
    """Return a locator of at most so many round numbers."""
    return matplotlib.ticker.MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])


def random_line(axis: Axes, manifest: Manifest, env: str, vertical: bool = False) -> None:
    """Draw a line at a random policy's return, if that is known."""
    random = manifest.random_return(env)
    if np.isfinite(random):
        line = axis.axvline if vertical else axis.axhline
        line(random, color="gray", linewidth=0.8, linestyle=":", label="random policy")


def of_width(style: Style, inches: float) -> Style:
    """Return a style with figures of exactly this width."""
    return replace(style, width=inches, is_exact=True)


def _with_palette(png: io.BytesIO, dpi: float) -> io.BytesIO:
    """Return the PNG with a palette of 256 colours, which makes it a third of the size."""
    small = io.BytesIO()
    picture = Image.open(png).convert("RGB").quantize(PNG_COLORS, dither=Image.Dither.NONE)
    picture.save(small, "PNG", optimize=True, dpi=(dpi, dpi))
    return small


METADATA: dict[str, dict[str, Any] | None] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
"""{format: what makes files of the same figure the same}."""


def write_figure(figure: Figure, path: Path, formats: Iterable[str] = ("svg", "png")) -> Path:
    """Write a figure in formats, deterministically, beside `path`; return the path of the last one."""
    if engine := figure.get_layout_engine():  # once for all formats, because it takes longer than drawing
        engine.execute(figure)
        figure.set_layout_engine("none")
    for suffix in formats:
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, metadata=METADATA[suffix])
        if suffix == "png":
            drawn = _with_palette(drawn, matplotlib.rcParams["savefig.dpi"])
        write_atomically(path.with_name(f"{path.name}.{suffix}"), drawn.getvalue())
    return path.with_name(f"{path.name}.{suffix}")
