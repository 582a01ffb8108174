"""What a page says, once, and the two ways to write it: Markdown with its figures beside it, and one HTML file.

The HTML needs no network, no other file and no script: its figures are SVG inside it. Whatever users wrote is escaped.
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
"""CSS pixels in a point, in which matplotlib measures."""
SMALLEST = 0.62
"""A figure is scaled down to this, then it scrolls: its letters stay legible on a phone."""
LONG = 40
"""Characters from which on a table's cell may be broken into lines."""


@dataclass(frozen=True)
class Link:
    """To a file, relative to the page, or to another page, whose suffix is that of the one it stands on."""

    text: str
    target: str
    to_page: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph of words and links; what stands in backticks is code."""

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
    """A table for a reader: strings."""

    table: pd.DataFrame
    kind: ClassVar[str] = "grid"

    @property
    def rows(self) -> list[list[str]]:
        return [list(row) for row in as_text(self.table).itertuples(index=False, name=None)]


@dataclass(frozen=True)
class Picture:
    """A figure, as PNG and as SVG beside it; what it shows, for those who see it and those who do not."""

    path: Path
    caption: str
    kind: ClassVar[str] = "picture"


Block = Text | Points | Grid | Picture


@dataclass(frozen=True)
class Section:
    title: str | Link
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A question and its answer, then the rest."""

    title: str
    question: str
    answer: tuple[str, ...]
    """Sentences, a paragraph each."""
    summary: str
    """How many runs, and how they ended."""
    sections: tuple[Section, ...]
    claim: tuple[str, str] | None = None
    """Of a claim's page: where it is made, and its verdict in a word or a few."""
    superseded: str = ""
    """Which other versions of algorithms trained what it reports on (results/versions.py)."""


def text(*parts: str | Link, small: bool = False) -> Text:
    """A paragraph."""
    return Text(parts, small)


def written(page: Page, path: Path) -> Page:
    """Write a page as path.md and path.html; the page again."""
    for suffix in (".md", ".html"):
        write_text(path.with_name(path.name + suffix), render(page, suffix))
    return page


def render(page: Page, suffix: str) -> str:
    """The page in the language of a suffix, ".md" or ".html"."""
    return _templates(suffix).get_template(f"page{suffix}").render(page=page)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as a string, a missing one empty: what pandas' astype(str) makes of those depends on its version."""
    return table.astype(object).map(lambda cell: "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell))


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown, where a "|" ends a cell."""
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
        "unbroken": lambda cell: re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), cell),
        "capitalize_first": lambda words: words[:1].upper() + words[1:],
        "class_of": lambda cell: "long" if len(cell) > LONG else "",
    }
    environment.globals["suffix"] = suffix
    return environment


def _escaped(value: object) -> object:
    """What users wrote, once: what a macro made of it is escaped already. A ">" between spaces ends no tag, and in code
    Markdown would show it escaped."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r" &gt;(=?) ", r" >\1 ", html.escape(value, quote=False))


def _coded(words: str) -> Markup:
    """Escaped, with what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(words)))


def _name_of(title: str | Link) -> str:
    return title.text if isinstance(title, Link) else title


def anchor(title: str | Link) -> str:
    """A section's place in its page."""
    return re.sub(r"[^a-z0-9]+", "-", _name_of(title).lower()).strip("-")


@dataclass(frozen=True)
class Drawing:
    """An SVG to be put into a page."""

    source: str
    """A data URI."""
    width: int
    height: int

    @property
    def least(self) -> int:
        """The width below which it is not shrunk."""
        return round(SMALLEST * self.width)


def drawing(picture: Picture) -> Drawing:
    """A picture's SVG without comments and space between its tags. ValueError where it does not say its size."""
    path = picture.path.with_suffix(".svg")
    svg = path.read_text(encoding="utf-8")
    tag = re.search(r"<svg [^>]*>", svg)
    size = dict(re.findall(r'\b(width|height)="([\d.]+)pt"', tag[0])) if tag else {}
    if len(size) < 2:
        raise ValueError(f"{path} does not say its width and height")
    svg = _without_ballast(svg)
    width, height = (round(POINTS * float(size[side])) for side in ("width", "height"))
    return Drawing("data:image/svg+xml," + quote(svg, safe=" ,;:=/()!*+?@$-_.~"), width, height)


def _without_ballast(svg: str) -> str:
    """Return an SVG without comments, white space and names that nothing refers to, with coordinates to 0.01 point."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    svg = re.sub(r' id="[A-Za-z.]+_\d+"', "", svg)
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), svg)


def sections(*found: tuple[str | Link, Sequence[Block]]) -> tuple[Section, ...]:
    """Those of (title, blocks) that have something to show."""
    return tuple(Section(title, tuple(blocks)) for title, blocks in found if blocks)
