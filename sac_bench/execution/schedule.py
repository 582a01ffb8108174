"""Chooses how many cohorts a group of runs is trained in, so that all workers end at about the same time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MIN_GAIN = 0.01
"""A plan with more cohorts must be this much shorter, and one that is this close to the bound is not improved."""


@dataclass(frozen=True)
class Divisible:
    """Runs that are trained in `fewest` to `most` cohorts of nearly equal width."""

    runs: int
    fewest: int
    most: int
    seconds: Callable[[int], float]
    """The time of a cohort of so many runs."""

    def times(self, count: int) -> list[float]:
        """Return the seconds of each of `count` cohorts, the widest first."""
        narrow, wider = divmod(self.runs, count)
        times = [self.seconds(narrow + 1)] * wider if wider else []
        return times + [self.seconds(narrow)] * (count - wider)


def indivisible(seconds: float) -> Divisible:
    """Return one cohort that is not divided."""
    return Divisible(1, 1, 1, lambda _: seconds)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last worker ends if each free worker takes the next cohort, in this order."""
    return max(loads(seconds, workers))


def loads(seconds: Sequence[float], workers: int, started: Sequence[float] = ()) -> list[float]:
    """Return when each of `workers` ends if each free one takes the next cohort; `started`: when workers are free."""
    ends = [*started, *[0.0] * (max(1, workers) - len(started))]
    heapq.heapify(ends)
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return ends


def balanced(groups: Sequence[Divisible], workers: int) -> list[int]:
    """Return the number of cohorts of each group, for the least time on `workers` with the longest cohort first.

    It starts from the fewest cohorts. Of the groups that train on the worker that ends last, it divides the one whose
    division leaves the shortest times, while the end comes earlier. Several workers may end last together, so an
    improvement may take one division for each. A result that is close to the bound, equal loads without any division,
    is not divided further.
    """
    counts = [group.fewest for group in groups]
    if not counts:
        return counts
    bound = sum(map(sum, _times(groups, counts))) / workers
    current = _longest_first(groups, counts, workers)
    best, best_counts, without_gain = current.ends[0], counts, 0
    while best > (1 + MIN_GAIN) * bound and without_gain < workers:
        tried = [
            [count + (g == divided) for g, count in enumerate(counts)]
            for divided in current.last
            if counts[divided] < groups[divided].most
        ]
        if not tried:
            break
        current, counts = min(((_longest_first(groups, some, workers), some) for some in tried), key=_order)
        without_gain += 1
        if current.ends[0] < (1 - MIN_GAIN) * best:
            best, best_counts, without_gain = current.ends[0], counts, 0
    return best_counts


def at_least(groups: Sequence[Divisible], counts: Sequence[int], least: int) -> list[int]:
    """Return the numbers of cohorts, raised to `least` in all as far as groups can be divided, the longest first."""
    counts = list(counts)
    while sum(counts) < least:
        divisible = [g for g, group in enumerate(groups) if counts[g] < group.most]
        if not divisible:
            break
        counts[max(divisible, key=lambda g: groups[g].times(counts[g])[0])] += 1
    return counts


class _Schedule(NamedTuple):
    ends: list[float]
    """When the workers end, the last one first."""
    last: list[int]
    """The groups with a cohort on a worker that ends last."""


def _order(candidate: tuple[_Schedule, list[int]]) -> tuple[list[float], list[int]]:
    return candidate[0].ends, candidate[1]


def _times(groups: Sequence[Divisible], counts: Sequence[int]) -> list[list[float]]:
    return [group.times(count) for group, count in zip(groups, counts, strict=True)]


def _longest_first(groups: Sequence[Divisible], counts: Sequence[int], workers: int) -> _Schedule:
    cohorts = sorted(((-one, g) for g, times in enumerate(_times(groups, counts)) for one in times))
    ends = [(0.0, worker) for worker in range(workers)]
    taken: list[set[int]] = [set() for _ in range(workers)]
    for negative, group in cohorts:
        end, worker = ends[0]
        heapq.heapreplace(ends, (end - negative, worker))
        taken[worker].add(group)
    latest = max(ends)[0]
    last = sorted(set().union(*(taken[worker] for end, worker in ends if end >= latest * (1 - 1e-9))))
    return _Schedule(sorted((end for end, _ in ends), reverse=True), last)
