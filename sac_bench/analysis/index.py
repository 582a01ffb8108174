"""The page of all pages in a results folder: every experiment and study with its question and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from sac_bench.analysis.page import Block, Link, Page, Section, text, written

NAME = "index"


def write_index(pages: Mapping[str, Page | str], folder: Path) -> Page:
    """index.md and index.html in a folder, from {folder's name: its page, or why it has none}, in that order."""
    reported = sum(isinstance(page, Page) for page in pages.values())
    broken = len(pages) - reported
    page = Page(
        title="Experiments",
        question="",
        answer=(),
        summary=f"{reported} reports" + (f"; {broken} could not be made" if broken else "") + ".",
        sections=tuple(_entry(name, page) for name, page in pages.items()),
    )
    return written(page, folder / NAME)


def _entry(name: str, page: Page | str) -> Section:
    """The heading leads to the page; below it, the question, the answer, and how the runs ended."""
    if isinstance(page, str):
        return Section(name, (text(f"No report: {page}"),))
    said: list[Block] = [text(words) for words in (page.question, *page.answer) if words]
    return Section(Link(page.title, f"{quote(name)}/report", to_page=True), (*said, text(page.summary, small=True)))
