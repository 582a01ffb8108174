"""Errors that the user can fix: one line each, exit code 2, never a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be met. The message is one line: where, what, and the closest alternative."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str, most: int = 2000) -> str:
    """Return a text of a user as one printable line, cut to `most` characters; control characters are escaped.

    A text that is one line already is not changed, so nothing is escaped twice.
    """
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: most + 1])
    return line if len(line) <= most else line[: most - 3] + "..."


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
