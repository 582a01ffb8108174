"""Pages in a real browser, at widths from a phone to a large screen.

`python -m tests.report.test_browser PAGE...` checks other pages; --pictures FOLDER writes screenshots there.
"""

import sys
from pathlib import Path

import pytest

from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from tests.report.browser import NAMES, Browser, browser, executable
from tests.report.test_page import harmed  # noqa: F401  # a fixture

WIDTHS = (360, 768, 1280, 1920)
IMAGES_NOT_DRAWN = "[...document.images].filter(i => !(i.complete && i.naturalWidth && i.clientWidth)).length"
WIDTH_OF_PAGE = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
CUT = """[...document.querySelectorAll('h1, h2, p, li, figcaption, figure, .scroll')]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""


def problems(one: Browser, page: Path, width: int) -> list[str]:
    """Return what is wrong with a page at a width."""
    one.open(page, width)
    messages = one.complaints()
    if lacking := one.value(IMAGES_NOT_DRAWN):
        messages.append(f"{lacking} images are missing")
    if (wide := one.value(WIDTH_OF_PAGE)) > width:
        messages.append(f"the page is {wide} pixels wide")
    if cut := one.value(CUT):
        messages.append(f"{cut} elements reach beyond the right edge")
    if not one.value("document.body.innerText.length"):
        messages.append("there is no text")
    return messages


@pytest.mark.slow
@pytest.mark.skipif(
    executable() is None, reason=f"no browser: none of {', '.join(NAMES)} is on the path (apt: chromium)"
)
def test_pages_in_a_browser(harmed: tuple[Path, Page, str]) -> None:  # noqa: F811
    folder, page, _ = harmed
    write_index({"harmed": page}, folder.parent)
    bad = folder / "bad.html"  # checks the check: all problems are reported
    bad.write_text("<div style='width: 3000px'><p>x</p></div><img src='none.png'><script>console.error(1)</script>")
    with browser() as one:
        for path in (folder / "report.html", folder.parent / "index.html"):
            for width in WIDTHS:
                assert problems(one, path, width) == [], (path.name, width)
        messages = " ".join(problems(one, bad, 1280))
        for word in ("images are missing", "wide", "beyond the right edge", "console"):
            assert word in messages, messages


def main(arguments: list[str]) -> int:
    """Return exit code 1 if something is wrong with a page."""
    pictures = Path(arguments.pop(arguments.index("--pictures") + 1)) if "--pictures" in arguments else None
    wrong = 0
    with browser() as one:
        for page in [Path(argument) for argument in arguments if argument != "--pictures"]:
            for width in WIDTHS:
                messages = problems(one, page, width)
                wrong += bool(messages)
                print(f"{page} at {width}: {'; '.join(messages) or 'good'}")
                if pictures:
                    pictures.mkdir(parents=True, exist_ok=True)
                    one.picture(pictures / f"{page.parent.name}-{page.stem}-{width}.png")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
