"""Error, power and seeds of sequential verdicts, by simulation.

    python benchmarks/sequential.py PART... [--tables N] [--out FOLDER]

Parts:
    check    the p-values computed here equal those of `permutation.Permuted`, verdicts those of `sequential.standings`
    error    tables in which both sides of each comparison have one distribution: how many name any difference
    shapes   the same for equal means and unequal distributions
    margins  true differences at a margin: how often equivalence or "at least as good" is shown
    measures spread and shares of weak seeds with equal distributions: how often a difference is shown
    power    decided comparisons and seeds by effect, for several schemes of looks
    adastop  the same by AdaStop (Mathieu et al. 2023, arXiv 2306.10882; PyPI adastop), in an environment of
             its own: that of ADASTOP_PYTHON, else a new one from PyPI
    score    which score of the recorded quick runs has the largest standardised effects
    report   a page of all tables

A table has 9 variants and a reference with twice their seeds. Writes FOLDER/PART.csv. All distributions have mean 0 and
variance 1. Recorded ones are final returns of published runs, `sequential_shapes.csv`: sources and licences are in
results/record/sequential/report.md.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sac_bench.analysis.hypotheses import different
from sac_bench.analysis.permutation import MIN_TEST_DRAWS, TIE_TOLERANCE, Permuted, labels, unpacked
from sac_bench.analysis.sequential import ALPHA, MIN_CHANCE, Contest, Design, Trial, share, standings
from sac_bench.analysis.statistics import Difference, area_score, run_score, shares, unpaired
from sac_bench.spec.seeds import REFERENCE_FACTOR

HERE = Path(__file__).parent
OUT = HERE.parent / "results" / "record" / "sequential"
LOOKS = (5, 8, 12, 20, 30)
ARMS = 9
SCREEN, STEPS = 512, (2_560, 10_240)
"""Labellings after which comparisons with a clearly larger p-value are left out: first in single precision."""
COLUMNS, ROWS = 128, 256
"""Comparisons and labellings whose statistics are computed at once: they fit a core's cache."""
BLOCK = 2_000
"""Tables that are in memory at once."""

Array = NDArray[Any]
Random = np.random.Generator
Sides = Callable[[Random, int], tuple[Array, Array]]
Row = dict[str, Any]
Case = Callable[[], list[Row]]
"""A part of a part: its rows."""


# Distributions with mean 0 and variance 1


@functools.cache
def recorded_scores() -> tuple[Array, Array, list[str]]:
    """Return standardised scores [G, 10] of G groups of published runs, their numbers [G], and their names."""
    table = pd.read_csv(HERE / "sequential_shapes.csv")
    groups = [(" ".join(name), of.to_numpy()) for name, of in table.groupby(["source", "algorithm", "env"])["score"]]
    counts = np.array([len(of) for _, of in groups])
    values = np.zeros((len(groups), counts.max()))
    for row, (_, of) in zip(values, groups, strict=True):
        row[: len(of)] = (of - of.mean()) / of.std()
    return values, counts, [name for name, _ in groups]


def recorded(random: Random, size: tuple[int, ...], group: Array, smooth: float) -> Array:
    """Return scores [seeds, ..., tables] resampled from each table's group [tables], plus noise of sd `smooth`."""
    values, counts, _ = recorded_scores()
    drawn = values[group, np.floor(random.random(size) * counts[group]).astype(int)]
    return np.asarray((drawn + smooth * random.normal(size=size)) / math.sqrt(1 + smooth**2))


def lognormal(random: Random, size: tuple[int, ...], sigma: float) -> Array:
    return np.asarray(
        (random.lognormal(0, sigma, size) - math.exp(sigma**2 / 2))
        / math.sqrt(math.expm1(sigma**2) * math.exp(sigma**2))
    )


def two_modes(random: Random, size: tuple[int, ...]) -> Array:
    """Return scores at -1 or 1 with little noise."""
    return (random.choice([-1.0, 1.0], size) + 0.05 * random.normal(size=size)) / math.sqrt(1 + 0.05**2)


def failures(random: Random, size: tuple[int, ...], chance: float) -> Array:
    """Return scores of seeds with gain 1 and sd 0.1, or gain 0 exactly with this chance."""
    gain = np.where(random.random(size) < chance, 0.0, 1 + 0.1 * random.normal(size=size))
    return np.asarray((gain - (1 - chance)) / math.sqrt(chance * (1 - chance) + (1 - chance) * 0.1**2))


