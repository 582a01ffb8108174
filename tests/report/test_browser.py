"""Pages in a real browser, at widths from a phone to a large screen.

`python -m tests.report.test_browser PAGE...` checks other pages; --pictures FOLDER writes screenshots there.
"""

import sys
from itertools import product
from pathlib import Path

import pytest

from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from tests.report.browser import NAMES, Browser, browser, executable
from tests.report.test_page import harmed  # noqa: F401  # a fixture

WIDTHS = (360, 380, 768, 1280, 1920)
SCHEMES = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}
"""{scheme: the page's background}."""
PHONE = 640
"""Up to this width, in CSS pixels, tables fit the page."""
FOLD = 900
"""The height of a window at 1280 pixels, in CSS pixels."""
IMAGES_NOT_DRAWN = "[...document.images].filter(i => !(i.complete && i.naturalWidth && i.clientWidth)).length"
WIDTH_OF_PAGE = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
CUT = """[...document.querySelectorAll('h1, h2, p, li, figcaption, figure, .scroll')]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""


TOO_WIDE = "[...document.querySelectorAll('table')].filter(t => t.offsetWidth > t.parentElement.clientWidth + 1).length"
WITHOUT_FIRST_COLUMN = """[...document.querySelectorAll('table')].filter(t => {
    const scroll = t.parentElement; scroll.scrollLeft = 1e6;
    const first = t.querySelector('tbody th');
    const gone = first && first.getBoundingClientRect().left < scroll.getBoundingClientRect().left - 1;
    scroll.scrollLeft = 0;
    return gone; }).length"""
ALIGNED = """[...document.querySelectorAll('td.number')]
    .filter(e => e.offsetWidth && getComputedStyle(e).textAlign != 'right').length"""
BELOW_FOLD = f"""[...document.querySelectorAll('.answer, .beside img')]
    .filter(e => e.getBoundingClientRect().bottom > {FOLD}).length"""
SHRUNK = f"""[...document.querySelectorAll('figure img')].filter(i => {{
    const padding = parseFloat(getComputedStyle(i).paddingLeft) + parseFloat(getComputedStyle(i).paddingRight);
    const source = i.closest('picture')?.querySelector('source') ?? i;
    return i.clientWidth && i.clientWidth - padding < {9 / (8 * 4 / 3)} * source.getAttribute('width'); }}).length"""
"""Figures whose smallest text, 8 points at full size, has less than 9 CSS pixels."""
SCROLLED = """[...document.querySelectorAll('.top .scroll, picture')]
    .filter(e => e.scrollWidth > (e.closest('.scroll') ?? e).clientWidth + 1).length"""
"""Answers' figures and figures with a narrow version that scroll sideways."""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def problems(one: Browser, page: Path, width: int, scheme: str = "light") -> list[str]:
    """Return what is wrong with a page at a width, in a color scheme. Folded parts are opened at last."""
    one.open(page, width, scheme=scheme)
    messages = one.complaints()
    if (background := one.value(BACKGROUND)) not in ("rgba(0, 0, 0, 0)", SCHEMES[scheme]):
        messages.append(f"the background is {background}")
    if width == 1280 and (below := one.value(BELOW_FOLD)):
        messages.append(f"{below} parts of the answer are below the fold")
    one.value("document.querySelectorAll('details').forEach(e => e.open = true)")
    if width <= PHONE and (wide_tables := one.value(TOO_WIDE)):
        messages.append(f"{wide_tables} tables are wider than the page")
    if width <= PHONE and (shrunk := one.value(SHRUNK)):
        messages.append(f"{shrunk} figures have text of less than 9 pixels")
    if width <= PHONE and (scrolled := one.value(SCROLLED)):
        messages.append(f"{scrolled} figures of the answer scroll sideways")
    if hidden := one.value(WITHOUT_FIRST_COLUMN):
        messages.append(f"{hidden} tables lose their first column")
    if width > PHONE and (left := one.value(ALIGNED)):
        messages.append(f"{left} numbers are not at the right")
    if lacking := one.value(IMAGES_NOT_DRAWN):
        messages.append(f"{lacking} images are missing")
    if (wide := one.value(WIDTH_OF_PAGE)) > width:
        messages.append(f"the page is {wide} pixels wide")
    if cut := one.value(CUT):
        messages.append(f"{cut} elements reach beyond the right edge")
    if not one.value("document.body.innerText.length"):
        messages.append("there is no text")
    return messages


@pytest.mark.soak
@pytest.mark.skipif(
    executable() is None, reason=f"no browser: none of {', '.join(NAMES)} is on the path (apt: chromium)"
)
def test_pages_have_no_problems_in_a_browser(harmed: tuple[Path, Page, str]) -> None:  # noqa: F811
    folder, page, _ = harmed
    write_index({"harmed": page}, folder.parent)
    bad = folder / "bad.html"  # checks the check: all problems are reported
    table = "<table><tr><td class='number'>1</td></tr><tbody><tr><th>x</th><td>y</td></tr></tbody></table>"
    bad.write_text(
        f"<div style='overflow: auto; width: 90px'>{table.replace('<table', '<table style=width:3000px')}</div>"
        "<style>body { background: red }</style><div style='width: 3000px'><p>x</p></div><img src='none.png'>"
        "<figure><img width=800 style='width: 300px; height: 10px'></figure>"
        "<div class='top'><div class='scroll' style='overflow: auto'><p style='width: 3000px'>x</p></div></div>"
        "<div class='answer' style='height: 1000px'></div><script>console.error(1)</script>"
    )
    with browser() as one:
        for path in (folder / "report.html", folder.parent / "index.html"):
            for width, scheme in product(WIDTHS, SCHEMES):
                assert problems(one, path, width, scheme) == [], (path.name, width, scheme)
        messages = " ".join(problems(one, bad, 1280) + problems(one, bad, 380))
        for word in (
            "images are missing",
            "wide",
            "beyond the right edge",
            "console",
            "the background is rgb(255, 0, 0)",
            "below the fold",
            "1 tables are wider than the page",
            "1 figures have text of less than 9 pixels",
            "1 figures of the answer scroll sideways",
            "1 tables lose their first column",
            "1 numbers are not at the right",
        ):
            assert word in messages, messages


def main(arguments: list[str]) -> int:
    """Return exit code 1 if something is wrong with a page."""
    pictures = Path(arguments.pop(arguments.index("--pictures") + 1)) if "--pictures" in arguments else None
    wrong = 0
    with browser() as one:
        for page in [Path(argument) for argument in arguments if argument != "--pictures"]:
            for width, scheme in product(WIDTHS, SCHEMES):
                messages = problems(one, page, width, scheme)
                wrong += bool(messages)
                print(f"{page} at {width}, {scheme}: {'; '.join(messages) or 'good'}")
                if pictures:
                    pictures.mkdir(parents=True, exist_ok=True)
                    one.picture(pictures / f"{page.parent.name}-{page.stem}-{width}-{scheme}.png")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
