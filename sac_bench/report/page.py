"""Pages of reports, written as Markdown with figures beside it and as one HTML file.

The HTML requires no network, other files or scripts: its figures are inline SVG. All text from users is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from sac_bench.store.atomic import write_text

PIXELS_PER_POINT = 4 / 3
"""CSS pixels per point, matplotlib's unit."""
LONG_CELL = 40
"""Cells of a table may wrap if they have more characters than this."""
MAX_COLUMNS = 7
"""Columns of a table that are shown at once; the others are folded."""
MAX_PHONE_COLUMNS = 3
"""Tables with at most so many columns stay tables on a phone."""
MAX_WIDTH_BESIDE_ANSWER = 800
"""Figures up to this width, in CSS pixels, are beside the answer on a wide screen; wider ones are below it."""
TONES = {
    "good": ("better", "as claimed", "supported", "survives"),
    "bad": ("worse", "against the claim", "contradicted", "differs"),
    "same": ("equivalent",),
    "part": ("supported in part", "mixed"),
}
"""{class in HTML: the verdicts that have its colour}; all others are "open"."""
NUMBER = re.compile(r"[-+~]?\d[\d.,]*(e[-+]?\d+)?(%|[kM]| steps| min| h| s| of \d.*)?( IQM)?( ± .*)?( [\[(].*)?")
"""A cell that is right-aligned: a number, perhaps with its unit or interval."""


@dataclass(frozen=True)
class Link:
    """A link to a file, relative to the page, or to another page, which gets the suffix of the linking page."""

    text: str
    target: str
    to_page: bool = False

    def __str__(self) -> str:
        return self.text


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
    small: bool = True
    kind: ClassVar[str] = "points"


class Cell(NamedTuple):
    """A cell of a table: its content, its column's name, and its classes in HTML."""

    content: str | Link
    column: str
    classes: str


@dataclass(frozen=True)
class Grid:
    """A table for a reader. Its first column names its rows; its cells are text or links."""

    table: pd.DataFrame
    shown: int = MAX_COLUMNS
    """How many columns are shown at once."""
    verdicts: tuple[str, ...] = ()
    """The columns with verdicts, which are coloured."""
    kind: ClassVar[str] = "grid"

    @property
    def rows(self) -> list[list[str]]:
        """The text of every cell, row by row, without the header."""
        return [list(row) for row in as_text(self.table).itertuples(index=False, name=None)]

    @property
    def parts(self) -> list[Grid]:
        """The columns that are shown at once, then groups of the others, each with the first column."""
        count, others = len(self.table.columns), range(self.shown, len(self.table.columns), MAX_COLUMNS - 1)
        places = [[*range(min(self.shown, count))], *([0, *range(i, min(i + MAX_COLUMNS - 1, count))] for i in others)]
        return [Grid(self.table.iloc[:, of], verdicts=self.verdicts) for of in places if of]

    @property
    def cells(self) -> list[list[Cell]]:
        """The cells of every row, after those of the header."""
        names = [str(name) for name in self.table.columns]
        right = ["number" if are_numbers(column) else "" for column in zip(*self.rows, strict=True)] or [""] * len(
            names
        )
        header = [Cell(name, name, align) for name, align in zip(names, right, strict=True)]
        rows = self.table.itertuples(index=False, name=None)
        return [header] + [
            [
                Cell(cell if isinstance(cell, Link) else words, name, self._classes(name, words, align))
                for cell, words, name, align in zip(row, texts, names, right, strict=True)
            ]
            for row, texts in zip(rows, self.rows, strict=True)
        ]

    def _classes(self, column: str, words: str, align: str) -> str:
        tone = f"verdict {tone_of(words)}" if column in self.verdicts and words else ""
        return " ".join(filter(None, (align, "long" if len(words) > LONG_CELL else "", tone)))


@dataclass(frozen=True)
class Picture:
    """A figure, as PNG with an SVG beside it, and its caption, which is also its alternative text."""

    path: Path
    caption: str
    kind: ClassVar[str] = "picture"


Block = Text | Points | Grid | Picture


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading, which a link can replace."""

    title: str | Link
    blocks: tuple[Block, ...]
    folded: bool = False
    """Whether a reader opens it."""


@dataclass(frozen=True)
class ClaimSummary:
    """What the index says of a claim."""

    source: str
    verdict: str
    runs: Mapping[str, str]
    """{id of each of its runs: the variant}, of all variants."""


@dataclass(frozen=True)
class Answer:
    """What a page answers: a first sentence, one per axis, and notes on how to read them.

    Verdicts are between two asterisks on each side.
    """

    lead: str = ""
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """All of it but the notes, without the marks of verdicts."""
        return tuple(words.replace("**", "") for words in (self.lead, *self.sentences) if words)


@dataclass(frozen=True)
class Page:
    """A question and its answer, followed by sections."""

    title: str
    question: str
    answer: Answer
    summary: str
    """How many runs there are and how they ended."""
    sections: tuple[Section, ...]
    picture: Picture | None = None
    """The figure of the answer."""
    setting: str = ""
    """The size of networks, training and tasks."""
    is_quick: bool = False
    """Whether the setting is smaller than that of the papers."""
    claim: ClaimSummary | None = None
    """For a claim's page: its row in the index."""
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
    linked = table.astype(object).map(lambda cell: _in_markdown(cell) if isinstance(cell, Link) else cell)
    cells = as_text(linked).map(lambda cell: cell.replace("|", "\\|"))
    return str(cells.to_markdown(index=False, disable_numparse=True))


