"""Pages in a real browser, at the widths of a phone to a large screen: python -m tests.analysis.test_browser PAGE...

With a page's path it looks at that page, and with --pictures FOLDER leaves what it saw there.
"""

import sys
from pathlib import Path

import pytest

from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from tests.report.browser import NAMES, Browser, browser, found
from tests.report.test_page import harmed  # noqa: F401  # a fixture

WIDTHS = (360, 768, 1280, 1920)
IMAGES_NOT_DRAWN = "[...document.images].filter(i => !(i.complete && i.naturalWidth && i.clientWidth)).length"
WIDTH_OF_PAGE = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
CUT = """[...document.querySelectorAll('h1, h2, p, li, figcaption, figure, .scroll')]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""


def amiss(one: Browser, page: Path, width: int) -> list[str]:
    """What is wrong with a page at a width."""
    one.open(page, width)
    told = one.complaints()
    if lacking := one.value(IMAGES_NOT_DRAWN):
        told.append(f"{lacking} images are not there")
    if (wide := one.value(WIDTH_OF_PAGE)) > width:
        told.append(f"the page is {wide} wide")
    if cut := one.value(CUT):
        told.append(f"{cut} elements reach beyond the right edge")
    if not one.value("document.body.innerText.length"):
        told.append("there is no text")
    return told


@pytest.mark.slow
@pytest.mark.skipif(found() is None, reason=f"no browser: none of {', '.join(NAMES)} is on the path (apt: chromium)")
def test_pages_in_a_browser(harmed: tuple[Path, Page, str]) -> None:  # noqa: F811
    folder, page, _ = harmed
    write_index({"harmed": page}, folder.parent)
    bad = folder / "bad.html"  # the check itself: all that may be wrong is found
    bad.write_text("<div style='width: 3000px'><p>x</p></div><img src='none.png'><script>console.error(1)</script>")
    with browser() as one:
        for path in (folder / "report.html", folder.parent / "index.html"):
            for width in WIDTHS:
                assert amiss(one, path, width) == [], (path.name, width)
        told = " ".join(amiss(one, bad, 1280))
        for word in ("images are not there", "wide", "beyond the right edge", "console"):
            assert word in told, told


def main(arguments: list[str]) -> int:
    """Exit code 1 where something is wrong with a page."""
    pictures = Path(arguments.pop(arguments.index("--pictures") + 1)) if "--pictures" in arguments else None
    wrong = 0
    with browser() as one:
        for page in [Path(argument) for argument in arguments if argument != "--pictures"]:
            for width in WIDTHS:
                told = amiss(one, page, width)
                wrong += bool(told)
                print(f"{page} at {width}: {'; '.join(told) or 'good'}")
                if pictures:
                    pictures.mkdir(parents=True, exist_ok=True)
                    one.picture(pictures / f"{page.parent.name}-{page.stem}-{width}.png")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