def draw(shape: str, random: Random, size: tuple[int, ...], group: Array) -> Array:
    """Return scores of a distribution; `group` [tables] names each table's group of recorded scores."""
    match shape:
        case "normal":
            return random.normal(size=size)
        case "lognormal 0.5":
            return lognormal(random, size, 0.5)
        case "lognormal 1":
            return lognormal(random, size, 1.0)
        case "two modes":
            return two_modes(random, size)
        case "20% failures":
            return failures(random, size, 0.2)
        case "10% failures":
            return failures(random, size, 0.1)
        case "recorded":
            return recorded(random, size, group, 0.0)
        case "recorded, smooth":
            return recorded(random, size, group, 0.25)
    raise ValueError(f"{shape!r} is no distribution")


def groups(random: Random, size: int) -> Array:
    return random.integers(len(recorded_scores()[0]), size=size)


# Permutation tests of many comparisons at once


def p_values(a: Array, b: Array, exact: float, draws: int = MIN_TEST_DRAWS, of_means: bool = False) -> Array:
    """Return the p-values [2, M] of a above and below b, for scores a [n, M] and b [m, M].

    They equal `Permuted.by_permutation`, except that those above `exact` are estimates that are above it too.
    of_means: the statistic is the difference of means instead of Welch's t.
    """
    n, m = len(a), len(b)
    pooled = np.concatenate([a, b])
    pooled -= pooled.mean(axis=0)
    pooled /= np.maximum(pooled.std(axis=0), 1e-300)
    rows = shuffled_labels(n, m, draws)
    added = 0 if len(rows) == math.comb(n + m, n) else 1
    limit = exact * (len(rows) + added) - added
    result = np.full((2, pooled.shape[1]), np.nextafter(exact, 1))
    left = np.flatnonzero((at_least(pooled, n, rows[:SCREEN], np.float32, of_means) <= limit).any(axis=0))
    counts = np.zeros((2, len(left)))
    edges = [0, *(step for step in STEPS if step < len(rows)), len(rows)]
    for start, stop in pairwise(edges):
        counts += at_least(pooled[:, left], n, rows[start:stop], np.float64, of_means)
        result[:, left] = np.maximum((counts + added) / (stop + added), result[:, left] if stop < len(rows) else 0)
        goes_on = (counts <= limit).any(axis=0)
        left, counts = left[goes_on], counts[:, goes_on]
    return result


@functools.lru_cache(maxsize=16)
def shuffled_labels(n: int, m: int, draws: int) -> Array:
    """Return the labellings [B, n + m] of `permutation.labels`, in another order if they are all there are."""
    rows = np.concatenate(list(unpacked(labels(((n, m),), draws)[0], n + m)))
    return np.random.default_rng(0).permutation(rows) if len(rows) == math.comb(n + m, n) else rows


def at_least(pooled: Array, n: int, rows: Array, kind: type, of_means: bool) -> Array:
    """Return how many labellings [B, N] have a statistic (see `p_values`) at least, and at most, the observed: [2, M].

    pooled: scores [N, M] with mean 0; the first n are on the first side. With the sum S and the sum of squares Q of the
    first side, t^2 is proportional to S^2 / (u Q - v S^2 + w). So S |S| / (u Q + w) has the order of t.
    """
    m = len(pooled) - n
    squares = pooled**2
    u, w = 1 / (n * (n - 1)) - 1 / (m * (m - 1)), squares.sum(axis=0) / (m * (m - 1))
    weights = np.full_like(squares, 1 / n) if of_means else u * squares + w / n
    scale = weights.astype(kind)
    scores, first, tolerance = (
        pooled.astype(kind),
        rows.astype(kind),
        kind(1e-4 if kind is np.float32 else TIE_TOLERANCE),
    )
    sums = pooled[:n].sum(axis=0)
    observed = (sums * np.abs(sums) / np.maximum(weights[:n].sum(axis=0), 1e-300)).astype(kind)
    counts = np.empty((2, pooled.shape[1]))
    for at in range(0, pooled.shape[1], COLUMNS):
        part = slice(at, at + COLUMNS)
        counts[:, part] = 0
        for row in range(0, len(first), ROWS):
            s = first[row : row + ROWS] @ scores[:, part]
            below = first[row : row + ROWS] @ scale[:, part]
            s *= np.abs(s)
            near = tolerance * below
            below *= observed[part]
            s -= below
            counts[0, part] += np.count_nonzero(s >= -near, axis=0)
            counts[1, part] += np.count_nonzero(s <= near, axis=0)
    return counts


