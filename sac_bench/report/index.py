"""The index of a results folder: every experiment and study with its question and answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from sac_bench.report.page import Block, ClaimSummary, Grid, Link, Page, Section, text, written

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
        {"claim": page.question, "verdict": page.claim.verdict, "source": page.claim.source, "report": page.title}
        | ({"superseded": "yes" if page.superseded else ""} if any(page.superseded for page in pages) else {})
        for page in pages
        if page.claim
    ]
    counted = Counter(row["verdict"] for row in rows)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())
    shared = shared_references({page.title: page.claim for page in pages if page.claim})
    sentences = [f"{len(rows)} claim{'s' * (len(rows) > 1)}: {verdicts}.", *shared]
    return (Section("Claims", (*map(text, sentences), Grid(pd.DataFrame(rows)))),)


def shared_references(claims: Mapping[str, ClaimSummary]) -> list[str]:
    """Return a sentence for each group of runs of a reference that the same claims share, the largest group first."""
    users: dict[str, list[str]] = defaultdict(list)
    for name, claim in claims.items():
        for run in claim.reference_runs:
            users[run].append(name)
    groups = Counter(tuple(names) for names in users.values() if len(names) > 1)
    sentences = []
    for names, runs in sorted(groups.items(), key=lambda group: (-len(group[0]), group[0])):
        variants = " or ".join(f"`{name}`" for name in dict.fromkeys(claims[name].reference for name in names))
        shared = f"the same {runs} runs" if runs > 1 else "one run"
        every = "both" if len(names) == 2 else "all"
        which = f": {', '.join(names)}" if len(names) < len(claims) else ""
        sentences.append(
            f"{_how_many(len(names), len(claims))} share {shared} of their reference, {variants}{which}. Their "
            f"verdicts are not independent: an unlucky reference shifts {every} of them."
        )
    return sentences


def _how_many(some: int, every: int) -> str:
    """Return "3 of these 5 claims", or "Both claims" or "All 5 claims" if it is every one."""
    if some < every:
        return f"{some} of these {every} claims"
    return "Both claims" if every == 2 else f"All {every} claims"


def _entry(name: str, page: Page | str) -> Section:
    """Return a page's section: a heading that links to it, the question, the answer and how the runs ended."""
    if isinstance(page, str):
        return Section(name, (text(f"No report: {page}"),))
    paragraphs: list[Block] = [text(words) for words in (page.question, *page.warnings, *page.answer) if words]
    return Section(
        Link(page.title, f"{quote(name)}/report", to_page=True), (*paragraphs, text(page.summary, small=True))
    )
