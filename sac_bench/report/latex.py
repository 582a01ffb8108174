"""Tables in LaTeX, with the packages booktabs and siunitx, and figures with their captions."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from sac_bench.analysis.format import score_format
from sac_bench.report.labels import FORMULA
from sac_bench.report.page import Picture, as_text
from sac_bench.results.manifest import Manifest

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "²": r"\textsuperscript{2}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    "]": "{]}",
} | {character: f"\\{character}" for character in "&%$#_{}"}
VERDICTS = {"better": "better", "worse": "worse", "equivalent": "equiv.", "undecided": "undec.", "": "--"}
"""Verdicts that fit a narrow column."""
MINUS = re.compile(r"(?<![\w.)-])-(?=\d)")
"""The sign of a number in text, which LaTeX sets as a hyphen."""
LONG_CELL = 24
"""Characters of a cell that make its column one of lines."""
LINES = r">{\raggedright\arraybackslash}p{11em}"
"""Such a column. siunitx loads the package array, which it needs."""
PACKAGES = r"% Needs \usepackage{booktabs,siunitx}"


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, its alignment, and its cells in LaTeX."""

    heading: str
    alignment: str
    cells: tuple[str, ...]

    @property
    def shown(self) -> list[str]:
        """The cells, of which siunitx takes those in braces as text."""
        if not self.alignment.startswith("S"):
            return list(self.cells)
        return [cell if re.fullmatch(r"-?[\d.]+", cell) else f"{{{cell}}}" for cell in self.cells]


def escaped(text: str) -> str:
    """Return text with all that LaTeX treats specially escaped. Formulas stay, and so does an escaped dollar sign."""
    parts = re.split(rf"({FORMULA.pattern}|\\\$)", text)
    plain = ["".join(SPECIAL.get(character, character) for character in part) for part in parts[::2]]
    plain = [MINUS.sub("$-$", part) for part in plain]
    return "".join(chain.from_iterable(zip(plain, [*parts[1::2], ""], strict=True)))


def words(heading: str, cells: Sequence[str]) -> Column:
    """Return a column of text, in which long cells have several lines."""
    alignment = LINES if max(map(len, cells), default=0) > LONG_CELL else "l"
    return Column(heading, alignment, tuple(escaped(cell).replace(" = ", "~=~") for cell in cells))


def numbers(heading: str, values: Iterable[Any], spec: str) -> Column:
    """Return a column of numbers in a format such as ".1f", aligned at their points; empty for what is missing."""
    cells = tuple("" if value is None or pd.isna(value) else format(value, spec) for value in values)
    whole = max((len(cell.lstrip("-").partition(".")[0]) for cell in cells), default=1) or 1
    decimals = max((len(cell.partition(".")[2]) for cell in cells), default=0)
    sign = "-" if any(cell.startswith("-") for cell in cells) else ""
    return Column(f"{{{heading}}}", f"S[table-format={sign}{whole}.{decimals}]", cells)


def intervals(heading: str, low: Iterable[float], high: Iterable[float], spec: str) -> Column:
    """Return a column of intervals."""
    cells = (
        "" if pd.isna(a) or pd.isna(b) else f"$[{_bound(a, spec)}, {_bound(b, spec)}]$"
        for a, b in zip(low, high, strict=True)
    )
    return Column(heading, "c", tuple(cells))


def _bound(value: float, spec: str) -> str:
    if math.isfinite(value):
        return format(value, spec)
    return r"\infty" if value > 0 else r"-\infty"