def welch(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Return the difference of means [M] of scores [n, M] and [m, M], its standard error and degrees of freedom."""
    n, m = len(a), len(b)
    of_a, of_b = a.var(axis=0, ddof=1) / n, b.var(axis=0, ddof=1) / m
    square = np.maximum(of_a + of_b, 1e-300)
    freedom = square**2 / np.maximum(of_a**2 / (n - 1) + of_b**2 / (m - 1), 1e-300)
    return a.mean(axis=0) - b.mean(axis=0), np.sqrt(square), np.maximum(freedom, 1.0)


def welch_p(a: Array, b: Array) -> Array:
    value, error, freedom = welch(a, b)
    return np.array([stats.t.sf(value / error, freedom), stats.t.cdf(value / error, freedom)])


def against_reference(arms: Array, reference: Array) -> tuple[Array, Array]:
    """Return both sides [seeds, ARMS * T] of comparisons of arms [n, ARMS, T] with the reference [m, T]."""
    wide = np.broadcast_to(reference[:, None], (len(reference), *arms.shape[1:]))
    return arms.reshape(len(arms), -1), wide.reshape(len(wide), -1)


def upper(events: int, of: int) -> float:
    """Return the upper limit of a share: 97.5% of Clopper and Pearson."""
    return float(stats.beta.ppf(0.975, events + 1, of - events)) if events < of else 1.0


# Errors


TESTS = ("permutation", "by Welch's t", "by both", "by means too", "by all three")
"""Permutation of Welch's t, Student's t, and where all of several reject; "means": permutation of their difference."""


def errors(tables: int, seed: int, sides: Sides, least: float) -> Array:
    """Return which tables name any difference at a look: [tests, T, looks]. The tests are TESTS.

    sides: draws scores [30, ARMS, T] of the variants and [60, T] of the reference.
    least: the factor of a look's share below which a one-sided p-value decides.
    """
    random = np.random.default_rng(seed)
    found = []
    for first in range(0, tables, BLOCK):
        arms, reference = sides(random, min(BLOCK, tables - first))
        looks = []
        for n in LOOKS:
            a, b = against_reference(arms[:n], reference[: REFERENCE_FACTOR * n])
            limit = least * share(n)
            by_label, by_t = p_values(a, b, limit) <= limit, welch_p(a, b) <= limit
            by_means = np.zeros_like(by_label)
            near = by_label.any(axis=0)
            by_means[:, near] = p_values(a[:, near], b[:, near], limit, of_means=True) <= limit
            each = np.array([by_label, by_t, by_label & by_t, by_label & by_means, by_label & by_means & by_t])
            looks.append(each.any(axis=1).reshape(len(each), ARMS, -1).any(axis=1))
        found.append(np.array(looks))
    return np.concatenate(found, axis=2).transpose(1, 2, 0)


def error_row(name: Row, tables: int, seed: int, sides: Sides, least: float) -> list[Row]:
    started = time.process_time()
    by_test = errors(tables, seed, sides, least)
    by_label = by_test[0]
    named = int(by_label.any(axis=1).sum())
    first = {f"first at {n}": int((by_label[:, i] & ~by_label[:, :i].any(axis=1)).sum()) for i, n in enumerate(LOOKS)}
    row = {
        **name,
        "tables": tables,
        "tables that name one": named,
        "share": named / tables,
        "upper limit": upper(named, tables),
        **first,
        **{test: by_test[i].any(axis=1).mean() for i, test in enumerate(TESTS) if i},
        "by all three, from 8 seeds": by_test[-1, :, 1:].any(axis=1).mean(),
        "by all three, from 12 seeds": by_test[-1, :, 2:].any(axis=1).mean(),
        "CPU seconds": round(time.process_time() - started, 1),
    }
    return [row]


DIFFERENT = ALPHA / ARMS / 2
ALIKE = (
    "normal",
    "lognormal 0.5",
    "lognormal 1",
    "two modes",
    "20% failures",
    "10% failures",
    "recorded",
    "recorded, smooth",
)


def one_shape(shape: str) -> Sides:
    def sides(random: Random, tables: int) -> tuple[Array, Array]:
        group = groups(random, tables)
        return draw(shape, random, (30, ARMS, tables), group), draw(shape, random, (60, tables), group)

    return sides


def two_shapes(of_arms: str, of_reference: str, spread: float) -> Sides:
    """Return a function that draws sides; each arm of recorded scores has a group of its own."""

    def sides(random: Random, tables: int) -> tuple[Array, Array]:
        arms = [draw(of_arms, random, (30, tables), groups(random, tables)) for _ in range(ARMS)]
        return spread * np.stack(arms, axis=1), draw(of_reference, random, (60, tables), groups(random, tables))

    return sides


def error(tables: int | None) -> list[Case]:
    return [
        partial(error_row, {"distribution": shape}, tables or 20_000, i, one_shape(shape), DIFFERENT)
        for i, shape in enumerate(ALIKE)
    ]


UNEQUAL = ("normal", "lognormal 1", "two modes", "20% failures", "recorded, smooth")


def shapes(tables: int | None) -> list[Case]:
    pairs = [(a, b, 1.0) for a, b in product(UNEQUAL, UNEQUAL) if a != b or a.startswith("recorded")]
    pairs += [
        ("lognormal 0.5", "normal", 1.0),
        ("normal", "lognormal 0.5", 1.0),
        ("10% failures", "normal", 1.0),
        ("normal", "10% failures", 1.0),
    ]
    pairs += [(shape, shape, factor) for shape in UNEQUAL for factor in (2.0, 0.5)]
    return [
        partial(
            error_row,
            {"variants": of_arms, "reference": of_reference, "variance ratio": factor**2},
            tables or 1_000,
            100 + i,
            two_shapes(of_arms, of_reference, factor),
            DIFFERENT,
        )
        for i, (of_arms, of_reference, factor) in enumerate(pairs)
    ]


# Margins and other measures: claims compare two variants with n seeds each


def any_look(p: Array, count: int) -> Array:
    """Return which comparisons [M] of `count` in a table are shown at any look, of p-values [looks, M]."""
    limits = np.array([ALPHA * share(n) / count for n in LOOKS])
    return np.asarray((p <= limits[:, None]).any(axis=0))


def margins(tables: int | None) -> list[Case]:
    """Return tables of 9 with all true differences at the margin, and single claims with n seeds on each side."""
    kinds = ("normal", "lognormal 1", "recorded, smooth")
    return [
        *(partial(_at_margin, shape, margin, tables or 4_000) for shape in kinds for margin in (1.0, 2.0)),
        *(partial(_claim_at_margin, shape, 5 * (tables or 4_000)) for shape in kinds),
    ]


def _at_margin(shape: str, margin: float, tables: int) -> list[Row]:
    arms, reference = one_shape(shape)(np.random.default_rng(200), tables)
    below, within = [], []
    for n in LOOKS:
        a, b = against_reference(arms[:n], reference[: REFERENCE_FACTOR * n])
        limit = ALPHA * share(n) / ARMS
        under = p_values(a, b, limit)[1]
        over = np.ones_like(under)
        over[under <= limit] = p_values(a[:, under <= limit] + 2 * margin, b[:, under <= limit], limit)[0]
        below.append(under)
        within.append(np.maximum(under, over))
    shown = {"not better by more": below, "equivalent": within}
    about = {"distribution": shape, "seeds": "n and 2n", "comparisons": ARMS, "margin": margin}
    return [
        about | {"shown": word} | _share(any_look(np.array(p), ARMS).reshape(ARMS, -1).any(axis=0))
        for word, p in shown.items()
    ]


def _claim_at_margin(shape: str, claims: int) -> list[Row]:
    random = np.random.default_rng(250)
    group = groups(random, claims)
    a, b = draw(shape, random, (30, claims), group), draw(shape, random, (30, claims), group)
    p = np.array([p_values(a[:n], b[:n], ALPHA * share(n)) for n in LOOKS])
    about = {"distribution": shape, "seeds": "n and n", "comparisons": 1, "margin": "any"}
    words = ("not worse by more", "not better by more")
    return [about | {"shown": word} | _share(any_look(p[:, i], 1)) for i, word in enumerate(words)]


def _share(shown: Array) -> Row:
    return {"tables": len(shown), "share": shown.mean(), "upper limit": upper(int(shown.sum()), len(shown))}


def relative(gains: Array) -> Array:
    """Return |x - median| / mean of gains [n, M], as measures.py defines relative_spread."""
    return np.asarray(np.abs(gains - np.median(gains, axis=0)) / gains.mean(axis=0))


def measures(tables: int | None) -> list[Case]:
    """Return single one-sided claims about spread and weak seeds, with equal distributions on both sides."""
    claims = tables or 20_000
    kinds = product(("normal", "lognormal 1", "20% failures", "recorded, smooth"), (0.1, 0.3), (1, 2))
    return [
        *(partial(_spread, *kind, claims) for kind in kinds),
        *(partial(_weak, *kind, claims) for kind in product((0.02, 0.05, 0.1, 0.2, 0.5), (1, 2))),
    ]


def _spread(shape: str, sd: float, factor: int, claims: int) -> list[Row]:
    random = np.random.default_rng(300)
    group = groups(random, claims)
    a = 1 + sd * draw(shape, random, (30, claims), group)
    b = 1 + sd * draw(shape, random, (30 * factor, claims), group)
    p = np.array([p_values(relative(a[:n]), relative(b[: factor * n]), ALPHA * share(n)) for n in LOOKS])
    about = {"measure": "relative spread", "distribution": shape, "sd or chance": sd, "seeds": f"n and {factor}n"}
    return [about | {"shown": word} | _share(any_look(p[:, i], 1)) for i, word in enumerate(("larger", "smaller"))]


def _weak(chance: float, factor: int, claims: int) -> list[Row]:
    random = np.random.default_rng(400)
    a, b = random.random((30, claims)) < chance, random.random((30 * factor, claims)) < chance
    p = np.array([share_p(a[:n], b[: factor * n]) for n in LOOKS])
    about = {"measure": "share", "distribution": "0 or 1", "sd or chance": chance, "seeds": f"n and {factor}n"}
    return [about | {"shown": word} | _share(any_look(p[:, i], 1)) for i, word in enumerate(("larger", "smaller"))]


def share_p(a: Array, b: Array) -> Array:
    """Return the p-values [2, M] of `statistics.shares` for 0 and 1 in [n, M] and [m, M]."""
    result = np.empty((2, a.shape[1]))
    cache: dict[tuple[int, int], tuple[float, float]] = {}
    for i, (x, y) in enumerate(zip(a.sum(axis=0), b.sum(axis=0), strict=True)):
        if (x, y) not in cache:
            sides = [np.repeat([1.0, 0.0], [s, len(of) - s]) for s, of in ((x, a), (y, b))]
            difference = shares(*sides)
            cache[x, y] = difference.above(), difference.below()
        result[:, i] = cache[x, y]
    return result


# Power


EFFECTS = np.array([0, 0, 0, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0])
POWER_DRAWS = 20_000


@dataclass(frozen=True)
class Scheme:
    """Looks with their shares of the error, and the chance below which a comparison stops."""

    name: str
    shares: tuple[float, ...] = (0.15,) * 5
    futile: float = MIN_CHANCE
    looks: tuple[int, ...] = LOOKS


SCHEMES = (
    Scheme("equal shares 0.15, futility 0.05"),
    Scheme("equal shares 0.15, no futility", futile=0.0),
    Scheme("equal shares 0.15, futility 0.1", futile=0.1),
    Scheme("equal shares 0.15, futility 0.2", futile=0.2),
    Scheme("equal shares 0.2, ends at 30, futility 0.05", (0.2,) * 5),
    Scheme("shares 0.05 to 0.25, futility 0.05", (0.05, 0.1, 0.15, 0.2, 0.25)),
    Scheme("shares 0.25 to 0.05, futility 0.05", (0.25, 0.2, 0.15, 0.1, 0.05)),
    *(Scheme(f"fixed {n}", (1.0,), 0.0, (n,)) for n in LOOKS),
)


@dataclass(frozen=True)
class Sample:
    """Both p-values [looks, 2, T, ARMS] of tables, with Welch's value, error and freedom [looks, 3, T, ARMS]."""

    p: Array
    t: Array
    of_means: Array
    """As `p`, for the difference of means."""


def sample(arms: Array, reference: Array) -> Sample:
    """Return the tests of arms [30, ARMS, T] against the reference [60, T]."""
    p, t, of_means = [], [], []
    for n in LOOKS:
        a, b = against_reference(arms[:n], reference[: REFERENCE_FACTOR * n])
        for result, by_means in ((p, False), (of_means, True)):
            found = p_values(a, b, ALPHA / 2, POWER_DRAWS, by_means)
            result.append(found.reshape(2, ARMS, -1).swapaxes(1, 2))
        t.append(np.array(welch(a, b)).reshape(3, ARMS, -1).swapaxes(1, 2))
    return Sample(np.array(p), np.array(t), np.array(of_means))


def holm_rows(p: Array) -> Array:
    """Return p-values [T, M] adjusted by Holm's method in each row."""
    order = np.argsort(p, axis=1)
    ranked = np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * np.arange(p.shape[1], 0, -1), axis=1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, np.minimum(ranked, 1), axis=1)
    return result


