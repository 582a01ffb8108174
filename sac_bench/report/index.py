"""The index of a results folder: every experiment and study with its question and answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from sac_bench.report.page import Block, Grid, Link, Page, Section, text, written

NAME = "index"


def write_index(pages: Mapping[str, Page | str], folder: Path) -> Page:
    """Write index.md and index.html from {folder's name: its page, or why there is none}, in this order."""
    claims = {name: page for name, page in pages.items() if isinstance(page, Page) and page.claim}
    reported = sum(isinstance(page, Page) for page in pages.values())
    broken = len(pages) - reported
    page = Page(
        title="Experiments",
        question="",
        answer=(),
        summary=f"{reported} report{'s' * (reported != 1)}" + (f"; {broken} could not be made" if broken else "") + ".",
        sections=(*_claims(list(claims.values())), *(_entry(name, page) for name, page in pages.items())),
    )
    return written(page, folder / NAME)


def _claims(pages: Sequence[Page]) -> tuple[Section, ...]:
    """Return a section with all claims and their verdicts in one table."""
    if not pages:
        return ()
    rows = [
        {"claim": page.question, "verdict": page.claim[1], "source": page.claim[0], "report": page.title}
        | ({"superseded": "yes" if page.superseded else ""} if any(page.superseded for page in pages) else {})
        for page in pages
        if page.claim
    ]
    counted = Counter(row["verdict"] for row in rows)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())
    return (
        Section("Claims", (text(f"{len(rows)} claim{'s' * (len(rows) > 1)}: {verdicts}."), Grid(pd.DataFrame(rows)))),
    )


def _entry(name: str, page: Page | str) -> Section:
    """Return a page's section: a heading that links to it, the question, the answer and how the runs ended."""
    if isinstance(page, str):
        return Section(name, (text(f"No report: {page}"),))
    paragraphs: list[Block] = [text(words) for words in (page.question, *page.warnings, *page.answer) if words]
    return Section(
        Link(page.title, f"{quote(name)}/report", to_page=True), (*paragraphs, text(page.summary, small=True))
    )
