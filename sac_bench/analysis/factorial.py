"""Effects in a two-level factorial design: main effects and interactions of two factors.

The effect of a factor is the mean score of the cells at its high level minus that of the others. The interaction of two
factors is half the difference between the effect of one at the high and at the low level of the other. It is the same
for both. Source: Box, Hunter and Hunter 2005, Statistics for Experimenters, chapter 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from sac_bench.analysis.differences import why_no_verdict
from sac_bench.analysis.scores import count_exploded, entered, scores
from sac_bench.analysis.sequential import ALPHA, holm
from sac_bench.analysis.statistics import Array, Difference, Estimate
from sac_bench.results.load import Results
from sac_bench.results.manifest import FactorialRecord

MIN_SEEDS = 2
"""Seeds per cell below which an effect has no error."""


class Effect(NamedTuple):
    """An effect on one environment's score. factors: one for a main effect, two for an interaction."""

    env: str
    factors: tuple[str, ...]
    estimate: Estimate
    """With Student's 95% interval of this effect by itself."""
    p_holm: float
    """Two-sided, corrected for all effects on all environments; NaN if the effect was not tested."""
    exploded: int = 0
    """How many of the environment's runs exploded: every run counts in every effect."""

    @property
    def verdict(self) -> str:
        """Return "positive" or "negative" if it is shown at 5%, "undecided" if not, "not tested" without a test."""
        if np.isnan(self.p_holm):
            return "not tested"
        if self.p_holm > ALPHA:
            return "undecided"
        return "positive" if self.estimate.value > 0 else "negative"


def effects(results: Results) -> list[Effect]:
    """Return the main effects and then the interactions on every environment; [] without a factorial design."""
    design = results.manifest.factorial
    if design is None:
        return []
    table, named, found = scores(results), pairs_of(design), list[tuple[str, tuple[str, ...], Difference]]()
    for env in results.manifest.envs:
        cells = [entered(table, env, variant) for variant in design.cells]
        found += [(env, factors, contrast(cells, signs(design, factors))) for factors in named]
    p_values = [np.nan if why_no_verdict(results) else two_sided(one) for _, _, one in found]
    return [
        Effect(env, factors, one.interval(), float(p), count_exploded(table, env, design.cells))
        for (env, factors, one), p in zip(found, holm(p_values), strict=True)
    ]


def why_untested(results: Results) -> str:
    """Return why effects have no verdicts, or ""."""
    if reason := why_no_verdict(results):
        return reason
    design, table = results.manifest.factorial, scores(results)
    for env in results.manifest.envs:
        for variant in design.cells if design else ():
            if len(entered(table, env, variant)) < MIN_SEEDS:
                return f"{variant} has fewer than {MIN_SEEDS} seeds with a score on {env}"
    return ""


def pairs_of(design: FactorialRecord) -> list[tuple[str, ...]]:
    """Return the factors, each by itself, and then the pairs of factors, without those that are the same contrasts."""
    factors, pairs = list(design.factors), list(combinations(design.factors, 2))
    if design.is_half and len(factors) == 3:
        pairs = []  # each is the third factor's main effect
    if design.is_half and len(factors) == 4:
        pairs = [pair for pair in pairs if factors[0] in pair]  # each of the others is one of these
    return [*((name,) for name in factors), *pairs]


def signs(design: FactorialRecord, factors: Sequence[str]) -> Array:
    """Return +1 or -1 for each cell: the product of the factors' levels."""
    return np.array([np.prod([1.0 if one in high else -1.0 for one in factors]) for high in design.cells.values()])


def contrast(cells: Sequence[Array], signs: Array) -> Difference:
    """Return the mean of the cells with sign + minus that of the others.

    cells: scores [S_c] of each of C cells; signs: [C], half of them +1.
    """
    return combination(cells, signs * 2 / len(signs))


def combination(cells: Sequence[Array], weights: Array) -> Difference:
    """Return the weighted sum [] of the means of cells, with Student's t by Satterthwaite.

    cells: scores [S_c] of each of C cells, which may differ in spread and number; weights: [C].
    """
    means = [float(np.mean(x)) if len(x) else np.nan for x in cells]
    variances = [float(np.var(x, ddof=1)) if len(x) >= MIN_SEEDS else np.nan for x in cells]
    return Difference(float(weights @ means), tuple(weights**2 * variances), tuple(len(x) for x in cells))


def two_sided(difference: Difference) -> float:
    """Return the two-sided p-value of no difference; NaN if its error is unknown or 0."""
    if not difference.error > 0:
        return float("nan")
    return min(1.0, 2 * min(difference.above(), difference.below()))


def means_at(results: Results, env: str, levels: Mapping[str, bool]) -> Estimate:
    """Return the mean score over the cells at some factors' levels, with Student's 95% interval."""
    design = results.manifest.factorial
    assert design is not None, f"{results.manifest.name}: no factorial design"
    table = scores(results)
    own = [
        entered(table, env, variant)
        for variant, high in design.cells.items()
        if all((name in high) == level for name, level in levels.items())
    ]
    return combination(own, np.full(len(own), 1 / len(own))).interval()


def table(found: Sequence[Effect]) -> pd.DataFrame:
    """Return a row per effect: env, effect ("a" or "a:b"), value, ci_low, ci_high, p_holm, verdict, exploded."""
    rows = [(one.env, ":".join(one.factors), *one.estimate, one.p_holm, one.verdict, one.exploded) for one in found]
    return pd.DataFrame(rows, columns=["env", "effect", "value", "ci_low", "ci_high", "p_holm", "verdict", "exploded"])
