"""The style of all figures, and their output as SVG and PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sac_bench.analysis.statistics import bootstrap_iqm
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import write_atomically

PALETTE = sns.color_palette("colorblind")
DPI = 120
COLOURS = 256
REFERENCE = {"color": "black", "linewidth": 1.8}
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (7, 2, 1, 1, 1, 1)))
"""Line styles of an experiment's algorithms, or of a panel's variants, in their order."""
MARKERS = "osD^vph<>*"


def _band_of_range(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0)


Summary = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
SUMMARIES: dict[str, tuple[Summary, str]] = {
    "range": (_band_of_range, "mean over seeds; band: lowest to highest seed"),
    "iqm": (bootstrap_iqm, "IQM over seeds; band: 95% bootstrap interval"),
}
"""{name: (function from curves [seeds, T] to middle, low and high [T], its description)}."""


def house_style() -> None:
    """Set the style of all figures. Text in SVG files stays text."""
    settings = {
        "svg.hashsalt": "sac_bench",
        "svg.fonttype": "none",
        "font.sans-serif": ["DejaVu Sans", "Verdana"],  # equal widths; matplotlib ships the first
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
    }
    sns.set_theme(style="whitegrid", context="paper", rc=settings)


def line_style(place: int, variant: str, manifest: Manifest) -> dict[str, Any]:
    """Return a variant's line style in all figures. Dashes distinguish neighbours without colours."""
    if len(manifest.algorithms) > 1 and (style := comparison_styles(manifest).get(variant)):
        return style  # as in the comparison's curves
    if variant == manifest.reference:
        return dict(REFERENCE)
    return {"color": PALETTE[place % 10], "linewidth": 1.3, "linestyle": DASHES[place % len(DASHES)]}


class Sweep(NamedTuple):
    """The variants {name: value} that differ from a base in one numeric option; with the base, if it has a number."""

    option: str
    base: str
    values: dict[str, float]


def sweeps(manifest: Manifest) -> dict[str, Sweep]:
    """Return {title: sweep}. The title is the option, of a base other than the reference "option of base"."""
    swept: dict[str, Sweep] = {}
    for name, variant in manifest.variants.items():
        if variant.swept:
            option, value = variant.swept
            base = variant.sweep_of or manifest.reference
            title = option if base == manifest.reference else f"{option} of {base}"
            swept.setdefault(title, Sweep(option, base, {})).values[name] = value
    for sweep in swept.values():
        own = option_of(manifest, sweep)
        if own is not None and own not in sweep.values.values():
            sweep.values[sweep.base] = own
    return swept


def option_of(manifest: Manifest, sweep: Sweep) -> float | None:
    """Return the value that a sweep's base has in the first environment, if it is a number."""
    own = manifest.option(sweep.base, manifest.envs[0], sweep.option)
    return float(own) if isinstance(own, (int, float)) else None


def panels(manifest: Manifest) -> dict[str, list[str]]:
    """Return {title: variants}: a panel for the named variants and one per sweep, each with the reference."""
    swept = sweeps(manifest)
    named = [name for name, v in manifest.variants.items() if not v.swept]
    groups = {"variants": named} if len(named) > 1 or not swept else {}
    for title, (_, base, values) in swept.items():
        groups[title] = [base, *sorted((name for name in values if name != base), key=lambda name: values[name])]
    return {
        title: [manifest.reference, *(name for name in names if name != manifest.reference)]
        for title, names in groups.items()
    }


def panel_grid(panels: int, height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, at most two in a row so that it is legible in print; surplus axes are hidden."""
    columns = min(2, panels)
    rows = -(-panels // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.2 * columns + 0.4, height * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[panels:]:
        axis.set_visible(False)
    return figure, axes


def comparison_styles(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return {variant not in a sweep: its line style}: one colour per variant, one dash pattern per algorithm."""
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(manifest.algorithms)}
    colors = [PALETTE[i] for i in (0, 1, 2, 3, 4, 5, 6, 9, 8)]  # 7 is the gray of the random policy's line
    styles, others = {}, 0
    for name, variant in manifest.variants.items():
        if variant.swept:
            continue
        style = dict(REFERENCE) if name == manifest.reference else {"color": colors[others % 9], "linewidth": 1.3}
        others += name != manifest.reference
        styles[name] = style | {"linestyle": dashes[variant.algorithm]}
    return styles


def random_line(axis: Axes, manifest: Manifest, env: str, vertical: bool = False) -> None:
    """Draw a line at a random policy's return, if that is known."""
    random = manifest.random_return(env)
    if np.isfinite(random):
        line = axis.axvline if vertical else axis.axhline
        line(random, color="gray", linewidth=0.8, linestyle=":", label="random policy")


def _with_palette(png: io.BytesIO) -> io.BytesIO:
    """Return the PNG with a palette of 256 colours, which makes it a third of the size."""
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG and PNG, deterministically; return the PNG's path."""
    if engine := figure.get_layout_engine():  # once for both formats, because it takes longer than drawing
        engine.execute(figure)
        figure.set_layout_engine("none")
    for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix[1:], metadata=metadata)
        if suffix == ".png":
            drawn = _with_palette(drawn)
        write_atomically(path.with_name(path.name + suffix), drawn.getvalue())
    plt.close(figure)
    return path.with_name(path.name + ".png")
