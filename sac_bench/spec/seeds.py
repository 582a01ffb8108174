"""How many seeds each variant gets: a fixed number, or a range "5..30" within which undecided comparisons get more."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sac_bench.errors import InputError

LOOKS = (5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800)
"""The numbers of seeds at which verdicts on a range are computed. A range starts and ends at one of them."""
REFERENCE_FACTOR = 2
"""With a range of seeds, an experiment's reference has by default this many times the seeds of its variants, because
every comparison needs it (`reference_factor`). The best factor for k variants of equal spread is about sqrt(k)
(Dunnett 1955, Journal of the American Statistical Association 50, p. 1096)."""
Seeds = int | list[int] | str
"""Seeds as files state them: a number n for 0 to n - 1, a list, or a range."""
MOST_SINGLE_SEEDS = 10_000
"""Single seeds from 0 on that a range on the command line may state."""
RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")


@dataclass(frozen=True)
class SeedRange:
    """The seeds per variant at the first look and the most seeds per variant, both in LOOKS."""

    first: int
    last: int

    @property
    def looks(self) -> tuple[int, ...]:
        """The looks of the range, ascending."""
        return tuple(n for n in LOOKS if self.first <= n <= self.last)

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"


def typed(text: str) -> Seeds:
    """Return the seeds that a command line states: "5" is a number, "0,1,2" and "0..2" are lists, "5..30" stays a text.

    A range of the number of seeds cannot begin with 0, so "0..2" can only mean single seeds.
    """
    if (match := RANGE.fullmatch(text.strip())) and int(match[1]) == 0 and int(match[2]) < MOST_SINGLE_SEEDS:
        return list(range(int(match[2]) + 1))
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        return int(text)
    if re.fullmatch(r"[0-9]{1,10}( *, *[0-9]{1,10})*,?", text.strip()):
        return [int(one) for one in text.split(",") if one.strip()]
    return text


def parse_range(text: str, where: str) -> SeedRange:
    """Return the range that a text such as "5..30" describes.

    Raises InputError unless both numbers are in LOOKS and the first is not above the last.
    """
    match = RANGE.fullmatch(text)
    if not match:
        raise InputError(f'{where}: seeds: {text!r} must be a number, a list of seeds or a range such as "5..30"')
    first, last = map(int, match.groups())
    if first <= 1:
        raise InputError(
            f"{where}: seeds: {text!r}: a range is of the number of seeds (5..30: 5 first, up to 30 while undecided); "
            f"use {last - first + 1} for so many seeds, or a list for single ones, such as {first},{last}"
        )
    for n in (first, last):
        if n not in LOOKS:
            near = sorted(LOOKS, key=lambda look: abs(look - n))[:2]
            raise InputError(
                f"{where}: seeds: {text!r}: verdicts are computed at {', '.join(map(str, LOOKS))} seeds, not at {n}; "
                f"use {min(near)} or {max(near)}"
            )
    if first > last:
        raise InputError(f"{where}: seeds: {text!r}: the first number must not be above the second")
    return SeedRange(first, last)