def decide(tests: Sample, scheme: Scheme) -> tuple[Array, Array]:
    """Return which comparisons [T, ARMS] are decided, and their last looks, as `sequential.standings` does."""
    shape = tests.p.shape[2:]
    raw, stopped = np.ones(shape), np.zeros(shape, dtype=int)
    is_decided, is_futile = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for k, n in enumerate(scheme.looks):
        at = LOOKS.index(n)
        is_open = ~is_decided & ~is_futile
        two_sided = np.minimum(1, 2 * tests.p[at].min(axis=0)) / scheme.shares[k]
        raw = np.where(is_open, np.minimum(raw, two_sided), raw)
        stopped = np.where(is_open, n, stopped)
        is_decided |= holm_rows(raw) <= ALPHA
        if n == scheme.looks[-1] or scheme.futile == 0:
            continue
        undecided = np.maximum((~is_decided).sum(axis=1, keepdims=True), 1)
        best = np.max(
            [
                chance_later(tests.t[at], later / n, ALPHA * of / undecided)
                for later, of in zip(scheme.looks[k + 1 :], scheme.shares[k + 1 :], strict=True)
            ],
            axis=0,
        )
        is_futile |= ~is_decided & (best < scheme.futile)
    return is_decided, stopped


def chance_later(t: Array, growth: float, alpha: Array) -> Array:
    """Return `Hypothesis.chance_later` of the better direction, for Welch's value, error and freedom [3, T, ARMS]."""
    value, error, freedom = t
    needed = stats.t.isf(alpha / 2, freedom * growth) * error / math.sqrt(growth)
    return np.asarray(stats.norm.cdf((np.abs(value) - needed) / (error * math.sqrt(1 - 1 / growth))))


