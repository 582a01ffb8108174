"""The index of a results folder: every experiment, claim and study with its answer, and what is in other folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from sac_bench.report.labels import QUICK
from sac_bench.report.page import Answer, Block, ClaimSummary, Grid, Link, Page, Points, Section, text, written

NAME = "index"
TITLE = "Experiments"
DOCUMENTS = (f"{NAME}.md", "README.md", "report.md", "table.md")
"""What describes a folder without an experiment; the first one that exists."""
ORDER = ("supported", "supported in part", "mixed", "contradicted", "undecided")
"""Verdicts of claims in the order of their table; then come those without a verdict."""
SETTINGS = {"full": False, "quick": True}
"""{a column of verdicts: whether it is of quick settings}."""


def write_index(pages: Mapping[str, Page | str], folder: Path) -> Page:
    """Write index.md and index.html from {folder's name: its page, or why there is none}, in this order."""
    claims = {name: page for name, page in pages.items() if isinstance(page, Page) and page.claim}
    reported = sum(isinstance(page, Page) for page in pages.values())
    broken = len(pages) - reported
    counts = [f"{reported} report{'s' * (reported != 1)}"]
    counts += [f"{broken} could not be made"] * bool(broken) + _counts(list(claims.values()))
    page = Page(
        title=TITLE,
        question="",
        answer=Answer(),
        summary=f"{'; '.join(counts)}.",
        sections=(
            *_claims(claims),
            *(_entry(name, page) for name, page in pages.items()),
            *_others(folder, pages),
        ),
    )
    return written(page, folder / NAME)


def _claims(pages: Mapping[str, Page]) -> tuple[Section, ...]:
    """Return a section with a table of all claims: the verdicts in the full and in the quick setting, with links."""
    if not pages:
        return ()
    rows: dict[tuple[str, str], dict[str, Page]] = defaultdict(dict)
    for name, page in pages.items():
        column = next(column for column, is_quick in SETTINGS.items() if is_quick == page.is_quick)
        rows[page.question, name.removesuffix(QUICK)][column] = page
    claims = sorted(rows.items(), key=lambda row: (_place(row[1]), row[0]))
    table = pd.DataFrame(
        {
            "claim": [question for (question, _), _ in claims],
            **{column: [_verdict(of.get(column)) for _, of in claims] for column in SETTINGS},
            "source": [_source(next(iter(of.values()))) for _, of in claims],
        }
    )
    settings = dict.fromkeys(page.setting for page in pages.values() if page.is_quick and page.setting)
    shared = shared_runs({page.title: page.claim for page in pages.values() if page.claim})
    sentences = [*(f"{words}." for words in _counts(list(pages.values()))), *settings, *shared]
    return (Section("Claims", (*map(text, sentences), Grid(table, verdicts=tuple(SETTINGS)))),)


def _counts(pages: Sequence[Page]) -> list[str]:
    """Return how many claims have which verdict: "6 claims in a quick setting: 4 undecided, 2 supported"."""
    counts = []
    for column, is_quick in SETTINGS.items():
        verdicts = Counter(page.claim.verdict for page in pages if page.claim and page.is_quick == is_quick)
        if count := verdicts.total():
            each = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items(), key=lambda of: _rank(of[0])))
            counts.append(f"{count} claim{'s' * (count > 1)} in {'a' if is_quick else 'the'} {column} setting: {each}")
    return counts


def _verdict(page: Page | None) -> str | Link:
    """Return a claim's verdict with a link to its report."""
    if page is None or page.claim is None:
        return "not run"
    words = page.claim.verdict + (" (superseded)" if page.superseded else "")
    return Link(words, f"{quote(page.title)}/report", to_page=True)


def _source(page: Page) -> str:
    return page.claim.source if page.claim else ""


def _place(of: Mapping[str, Page]) -> int:
    """Return a claim's place in the table: by its verdict in the full setting, if there is one."""
    verdicts = [of[column].claim for column in SETTINGS if column in of]
    return next((_rank(claim.verdict) for claim in verdicts if claim), len(ORDER))


def _rank(verdict: str) -> int:
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def shared_runs(claims: Mapping[str, ClaimSummary]) -> list[str]:
    """Return a sentence for each group of runs, of any variants, that the same claims share: the largest groups first.

    A run may have several names, since claims name their variants.
    """
    users: dict[str, list[str]] = defaultdict(list)
    for name, claim in claims.items():
        for run in claim.runs:
            users[run].append(name)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for run, names in users.items():
        if len(names) > 1:
            groups[tuple(names)].append(run)
    sentences = []
    for group, runs in sorted(groups.items(), key=lambda one: (-len(one[0]), one[0])):
        variants = sorted({claims[name].runs[run] for name in group for run in runs})
        named = " or ".join(f"`{variant}`" for variant in variants)
        shared = f"the same {len(runs)} runs" if len(runs) > 1 else "one run"
        every = "both" if len(group) == 2 else "all"
        which = f": {', '.join(group)}" if len(group) < len(claims) else ""
        sentences.append(
            f"{_how_many(len(group), len(claims))} share {shared} of {named}{which}. Their verdicts are "
            f"not independent: if these runs are unlucky, {every} of them shift."
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
    lines = (page.question, *(f"{words[:1].upper()}{words[1:]}." for words in page.warnings), page.answer.lead)
    paragraphs: list[Block] = [text(words) for words in lines if words]
    points = [Points(page.answer.sentences, small=False)] * bool(page.answer.sentences)
    about = " ".join(filter(None, (page.setting, page.summary)))
    return Section(
        Link(page.title, f"{quote(name)}/report", to_page=True), (*paragraphs, *points, text(about, small=True))
    )


def _others(folder: Path, pages: Mapping[str, Page | str]) -> tuple[Section, ...]:
    """Return a section that links to what the other folders have: their own index, or a document."""
    blocks = []
    for path in sorted(folder.glob("*/")):
        document = next((path / name for name in DOCUMENTS if (path / name).exists()), None)
        if path.name not in pages and document is not None:
            is_index = document.stem == NAME
            link = Link(path.name, f"{quote(path.name)}/{document.stem if is_index else document.name}", is_index)
            blocks.append(text(link, f": {beginning(document.read_text(encoding='utf-8'))}"))
    return (Section("Other results", tuple(blocks)),) if blocks else ()


def beginning(document: str) -> str:
    """Return what a Markdown document says first: its title if that is a sentence of its own, else its first paragraph.

    Of a table alone, its columns.
    """
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", document) if not part.strip().startswith(("|", "!"))]
    title = next((part.removeprefix("# ") for part in paragraphs if part.startswith("# ")), "")
    plain = [part for part in paragraphs if not part.startswith("#")]
    if title == TITLE and plain:
        return " ".join(plain[0].split())
    columns = [name.strip() for name in document.split("\n")[0].strip("|").split("|")]
    return title or " ".join("".join(plain[:1]).split()) or f"a table of {', '.join(columns)}"
