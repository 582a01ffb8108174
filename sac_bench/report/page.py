"""Pages of reports, written as Markdown with figures beside it and as one HTML file.

The HTML requires no network, other files or scripts: its figures are inline SVG. All text from users is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from sac_bench.store.atomic import write_text

POINTS = 4 / 3
"""CSS pixels per point, matplotlib's unit."""
SMALLEST = 0.62
"""Figures shrink to this scale at most and then scroll, so that their text is legible on a phone."""
LONG = 40
"""Cells of a table may wrap if they have more characters than this."""


@dataclass(frozen=True)
class Link:
    """A link to a file, relative to the page, or to another page, which gets the suffix of the linking page."""

    text: str
    target: str
    to_page: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph of text and links. Text in backticks is code."""

    parts: tuple[str | Link, ...]
    small: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Grid:
    """A table for a reader."""

    table: pd.DataFrame
    kind: ClassVar[str] = "grid"

    @property
    def rows(self) -> list[list[str]]:
        return [list(row) for row in as_text(self.table).itertuples(index=False, name=None)]


@dataclass(frozen=True)
class Picture:
    """A figure, as PNG with an SVG beside it, and its caption, which is also its alternative text."""

    path: Path
    caption: str
    kind: ClassVar[str] = "picture"


Block = Text | Points | Grid | Picture


@dataclass(frozen=True)
class Section:
    title: str | Link
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ClaimSummary:
    """What the index says of a claim."""

    source: str
    verdict: str
    reference: str
    """The variant whose gain scales the claim's margins."""
    reference_runs: frozenset[str]
    """The ids of its runs."""


@dataclass(frozen=True)
class Page:
    """A question and its answer, followed by sections."""

    title: str
    question: str
    answer: tuple[str, ...]
    """One paragraph per item."""
    summary: str
    """How many runs there are and how they ended."""
    sections: tuple[Section, ...]
    claim: ClaimSummary | None = None
    """For a claim's page: what the index says of it."""
    superseded: str = ""
    """Which other versions of algorithms trained its runs (results/versions.py)."""
    devices: str = ""
    """Which kinds of devices trained its runs, if several (results/devices.py)."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the answer."""
        return tuple(filter(None, (self.superseded, self.devices)))


def text(*parts: str | Link, small: bool = False) -> Text:
    """Return a paragraph."""
    return Text(parts, small)


def written(page: Page, path: Path) -> Page:
    """Write a page as path.md and path.html; return it."""
    for suffix in (".md", ".html"):
        write_text(path.with_name(path.name + suffix), render(page, suffix))
    return page


def render(page: Page, suffix: str) -> str:
    """Return a page as text in the format of a suffix, ".md" or ".html"."""
    return _templates(suffix).get_template(f"page{suffix}").render(page=page)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of strings, "" for missing values, which pandas' astype(str) treats differently by version."""
    return table.astype(object).map(lambda cell: "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell))


def markdown(table: pd.DataFrame) -> str:
    """Return a table in GitHub's Markdown, with every "|" in a cell escaped."""
    cells = as_text(table).map(lambda cell: cell.replace("|", "\\|"))
    return str(cells.to_markdown(index=False, disable_numparse=True))


@cache
def _templates(suffix: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sac_bench.report", "templates"),
        autoescape=suffix == ".html",
        finalize=_escaped if suffix == ".md" else lambda value: value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": markdown,
        "coded": _coded,
        "anchor": anchor,
        "name_of": _name_of,
        "drawing": drawing,
        "unbroken": lambda cell: re.sub(r"\[[^\]]*\]", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), cell),
        "capitalize_first": lambda words: words[:1].upper() + words[1:],
        "class_of": lambda cell: "long" if len(cell) > LONG else "",
    }
    environment.globals["suffix"] = suffix
    return environment


def _escaped(value: object) -> object:
    """Escape text for Markdown, but not the output of macros, which is escaped already.

    A ">" between spaces stays: it ends no tag, and in code Markdown would show it escaped.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r" &gt;(=?) ", r" >\1 ", html.escape(value, quote=False))


def _coded(words: str) -> Markup:
    """Return escaped HTML, with text in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(words)))


def _name_of(title: str | Link) -> str:
    return title.text if isinstance(title, Link) else title


def anchor(title: str | Link) -> str:
    """Return a section's id in its page."""
    return re.sub(r"[^a-z0-9]+", "-", _name_of(title).lower()).strip("-")


@dataclass(frozen=True)
class Drawing:
    """An SVG to embed in a page."""

    source: str
    """A data URI."""
    width: int
    height: int

    @property
    def least(self) -> int:
        """The smallest width that it may shrink to, in CSS pixels."""
        return round(SMALLEST * self.width)


def drawing(picture: Picture) -> Drawing:
    """Return a figure's minified SVG. Raises ValueError if it does not state its size."""
    path = picture.path.with_suffix(".svg")
    svg = path.read_text(encoding="utf-8")
    tag = re.search(r"<svg [^>]*>", svg)
    size = dict(re.findall(r'\b(width|height)="([\d.]+)pt"', tag[0])) if tag else {}
    if len(size) < 2:
        raise ValueError(f"{path} does not state its width and height")
    svg = _without_ballast(svg)
    width, height = (round(POINTS * float(size[side])) for side in ("width", "height"))
    return Drawing("data:image/svg+xml," + quote(svg, safe=" ,;:=/()!*+?@$-_.~"), width, height)


def _without_ballast(svg: str) -> str:
    """Return an SVG without comments, white space and unused ids, with coordinates rounded to 0.01 points."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    svg = re.sub(r' id="[A-Za-z.]+_\d+"', "", svg)
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), svg)


def sections(*contents: tuple[str | Link, Sequence[Block]]) -> tuple[Section, ...]:
    """Return the sections of (title, blocks) that have blocks."""
    return tuple(Section(title, tuple(blocks)) for title, blocks in contents if blocks)