POWERED = ("normal", "td3_author TD3 Hopper-v1", "simbav2 SAC Humanoid-v4", "xuance SAC HalfCheetah-v5")


def effect_sides(shape: str, random: Random, tables: int) -> tuple[Array, Array]:
    """Return variants [30, ARMS, T] that are EFFECTS sd below the reference [60, T]."""
    names = recorded_scores()[2]
    group = np.full(tables, names.index(shape) if shape in names else 0)
    kind = "recorded, smooth" if shape in names else shape
    arms = draw(kind, random, (30, ARMS, tables), group) - EFFECTS[None, :, None]
    return arms, draw(kind, random, (60, tables), group)


def power(tables: int | None) -> list[Case]:
    return [partial(_power, shape, 500 + i, tables or 400) for i, shape in enumerate(POWERED)]


def _power(shape: str, seed: int, tables: int) -> list[Row]:
    tests = sample(*effect_sides(shape, np.random.default_rng(seed), tables))
    rows = [power_row(shape, scheme.name, *decide(tests, scheme)) for scheme in SCHEMES]
    others = {"Welch's test too": with_welch(tests), "means too": with_means(tests)}
    others["all three"] = with_means(others["Welch's test too"])
    rows += [power_row(shape, f"{SCHEMES[0].name}, {of}", *decide(other, SCHEMES[0])) for of, other in others.items()]
    return rows


