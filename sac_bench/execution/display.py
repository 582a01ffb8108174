"""Shows the progress of training: a block that is updated in a terminal or a notebook, lines now and then in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sac_bench.execution.progress import ASCII, Progress, Signs, block, report

REFRESH_SECONDS, NOTEBOOK_SECONDS = 0.5, 2.0
"""The time between updates of a block in a terminal and in a notebook."""
LEAST_SECONDS, MOST_SECONDS = 30.0, 600.0
"""The least and the most time between reports in a file."""
GROWTH = 0.2
"""Between them, the next report follows after this share of the time that has passed."""
NOTEBOOK_WIDTH = 100


class Place(Protocol):
    """Where progress is shown."""

    first: float
    """The seconds of training after which progress is shown first."""

    @property
    def stays(self) -> bool:
        """Whether what was shown last stays after training."""

    def pause(self, elapsed: float) -> float:
        """Return the seconds until progress is shown next, after so many of training."""

    def show(self, now: Progress) -> None:
        """Show the progress."""

    def close(self) -> None:
        """Remove what was shown only for the time of training."""


class Display:
    """Shows what workers do, in the place that a console has for it, and lines that stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._place = place_of(console)
        self._next = self._place.first

    def show(self, elapsed: float, progress: Callable[[], Progress]) -> None:
        """Compute and show the progress after so many seconds of training, if it is time to."""
        if elapsed >= self._next:
            self._next = elapsed + self._place.pause(elapsed)
            self._place.show(progress())

    def finish(self, progress: Callable[[], Progress]) -> None:
        """Show the progress when training has ended or was stopped, where it stays."""
        if self._place.stays:
            self._place.show(progress())

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

    first = 0.0
    stays = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._live.start()

    def pause(self, elapsed: float) -> float:
        """Return the same at any time."""
        return REFRESH_SECONDS

    def show(self, now: Progress) -> None:
        """Update the block."""
        first, *others = block(now, self._console.width, signs_of(self._console))
        self._live.update(Text("\n").join([Text(first, "bold"), *map(Text, others)]))

    def close(self) -> None:
        """Remove the block."""
        self._live.stop()


class Cell:
    """Text below a notebook's cell. The last one stays."""

    first = 0.0

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def stays(self) -> bool:
        """Whether anything was shown."""
        return self._handle is not None

    def pause(self, elapsed: float) -> float:
        """Return the same at any time."""
        return NOTEBOOK_SECONDS

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

    first = LEAST_SECONDS
    stays = False

    def __init__(self, console: Console) -> None:
        self._console = console

    def pause(self, elapsed: float) -> float:
        """Return a share of the time that has passed, within bounds."""
        return min(MOST_SECONDS, max(LEAST_SECONDS, GROWTH * elapsed))

    def show(self, now: Progress) -> None:
        """Print a report."""
        for line in report(now, signs_of(self._console)):
            self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the lines."""
