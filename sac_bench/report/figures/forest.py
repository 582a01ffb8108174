"""Forest plots: differences from the reference, and a claim's comparisons, with their intervals and verdicts."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.claim_words import short_outcome
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import words_of
from sac_bench.analysis.statistics import Estimate
from sac_bench.report.figures.layout import even_grid, row_panels, subplots
from sac_bench.report.figures.pages import parts_that_fit, split
from sac_bench.report.figures.style import PAGE, PALETTE, Style, ticks, wrapped

LOOKS = {
    "better": (PALETTE[0], "^"),
    "worse": (PALETTE[3], "v"),
    "equivalent": (PALETTE[2], "s"),
    "undecided": ("0.35", "o"),
    "": ("0.35", "o"),
    "as claimed": (PALETTE[0], "D"),
    "against the claim": (PALETTE[3], "X"),
    "no word": ("0.35", "o"),
}
"""Colour and marker of each verdict and outcome. Markers distinguish them without colours."""
AXIS_MARGIN = 1.3
"""Intervals may extend beyond the values by this multiple of the values' span, or of the median interval's half."""
ROW = 2.6
"""The height of a row in units of the text's size."""
NARROW_CHARACTERS = 16
"""Characters of a line to the right of a row, if there is little room."""
MIN_ROW_HEIGHT = 0.85
"""The least share of a row's height, at which two lines still fit."""
Colors = Mapping[str, Any]
"""{variant: its colour}. Others have that of their verdict."""


def forest(
    final: pd.DataFrame,
    envs: Sequence[str],
    variants: Sequence[str],
    reference: str,
    style: Style = PAGE,
    shown: Mapping[str, tuple[str, str]] | None = None,
    colors: Colors | None = None,
) -> Figure:
    """Draw differences with 95% (thick) and corrected (thin) intervals, and verdicts: one panel per environment.

    Rows are sorted by the difference (with several environments, by its mean rank), within groups. shown: {variant:
    (label, group)}.
    """
    panels = _panels(final, envs, variants, reference, style, shown, colors or {})
    columns, width, height = _size(panels, style)
    _, rows = even_grid(len(panels), columns)
    figure, axes = row_panels(len(panels), columns, rows, width, style.squeezed(rows * height, MIN_ROW_HEIGHT))
    for axis, env, panel in zip(axes.flat, envs, panels, strict=False):
        panel.draw(axis)
        if style.has_titles or len(envs) > 1:
            axis.set_title(env)
    return figure


def forest_pages(
    final: pd.DataFrame,
    envs: Sequence[str],
    variants: Sequence[str],
    style: Style,
    shown: Mapping[str, tuple[str, str]] | None = None,
) -> list[tuple[list[str], list[str]]]:
    """Return the environments and variants of each figure that `forest` draws."""

    def size(names: Sequence[str]) -> tuple[int, float, float]:
        columns, width, height = _size(_panels(final, envs, names, "", style, shown, {}), style)
        return columns, width, MIN_ROW_HEIGHT * height

    groups = {name: (shown or {}).get(name, ("", ""))[1] for name in variants}
    ordered = [name for _, name in _lines(_ranked(final, variants), groups) if name]
    found = []
    for names in parts_that_fit(ordered, lambda names: size(names)[2] <= style.page):
        columns, _, height = size(names)
        found += [(part, names) for part in split(envs, style.page / height, columns)]
    return found


def _panels(
    final: pd.DataFrame,
    envs: Sequence[str],
    variants: Sequence[str],
    reference: str,
    style: Style,
    shown: Mapping[str, tuple[str, str]] | None,
    colors: Colors,
) -> list[_Panel]:
    named = {name: (name, "") for name in variants} | dict(shown or {})
    lines = _lines(_ranked(final, variants), {name: named[name][1] for name in variants})
    labels = [wrapped(named[name][0], style.label) if name else group for group, name in lines]
    width = NARROW_CHARACTERS if style.is_exact or len(envs) > 1 else 36
    return [_Panel(final[final["env"] == env], lines, labels, width, reference, style, colors) for env in envs]