def with_welch(tests: Sample) -> Sample:
    """Return tests with the larger p-value: by permutation or by Student's t."""
    t = tests.t[:, 0] / tests.t[:, 1]
    tails = np.stack([stats.t.sf(t, tests.t[:, 2]), stats.t.cdf(t, tests.t[:, 2])], axis=1)
    return replace(tests, p=np.maximum(tests.p, tails))


def with_means(tests: Sample) -> Sample:
    """Return tests with the larger p-value: by permutation of Welch's t or of the difference of means."""
    return replace(tests, p=np.maximum(tests.p, tests.of_means))


def power_row(shape: str, name: str, is_decided: Array, stopped: Array) -> Row:
    """Return the power and mean seeds by effect, of decisions and last looks [T, ARMS]."""
    row: Row = {"distribution": shape, "scheme": name, "tables": len(stopped)}
    row["runs"] = (stopped.sum(axis=1) + REFERENCE_FACTOR * stopped.max(axis=1)).mean()
    if shape == NULL:
        return row | {"false": is_decided.any(axis=1).mean()}
    row["false"] = is_decided[:, EFFECTS == 0].any(axis=1).mean()
    for effect in np.unique(EFFECTS[EFFECTS > 0]):
        row[f"power {effect:g}"] = is_decided[:, effect == EFFECTS].mean()
    for effect in np.unique(EFFECTS):
        row[f"seeds {effect:g}"] = stopped[:, effect == EFFECTS].mean()
    return row


