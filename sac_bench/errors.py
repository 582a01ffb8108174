"""Errors that the user can fix: one line each, exit code 2, never a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A request that cannot be met. The message is one line: where, what, and the closest alternative.

    shown: the line of a file that is wrong, with its number, for a terminal; parts: the errors that this one sums up.
    """

    def __init__(self, message: str, shown: str = "", parts: Iterable[InputError] = ()) -> None:
        super().__init__(one_line(message))
        self.shown, self._parts = one_line(shown), tuple(parts)

    @property
    def parts(self) -> tuple[InputError, ...]:
        """The single errors: this one, unless it sums up several."""
        return self._parts or (self,)


def several(errors: Iterable[InputError]) -> InputError:
    """Return an error that sums up others, without duplicates; the error itself if there is one."""
    parts = list({str(part): part for error in errors for part in error.parts}.values())
    return parts[0] if len(parts) == 1 else InputError("; ".join(map(str, parts)), parts=parts)


class Problems:
    """Collects the errors of several checks, so that users see all at once."""

    def __init__(self) -> None:
        self.errors: list[InputError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note an InputError of the block, and go on after it."""
        try:
            yield
        except InputError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise InputError if there was an error."""
        if self.errors:
            raise several(self.errors)


def one_line(text: str, most: int = 2000) -> str:
    """Return a text of a user as one printable line, cut to `most` characters; control characters are escaped.

    A text that is one line already is not changed, so nothing is escaped twice.
    """
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: most + 1])
    return line if len(line) <= most else line[: most - 3] + "..."


def counted(number: int, thing: str) -> str:
    """Return "1 run" or "3 runs"."""
    return f"{number} {thing}{'s' if number != 1 else ''}"


def nearest(name: str, known: Iterable[str], places: int = 1) -> str:
    """Return "; did you mean 'x'?" with up to `places` of the closest known names, or "" if none is close."""
    known = list(known)
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=places, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(lowered[c]) for c in close)}?" if close else ""


def redacted(text: str) -> str:
    """Return the text with the password in every URL (scheme://user:password@host, ?password=...) hidden."""
    text = re.sub(r"(\w+:/{1,2}[^\s/:@]*):[^\s/]*@", r"\1:***@", text)
    return re.sub(r"([?&]\w*pass\w*=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)