def draw_forest(
    axis: Axes,
    of_env: pd.DataFrame,
    reference: str,
    shown: Mapping[str, tuple[str, str]],
    colors: Colors,
    style: Style = PAGE,
) -> None:
    """Draw what `forest` draws of one environment on given axes; `of_env` has a row per variant that is drawn."""
    variants = list(of_env["variant"])
    lines = _lines(_ranked(of_env, variants), {name: shown[name][1] for name in variants})
    labels = [wrapped(shown[name][0], style.label) if name else group for group, name in lines]
    _Panel(of_env, lines, labels, 36, reference, style, colors).draw(axis)


@dataclass(frozen=True)
class _Panel:
    """The rows of one environment; width: characters of a line right of a row."""

    of_env: pd.DataFrame
    lines: Sequence[tuple[str, str]]
    labels: Sequence[str]
    width: int
    reference: str
    style: Style
    colors: Colors

    @cached_property
    def texts(self) -> dict[str, str]:
        """{variant: what stands right of its row}."""
        return _texts(self.of_env, [name for _, name in self.lines if name], self.width)

    def draw(self, axis: Axes) -> None:
        rows = {row["variant"]: row for row in self.of_env.to_dict("records")}
        estimates = {
            name: (_estimate(row, "difference_ci"), _estimate(row, "corrected_ci")) for name, row in rows.items()
        }  # also of variants on other pages, so that all have the same axis
        limits = _ends(
            np.array([pair[0] for pair in estimates.values()]),
            [x for _, *ends in (pair[1] for pair in estimates.values()) for x in ends],
        )
        for y, (_, name) in enumerate(self.lines):
            if name:
                color, marker = LOOKS[rows[name]["verdict"]]
                color = self.colors.get(name, color)
                _draw(axis, y, *estimates[name], limits, self.texts[name], color, marker, self.style)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(xlim=limits, xlabel=f"score{_at(self.of_env)} minus that of {self.reference}")
        axis.xaxis.set_major_locator(ticks(3 if self.style.is_exact else 4))
        _label_rows(axis, self.labels, [not name for _, name in self.lines])


def _ranked(final: pd.DataFrame, variants: Sequence[str]) -> list[str]:
    """Return variants from the best to the worst difference; those without come last."""
    ranks = (
        final.assign(rank=final.groupby("env")["difference"].rank(ascending=False)).groupby("variant")["rank"].mean()
    )
    return sorted(
        variants, key=lambda name: ranks.get(name, np.nan) if np.isfinite(ranks.get(name, np.nan)) else np.inf
    )