NULL = "normal, no effects"
ADASTOP = ["adastop==0.1.3", "numpy==2.4.6", "pandas==3.1.1", "matplotlib==3.11.2"]


def adastop(tables: int | None) -> list[Case]:
    """Return AdaStop's power with looks every 5 seeds up to 30, many to one, at the same level, and its error."""
    return [partial(_against_adastop, shape, 600 + i, tables or 200) for i, shape in enumerate((*POWERED[:2], NULL))]


def _against_adastop(shape: str, seed: int, tables: int) -> list[Row]:
    random = np.random.default_rng(seed)
    arms, reference = one_shape("normal")(random, tables) if shape == NULL else effect_sides(shape, random, tables)
    with tempfile.TemporaryDirectory() as folder:
        theirs = _adastop(Path(folder), arms, reference)
    ours = decide(sample(arms, reference), SCHEMES[0])
    return [power_row(shape, name, *result) for name, result in (("AdaStop", theirs), (SCHEMES[0].name, ours))]


def _adastop(folder: Path, arms: Array, reference: Array) -> tuple[Array, Array]:
    python = os.environ.get("ADASTOP_PYTHON", "")
    if not python:
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *ADASTOP], check=True)
    np.savez(folder / "scores.npz", arms=arms, reference=reference)
    subprocess.run([python, str(HERE / "sequential_adastop.py"), str(folder)], check=True)
    with np.load(folder / "decisions.npz") as result:
        return result["decided"], result["seeds"]


# Scores of recorded runs


RECORDS = ("ablation-quick", "claims/*")


def score(tables: int | None) -> list[Case]:
    """Return standardised differences from each record's reference (its first variant), by score."""
    paths = sorted(path for of in RECORDS for path in OUT.parent.glob(f"{of}/evaluations.csv"))
    return [partial(_scores, path) for path in paths]


def _scores(path: Path) -> list[Row]:
    rows = pd.read_csv(path)
    rows = rows[(rows["policy"] == "mean") & rows["return_mean"].notna()]
    return [row for env, of in rows.groupby("env") for row in _effects(path.parent.name, str(env), of)]


def _effects(record: str, env: str, rows: pd.DataFrame) -> Iterator[Row]:
    total = rows["step"].max()
    by_run = {
        (variant, seed): (run["step"].to_numpy(), run["return_mean"].to_numpy())
        for (variant, seed), run in rows.groupby(["variant", "seed"], sort=False)
    }
    kinds: dict[str, Callable[[Array, Array], float]] = {
        "last evaluation": lambda at, values: float(values[np.argmax(at)]),
        "last tenth": lambda at, values: run_score(at, values, total),
        "last quarter": lambda at, values: float(values[at > 0.75 * total].mean()),
        "last half": lambda at, values: float(values[at > 0.5 * total].mean()),
        "area": area_score,
    }
    variants = list(dict.fromkeys(variant for variant, _ in by_run))
    for variant in variants[1:]:
        row: Row = {"record": record, "environment": env, "variant": variant, "reference": variants[0]}
        for name, kind in kinds.items():
            a, b = ([kind(*run) for (of, _), run in by_run.items() if of == side] for side in (variant, variants[0]))
            row[name] = _standardised(unpaired(a, b)) if min(len(a), len(b)) > 1 else float("nan")
        yield row


def _standardised(difference: Difference) -> float:
    return difference.value / math.sqrt(sum(difference.variances) / 2)


# Checks, files and the page


@dataclass(frozen=True)
class Computed:
    """Evidence (`hypotheses.Evidence`) with p-values that are known."""

    p: Array
    spread: Any

    def above(self, shift: float = 0.0) -> float:
        return float(self.p[0])

    def below(self, shift: float = 0.0) -> float:
        return float(self.p[1])


