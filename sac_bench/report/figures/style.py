"""The style of all figures, and their output. Sizes are in inches and points."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
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


def house_style(style: Style = PAGE) -> None:
    """Set the style of all figures. Text in SVG files is drawn, so that it has the same width everywhere."""
    scale = style.text / PAGE.text
    settings = {
        "svg.hashsalt": "sac_bench",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,  # TrueType: what publishers accept
        "font.sans-serif": ["DejaVu Sans"],  # matplotlib ships it
        "text.hinting": "none",  # hinted text is narrower than the same text in SVG, where it was cut at the edge
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
