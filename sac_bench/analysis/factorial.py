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

from sac_bench.analysis.scores import entered, scores
from sac_bench.analysis.sequential import ALPHA, holm
from sac_bench.analysis.statistics import Array, Difference, Estimate, unpaired
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

    @property
    def verdict(self) -> str:
        """Return "raises" or "lowers" if it is shown at 5%, "undecided" if not, "" if it was not tested."""
        if np.isnan(self.p_holm):
            return ""
        if self.p_holm > ALPHA:
            return "undecided"
        return "raises" if self.estimate.value > 0 else "lowers"


def effects(results: Results, tested: bool = True) -> list[Effect]:
    """Return the main effects and then the interactions on every environment; [] without a factorial design.

    tested: whether they get verdicts.
    """
    design = results.manifest.factorial
    if design is None:
        return []
    table, named, found = scores(results), pairs_of(design), list[tuple[str, tuple[str, ...], Difference]]()
    for env in results.manifest.envs:
        cells = [entered(table, env, variant) for variant in design.cells]
        found += [(env, factors, contrast(cells, signs(design, factors))) for factors in named]
    p_values = [two_sided(one) if tested else np.nan for _, _, one in found]
    return [
        Effect(env, factors, one.interval(), float(p))
        for (env, factors, one), p in zip(found, holm(p_values), strict=True)
    ]


def pairs_of(design: FactorialRecord) -> list[tuple[str, ...]]:
    """Return the factors, each by itself, and then the pairs of factors that can be told from these."""
    alone = [(name,) for name in design.factors]
    if len(design.cells) < 2 ** len(design.factors) and len(design.factors) == 3:
        return [*alone]  # in half of 2^3, every interaction is another factor's main effect
    pairs = list(combinations(design.factors, 2))
    if len(design.cells) < 2 ** len(design.factors) and len(design.factors) == 4:
        pairs = [pair for pair in pairs if next(iter(design.factors)) in pair]  # the others are the same contrasts
    return [*alone, *pairs]


def signs(design: FactorialRecord, factors: Sequence[str]) -> Array:
    """Return +1 or -1 for each cell: the product of the factors' levels."""
    return np.array([np.prod([1.0 if one in high else -1.0 for one in factors]) for high in design.cells.values()])


def contrast(cells: Sequence[Array], signs: Array) -> Difference:
    """Return the mean of the cells with sign + minus that of the others, with Student's t by Satterthwaite.

    cells: scores [S_c] of each of C cells, which may differ in spread and number; signs: [C], half of them +1.
    """
    weights = signs * 2 / len(signs)
    means = [float(np.mean(x)) if len(x) else np.nan for x in cells]
    variances = [float(np.var(x, ddof=1)) if len(x) >= MIN_SEEDS else np.nan for x in cells]
    return Difference(float(weights @ means), tuple(weights**2 * variances), tuple(len(x) for x in cells))


def two_sided(difference: Difference) -> float:
    """Return the two-sided p-value of no difference; NaN if it has no error."""
    if np.isnan(difference.error) or np.isnan(difference.value):
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
    parts = [unpaired(x, [0.0, 0.0]) for x in own]
    mean = Difference(
        float(np.mean([one.value for one in parts])),
        tuple(one.variances[0] / len(parts) ** 2 for one in parts),
        tuple(len(x) for x in own),
    )
    return mean.interval()


def table(found: Sequence[Effect]) -> pd.DataFrame:
    """Return a row per effect: env, effect ("a" or "a:b"), value, ci_low, ci_high, p_holm, verdict."""
    rows = [(one.env, ":".join(one.factors), *one.estimate, one.p_holm, one.verdict) for one in found]
    return pd.DataFrame(rows, columns=["env", "effect", "value", "ci_low", "ci_high", "p_holm", "verdict"])