def table(
    columns: Sequence[Column], caption: str, label: str, notes: Sequence[str] = (), breaks: Sequence[int] = ()
) -> str:
    """Return a table with its caption, in LaTeX, and notes as comments. `breaks`: rows before which there is a rule."""
    rows = [" & ".join(cells) + r" \\" for cells in zip(*(column.shown for column in columns), strict=True)]
    body = [line for i, row in enumerate(rows) for line in ([r"\midrule"] if i in breaks else []) + [row]]
    lines = [
        PACKAGES,
        *(f"% {line}" for note in notes for line in textwrap.wrap(" ".join(note.split()), 110)),
        r"\begin{table*}",  # across both columns of a page, if it has two
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        f"\\caption{{{caption}}}",
        f"\\label{{{label}}}",
        r"\medskip",  # classes leave no space below a caption
        f"\\begin{{tabular}}{{{''.join(column.alignment for column in columns)}}}",
        r"\toprule",
        " & ".join(column.heading for column in columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def final_table(final: pd.DataFrame, manifest: Manifest, notes: Sequence[str]) -> str:
    """Return the table of final performance: scores, differences from the reference, short verdicts."""
    spec = score_format(final["score"].abs().max())
    several = len(manifest.envs) > 1
    first = final["env"] != final["env"].shift()
    exploded = int(final["exploded"].sum())
    named = [manifest.label(name) + (" (ref.)" if name == manifest.reference else "") for name in final["variant"]]
    columns = [
        *[words("Task", [env if new else "" for env, new in zip(final["env"], first, strict=True)])] * several,
        words("Variant", named),
        numbers("$n$", final["seeds"], "d"),
        *[numbers("Expl.", final["exploded"], "d")] * bool(exploded),
        numbers("Score", final["score"], spec),
        intervals(r"95\,\% CI", final["ci_low"], final["ci_high"], spec),
    ]
    caption = "Scores over $n$ seeds"
    if final["difference"].notna().any():
        columns += [
            numbers("Diff.", final["difference"], spec),
            intervals(r"95\,\% CI", final["difference_ci_low"], final["difference_ci_high"], spec),
        ]
        caption += f" and differences from {escaped(manifest.label(manifest.reference))}"
    caption += r", with 95\,\% intervals."
    reference = final["variant"] == manifest.reference
    if not manifest.claim and (final["verdict"] != "").any():  # the claim's own comparisons have the verdicts
        verdicts = ["" if ref else VERDICTS[word] for word, ref in zip(final["verdict"], reference, strict=True)]
        columns.append(words("Verdict", verdicts))
        caption += r" Verdicts at 5\,\% after Holm's correction"
        if final["seeds_needed"].notna().any():
            columns.append(numbers("$n'$", final["seeds_needed"], "d"))
            caption += r"; $n'$ seeds per variant would decide at 80\,\% power"
        caption += "."
    if exploded:
        caption += r" Expl.: runs whose $|Q|$ exceeded what their rewards allow; they keep their scores."
    breaks = [int(i) for i, new in enumerate(first) if new and i] if several else []
    return table(columns, caption, f"tab:{manifest.name}", notes, breaks)


def words_table(shown: pd.DataFrame, caption: str, label: str, notes: Sequence[str]) -> str:
    """Return a table of text cells."""
    text = as_text(shown)
    columns = [words(_heading(str(name)), list(text[name])) for name in text]
    return table(columns, escaped(caption), label, notes)


def _heading(name: str) -> str:
    """Return a heading; names of environments stay as they are."""
    return escaped(name.capitalize() if name.isalpha() and name.islower() else name)


def figures(pictures: Sequence[Picture], name: str, width: float | None) -> str:
    """Return figure environments of an experiment's figures, with captions and labels.

    width: inches, or None for each figure's own.
    """
    options = "" if width is None else f"[width={width:g}in]"
    parts = []
    for picture in pictures:
        stem = picture.path.stem
        parts.append(
            "\n".join(
                [
                    r"\begin{figure}",
                    r"\centering",
                    f"\\includegraphics{options}{{\\detokenize{{{stem}}}}}",
                    f"\\caption{{{escaped(picture.caption)}}}",
                    f"\\label{{fig:{name}-{re.sub('[^A-Za-z0-9.-]', '-', stem)}}}",
                    r"\end{figure}",
                ]
            )
        )
    return "% Needs \\usepackage{graphicx}\n" + "\n\n".join(parts) + "\n"