def _lines(variants: Sequence[str], groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the lines of a forest, (group, "") for a heading and ("", variant) for a row, given sorted variants."""
    order = list(dict.fromkeys(groups.values()))
    if order == [""]:
        return [("", name) for name in variants]
    lines = []
    for group in sorted(order, key=lambda group: group == ""):
        lines += [(group or "others", ""), *(("", name) for name in variants if groups[name] == group)]
    return lines


def _size(panels: Sequence[_Panel], style: Style) -> tuple[int, float, float]:
    """Return the columns of panels, the width of their figure, and the height of a panel."""
    labels = panels[0].labels
    em = style.small / 72 * 0.56
    beside = em * (
        max(len(line) for label in labels for line in label.split("\n"))
        + max(len(line) for panel in panels for text in panel.texts.values() for line in text.split("\n"))
    )
    least = beside + (1.6 if style.is_exact else 2.4)
    columns, _ = even_grid(len(panels), int(style.width / least))
    width = style.width if style.is_exact else min(style.width, columns * (least + 0.8))
    texts = [[panel.texts.get(name, "") for panel in panels] for _, name in panels[0].lines]
    height = sum(_height([label, *beside], style) for label, beside in zip(labels, texts, strict=True))
    return columns, width, height + 4.5 * style.text / 72


def _height(texts: Sequence[str], style: Style) -> float:
    """Return the height in inches of a row with these texts beside it. A row has room for two lines on its right."""
    label, *right = (text.count("\n") for text in texts)
    return (ROW + 1.1 * max(label, *(lines - 1 for lines in right), 0)) * style.small / 72


def _label_rows(axis: Axes, labels: Sequence[str], are_headings: Sequence[bool]) -> None:
    axis.grid(visible=False, axis="y")
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(labelleft=True)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    for y, (tick, is_heading) in enumerate(zip(axis.get_yticklabels(), are_headings, strict=True)):
        if is_heading:
            tick.set_fontweight("bold")
            axis.axhline(y - 0.5, color="0.8", linewidth=0.6)


def claim_forest(comparisons: Sequence[Comparison], style: Style = PAGE) -> Figure:
    """Draw a claim's comparisons with 95% (thick) and corrected (thin) intervals, margins and outcomes.

    There is one panel per unit and one row per comparison.
    """
    units, several = _units(comparisons), len({one.env for one in comparisons}) > 1
    labels = {id(one): _label(one, several, style.label) for one in comparisons}
    heights = _claim_heights(comparisons, style)
    longest = max(len(line) for label in labels.values() for line in label.split("\n"))
    width = style.width if style.is_exact else min(style.width, 5.4 + 0.085 * longest)
    figure, axes = subplots(len(units), 1, (width, sum(heights)), height_ratios=heights)
    for axis, (unit, rows) in zip(axes.flat, units.items(), strict=True):
        margins = [sign * one.margin / one.gain for one in rows if one.margin for sign in (-1, 1)]
        corrected = [one.in_gain(one.verdict.corrected) for one in rows]
        limits = _ends(np.array([one.normalised for one in rows]), [*margins, *(x for of in corrected for x in of[1:])])
        for y, one in enumerate(rows):
            if one.margin:
                axis.fill_betweenx([y - 0.4, y + 0.4], -one.margin / one.gain, one.margin / one.gain, color="0.88")
            _draw(axis, y, one.normalised, corrected[y], limits, _outcome(one, style), *LOOKS[one.outcome], style)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(xlim=limits, xlabel=_unit_label(unit, style))
        axis.xaxis.set_major_locator(ticks(3 if style.is_exact else 5))
        _label_rows(axis, [labels[id(one)] for one in rows], [False] * len(rows))
    return figure


def claim_pages(comparisons: Sequence[Comparison], style: Style) -> list[list[Comparison]]:
    """Return the comparisons of each figure that `claim_forest` draws."""
    return parts_that_fit(comparisons, lambda part: sum(_claim_heights(part, style)) <= style.page)


def _units(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Return {unit: its comparisons}."""
    units: dict[str, list[Comparison]] = {}
    for one in comparisons:
        units.setdefault("gains of the reference over a random policy" if one.in_gains else one.label, []).append(one)
    return units


def _claim_heights(comparisons: Sequence[Comparison], style: Style) -> list[float]:
    """Return the height of each unit's panel."""
    labels = {id(one): _label(one, len({other.env for other in comparisons}) > 1, style.label) for one in comparisons}
    return [
        sum(_height([labels[id(one)], _outcome(one, style)], style) for one in rows)
        + (5 + 1.2 * _unit_label(unit, style).count("\n")) * style.text / 72
        for unit, rows in _units(comparisons).items()
    ]


def _outcome(one: Comparison, style: Style) -> str:
    """Return what stands to the right of a comparison's row."""
    return _filled(short_outcome(one), NARROW_CHARACTERS if style.is_exact else 40)


def _unit_label(unit: str, style: Style) -> str:
    """Return the label of the axis of a unit's panel."""
    return textwrap.fill(f"a - b, {unit}", 34 if style.is_exact else 64)


def _at(of_env: pd.DataFrame) -> str:
    """Return " at 30,000 steps" if variants were trained to different steps, else ""."""
    trained = set(of_env.get("steps", ()))
    return f" at {of_env['scored_at'].iloc[0]:,} steps" if len(trained) > 1 else ""


def _label(one: Comparison, with_env: bool, width: int) -> str:
    """Return what was expected, on two lines if it is long, and the environment."""
    a, relation, b = one.expected.split(" ", 2)
    text = one.expected if len(one.expected) <= width + 4 else f"{a}\n{relation} {b}"
    return text + (f"\n{one.env}" if with_env else "")


def _estimate(row: Mapping[Any, Any], interval: str) -> Estimate:
    """Return a row's difference with one of its intervals; without bounds if it has none."""
    low, high = (row.get(f"{interval}_{end}", float("nan")) for end in ("low", "high"))
    return Estimate(row["difference"], low, high)


def _draw(
    axis: Axes,
    y: float,
    interval: Estimate,
    corrected: Estimate,
    limits: tuple[float, float],
    text: str,
    color: Any,
    marker: str,
    style: Style,
) -> None:
    """Draw a row: its text right of the axis, and intervals, with arrows where they continue beyond the axis."""
    axis.text(1.03, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=style.small)
    if pd.isna(interval.value):
        return
    low, high = limits
    if np.isfinite(corrected.value) and not np.isnan(corrected.low):
        axis.plot(np.clip(corrected[1:], low, high), [y, y], color=color, linewidth=0.9, solid_capstyle="butt")
        for end in corrected[1:]:
            if low < end < high:
                axis.plot(end, y, "|", color=color, markersize=5, markeredgewidth=0.9)
    axis.plot(np.clip(interval[1:], low, high), [y, y], color=color, linewidth=2.4, solid_capstyle="butt")
    least, most = np.fmin(interval.low, corrected.low), np.fmax(interval.high, corrected.high)
    for end, is_beyond, arrow in ((low, least < low, "<"), (high, most > high, ">")):
        if is_beyond:
            axis.plot(end, y, arrow, color=color, markersize=4.5, clip_on=False)
    axis.plot(interval.value, y, marker, color=color, markerfacecolor=color if marker != "o" else "white", markersize=6)


def _ends(intervals: np.ndarray, others: Sequence[float] = ()) -> tuple[float, float]:
    """Return the ends of an axis for intervals [R, (value, low, high)] and other places.

    It contains 0, all values, the middle one of the intervals and what is near. Only far wider ones are cut.
    """
    values = intervals[:, 0][np.isfinite(intervals[:, 0])]
    shown = np.append(values, 0.0)
    halves = np.abs(intervals[:, 1:] - intervals[:, :1])
    halves = halves[np.isfinite(halves)]
    room = AXIS_MARGIN * max(float(np.ptp(shown)), float(np.median(halves)) if len(halves) else 0.0) or 1.0
    places = np.concatenate([intervals[:, 1:].ravel(), np.asarray(others, dtype=float), shown])
    places = places[~np.isnan(places)]
    low = max(float(places.min()), float(shown.min()) - room)
    high = min(float(places.max()), float(shown.max()) + room)
    margin = 0.04 * ((high - low) or 1.0)
    return low - margin, high + margin


def _texts(of_env: pd.DataFrame, variants: Sequence[str], width: int) -> dict[str, str]:
    """Return {variant: what stands right of its row}, in lines of about so many characters."""
    rows = {row["variant"]: row for row in of_env.to_dict("records")}
    return {name: _filled(_row_text(rows[name]), width) for name in variants}


def _filled(text: str, width: int) -> str:
    """Return a text in lines of about so many characters, which do not break within "(needs 10 seeds)"."""
    unbroken = re.sub(r"\(needs \d+ seeds\)", lambda needs: needs[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return textwrap.fill(unbroken, width, break_long_words=False)


def _row_text(row: Mapping[Any, Any]) -> str:
    """Return a row's verdict, and which of its runs did not finish."""
    if pd.isna(row["difference"]):
        return "no seeds to compare"
    text = words_of(row, short=True) or f"no verdict: {row['no_verdict']}"
    return text + (f"; {row['ended_otherwise']}" if row["ended_otherwise"] else "")
