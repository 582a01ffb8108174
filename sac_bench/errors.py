"""Errors that are the user's to mend: one line each, exit code 2, never a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """What was asked cannot be done; the message says where, what and the nearest thing that can, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str, most: int = 2000) -> str:
    """The text as one line that is safe to show, whatever a user wrote in it: control characters escaped, cut if long.

    One line stays as it is, so nothing is escaped twice.
    """
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: most + 1])
    return line if len(line) <= most else line[: most - 3] + "..."


def nearest(name: str, known: Iterable[str], places: int = 1) -> str:
    """`; did you mean 'x'?` for the closest known names, or nothing when none is close."""
    known = list(known)
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=places, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(lowered[c]) for c in close)}?" if close else ""


def redacted(text: str) -> str:
    """The text with the password of every URL in it (scheme://user:password@host, ?password=...) hidden."""
    text = re.sub(r"(\w+:/{1,2}[^\s/:@]*):[^\s/]*@", r"\1:***@", text)
    return re.sub(r"([?&]\w*pass\w*=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)
