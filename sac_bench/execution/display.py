"""Shows the progress of training: a block that is updated in a terminal or a notebook, lines now and then in a file."""

from __future__ import annotations

from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sac_bench.execution.progress import ASCII, Progress, Signs, block, report

FIRST_SECONDS, MOST_SECONDS = 30.0, 600.0
"""The least and the most time between reports in a file."""
GROWTH = 0.2
"""Between them, the next report follows after this share of the time that has passed."""
NOTEBOOK_WIDTH = 100


class Place(Protocol):
    """Where progress is shown."""

    def show(self, now: Progress) -> None:
        """Show the progress, if it is time to."""

    def close(self) -> None:
        """Remove what was shown only for the time of training."""


class Display:
    """Shows what workers do, in the place that a console has for it, and lines that stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._place = place_of(console)

    def show(self, now: Progress) -> None:
        """Show the progress."""
        self._place.show(now)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the block."""
        self._place.close()


def place_of(console: Console) -> Place:
    """Return where a console shows progress: in a block of a terminal or a notebook, or in lines."""
    if console.is_jupyter and not console.quiet:
        return Cell()
    if console.is_terminal and not console.is_dumb_terminal and not console.quiet:
        return Block(console)
    return Lines(console)


def signs_of(console: Console) -> Signs:
    """Return the characters that a console's encoding has."""
    return Signs() if console.encoding.lower().startswith("utf") else ASCII


class Block:
    """A block of a terminal that disappears at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._live.start()

    def show(self, now: Progress) -> None:
        """Update the block."""
        first, *others = block(now, self._console.width, signs_of(self._console))
        self._live.update(Text("\n").join([Text(first, "bold"), *map(Text, others)]))

    def close(self) -> None:
        """Remove the block."""
        self._live.stop()


class Cell:
    """Text below a notebook's cell. It is the last one that stays."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, now: Progress) -> None:
        """Update the text."""
        from IPython.display import display

        text = {"text/plain": "\n".join(block(now, NOTEBOOK_WIDTH, Signs()))}
        if self._handle is None:
            self._handle = display(text, raw=True, display_id=True)
        else:
            self._handle.update(text, raw=True)

    def close(self) -> None:
        """Leave the text."""


class Lines:
    """Lines in a file, less and less often."""

    def __init__(self, console: Console) -> None:
        self._console, self._next = console, FIRST_SECONDS

    def show(self, now: Progress) -> None:
        """Print a report if enough time has passed since the last one."""
        if now.elapsed < self._next:
            return
        self._next = now.elapsed + min(MOST_SECONDS, max(FIRST_SECONDS, GROWTH * now.elapsed))
        for line in report(now, signs_of(self._console)):
            self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the lines."""