def check(tables: int | None) -> list[Case]:
    """Compare p-values with `Permuted` and decisions with `standings` on a sample; raise AssertionError otherwise."""
    kinds = ("normal", "20% failures", "recorded")
    schemes = [one for one in SCHEMES if one.looks == LOOKS and one.shares == SCHEMES[0].shares]
    count = tables or 20
    return [*(partial(_check_p, shape, count) for shape in kinds), *(partial(_check, of, count) for of in schemes)]


def _check_p(shape: str, count: int) -> list[Row]:
    random = np.random.default_rng(800)
    group = groups(random, count)
    compared = 0
    for n in LOOKS:
        a, b = draw(shape, random, (n, count), group), draw(shape, random, (2 * n, count), group)
        a = a - np.linspace(0, 2, count)
        ours = p_values(a, b, 0.05)
        for column in range(count):
            test = Permuted((a[:, column],), (b[:, column],))
            for p, own in (
                (test.by_permutation(0.0, 1), ours[0, column]),
                (test.by_permutation(0.0, -1), ours[1, column]),
            ):
                assert math.isclose(own, p) or min(own, p) > 0.05, (shape, n, own, p)
                compared += p <= 0.05
    return [{"check": f"p-values, {shape}", "compared": int(compared)}]


def _check(scheme: Scheme, count: int) -> list[Row]:
    tests = sample(*effect_sides("normal", np.random.default_rng(900), count))
    is_decided, stopped = decide(tests, scheme)
    for table in range(count):
        contests = [Contest(lambda look: True, partial(_trial, tests, table, arm)) for arm in range(ARMS)]
        for arm, one in enumerate(standings(contests, Design(LOOKS), futile=scheme.futile)):
            assert (one.state == "decided") == is_decided[table, arm], (scheme, table, arm, one.state)
            assert one.look == stopped[table, arm], (scheme, table, arm, one.look)
    return [{"check": f"verdicts, {scheme.name}", "compared": count * ARMS}]


def _trial(tests: Sample, table: int, arm: int, look: int) -> Trial:
    at = LOOKS.index(look)
    return Trial((different(),), Computed(tests.p[at, :, table, arm], _Welch(*tests.t[at, :, table, arm])))


@dataclass(frozen=True)
class _Welch:
    """What `Hypothesis.chance_later` reads of a Difference."""

    value: float
    error: float
    freedom: float


TITLES = {
    "error": "Both sides have one distribution: tables of 9 that name any difference",
    "shapes": "Equal means, unequal distributions: tables of 9 that name any difference",
    "margins": "True differences at the margin",
    "measures": "Other measures of equal distributions: single one-sided claims",
    "power": "Power and mean seeds per variant by effect (sd), and runs per table with the reference's",
    "adastop": "AdaStop on the same scores",
    "score": "Standardised differences from the reference by score, in recorded quick runs",
}


def page(out: Path) -> str:
    """Return the page of all tables in a folder, after the text of sequential_about.md."""
    parts = [(HERE / "sequential_about.md").read_text()]
    for name, title in TITLES.items():
        if (out / f"{name}.csv").exists():
            table = pd.read_csv(out / f"{name}.csv").dropna(axis=1, how="all")
            table = table.drop(columns=["case", "CPU seconds"], errors="ignore")
            parts.append(f"## {title}\n\n{table.to_markdown(index=False, floatfmt='.3g').replace(' nan ', '     ')}\n")
    return "\n".join(parts)


PARTS = {f.__name__: f for f in (check, error, shapes, margins, measures, power, adastop, score)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "report"])
    parser.add_argument("--tables", type=int, help="simulated tables per case")
    parser.add_argument("--resume", action="store_true", help="keep the cases that are already in the files")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        if part == "report":
            (options.out / "report.md").write_text(page(options.out))
            continue
        path = options.out / f"{part}.csv"
        rows = pd.read_csv(path).to_dict("records") if options.resume and path.exists() else []
        done = {row["case"] for row in rows}
        for i, case in enumerate(PARTS[part](options.tables)):
            if i in done:
                continue
            new = [{"case": i} | row for row in case()]
            print(*new, sep="\n", flush=True)
            rows += new
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.5g", lineterminator="\n")


if __name__ == "__main__":
    main()