def _in_markdown(link: Link) -> str:
    return f"[{link.text}]({link.target}{'.md' if link.to_page else ''})"


def are_numbers(cells: Sequence[str]) -> bool:
    """Return whether a column has numbers, so that it is aligned at the right."""
    return any(cells) and all(NUMBER.fullmatch(cell) for cell in cells if cell)


def tone_of(verdict: str) -> str:
    """Return the class of a verdict in HTML, by the longest verdict that it starts with."""
    matching = [(len(word), tone) for tone, words in TONES.items() for word in words if verdict.startswith(word)]
    return max(matching, default=(0, "open"))[1]


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
        "unbroken": _unbroken,
        "capitalize_first": lambda words: words[:1].upper() + words[1:],
    }
    environment.globals |= {
        "suffix": suffix,
        "MAX_PHONE_COLUMNS": MAX_PHONE_COLUMNS,
        "MAX_WIDTH_BESIDE_ANSWER": MAX_WIDTH_BESIDE_ANSWER,
    }
    return environment


def _escaped(value: object) -> object:
    """Escape text for Markdown, but not the output of macros, which is escaped already.

    A ">" between spaces stays: it ends no tag, and in code Markdown would show it escaped.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r" &gt;(=?) ", r" >\1 ", html.escape(value, quote=False))


def _unbroken(words: str) -> str:
    """Return text that is not broken within an interval."""
    return re.sub(r"\[[^\]]*\]", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), words)


def _coded(words: str) -> Markup:
    """Return escaped HTML, with text in backticks as code, and between two asterisks as a verdict."""
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(_unbroken(words)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", lambda of: f'<strong class="{tone_of(of[1])}">{of[1]}</strong>', coded))


def _name_of(title: str | Link) -> str:
    return title.text if isinstance(title, Link) else title


def anchor(title: str | Link) -> str:
    """Return a section's id in its page."""
    return re.sub(r"[^a-z0-9]+", "-", _name_of(title).lower()).strip("-")


NARROW = "narrow"
"""The subfolder with narrow versions of figures, for phones."""


@dataclass(frozen=True)
class Drawing:
    """An SVG to embed in a page."""

    source: str
    """A data URI."""
    width: int
    height: int
    narrow: Drawing | None = None
    """The version for phones."""


def drawing(picture: Picture) -> Drawing:
    """Return a figure's minified SVG, with that of its narrow version. Raises ValueError if one states no size."""
    path = picture.path.with_suffix(".svg")
    narrow = path.parent / NARROW / path.name
    return replace(_drawing(path, " ,"), narrow=_drawing(narrow, "") if narrow.exists() else None)


def _drawing(path: Path, also_safe: str) -> Drawing:
    """Return a figure's minified SVG. A list of sources (srcset) may not contain spaces."""
    svg = path.read_text(encoding="utf-8")
    tag = re.search(r"<svg [^>]*>", svg)
    size = dict(re.findall(r'\b(width|height)="([\d.]+)pt"', tag[0])) if tag else {}
    if len(size) < 2:
        raise ValueError(f"{path} does not state its width and height")
    svg = _without_ballast(svg)
    width, height = (round(PIXELS_PER_POINT * float(size[side])) for side in ("width", "height"))
    return Drawing("data:image/svg+xml," + quote(svg, safe=f"{also_safe};:=/()!*+?@$-_.~"), width, height)


def _without_ballast(svg: str) -> str:
    """Return an SVG without comments, white space and unused ids, with coordinates rounded to 0.01 points.

    Scales are kept: glyphs are drawn at a scale of 1/64 and the like.
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    svg = re.sub(r' id="[A-Za-z.]+_\d+"', "", svg)
    return re.sub(r"scale\([^)]*\)|-?\d+\.\d{3,}", lambda match: _rounded(match[0]), svg)


def _rounded(text: str) -> str:
    """Return a number rounded to 0.01; anything else as it is."""
    return text if text.startswith("scale") else f"{float(text):.2f}".rstrip("0").rstrip(".")


def sections(*contents: tuple[str | Link, Sequence[Block]], folded: Collection[str] = ()) -> tuple[Section, ...]:
    """Return the sections of (title, blocks) that have blocks; those with titles in `folded` are folded."""
    return tuple(Section(title, tuple(blocks), title in folded) for title, blocks in contents if blocks)
