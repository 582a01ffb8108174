"""Differences from the reference, each with its verdict: in every environment, and in all of them together.

Holm's correction is over an experiment's whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sac_bench.analysis.choice import edge
from sac_bench.analysis.hypotheses import Family, different, equivalent
from sac_bench.analysis.permutation import Permuted
from sac_bench.analysis.scores import mean_over_backends
from sac_bench.analysis.sequential import Contest, Design, Trial
from sac_bench.analysis.statistics import NO_ESTIMATE, Estimate, difference_interval, seed_correlation
from sac_bench.analysis.verdicts import (
    MIN_SEEDS,
    RUNS_MISSING,
    UNTESTED_VERDICT,
    Verdict,
    in_words,
    verdicts,
)
from sac_bench.results.devices import are_comparable
from sac_bench.results.load import Ended, Results, ended, have_ended
from sac_bench.results.manifest import Manifest
from sac_bench.results.protocol import why_not_the_same

VERDICT_RULES = (
    "Verdicts: better or worse if the difference is shown at 5% (by a permutation test and by Student's t, Holm's "
    "correction over the whole table), equivalent if it is shown to be within the margin, otherwise undecided, with "
    "the number of seeds per variant that would decide at 80% power if the observed difference and spread were the "
    f"true ones. There is no verdict below {MIN_SEEDS} seeds per variant."
)
LOOKS_RULES = (
    "Seeds were added until a comparison was decided, could hardly be decided any more (stopped), or reached the most "
    "seeds, {most}. The 5% hold over all looks at the results together, and so does the confidence of the intervals. "
    '"At 8 seeds": per variant, at the look that the verdict, its p-value, the difference and the interval are of. It '
    "is the one whose p-value decided, or the last one of an undecided comparison, whose p-value is the least of all "
    "looks"
)
MORE_REFERENCE_SEEDS = "; the reference has {factor} times as many"
CORRELATION = (
    "r: Pearson's correlation with the reference over shared seeds. If it is positive, these intervals are too wide; "
    "if negative, too narrow."
)
CORRECTED = (
    "Thick: 95%. Thin: the same interval at the level at which Holm's correction tested this difference. It excludes 0 "
    "exactly if the difference is shown, but the thin intervals do not hold for all differences at once."
)
CORRECTED_BOUNDS = ("corrected_ci_low", "corrected_ci_high")
MIXED_DEVICES = "mixed devices"
"""Why there is no verdict if the runs must not be compared (results/devices.py)."""
TRAINING_NOT_OVER = "training is not over"
"""Why there is no verdict if runs have not ended (`up_to_common_steps`)."""
ALL_ENVIRONMENTS = "all environments"
"""The environment of the differences over all environments together, in gains of the reference."""
COLUMNS = (
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "corrected_ci_low",
    "corrected_ci_high",
    "verdict",
    "p_holm",
    "p_equivalence",
    "state",
    "look",
    "seeds_needed",
    "seed_correlation",
    "no_verdict",
)
"""`corrected_ci_low`, `corrected_ci_high`, `state` and `look`: see `verdicts.Verdict`. `no_verdict`: why there is none,
else empty."""
Cell = tuple[str, str]
"""(environment, variant)."""


@dataclass(frozen=True)
class Scores:
    """The scores of an experiment's runs, by cell and look."""

    table: pd.DataFrame
    """A row per run, as `scores` returns it."""
    manifest: Manifest

    @cached_property
    def _by_cell(self) -> dict[Cell, pd.DataFrame]:
        return {
            (str(env), str(variant)): rows.set_index("seed")
            for (env, variant), rows in self.table.groupby(["env", "variant"])
        }

    @cached_property
    def _ended(self) -> Ended:
        return ended(self.table)

    def count_at(self, cell: Cell, look: int) -> int:
        """Return how many seeds a cell has at a look: the reference has more than the others."""
        has_more = cell[1] == self.manifest.reference and not self.manifest.claim
        return look * (self.manifest.reference_factor if has_more else 1)

    def seeds_at(self, cell: Cell, look: int) -> tuple[int, ...]:
        """Return the seeds of a cell at a look, as far as there are runs with them."""
        return self.manifest.seeds[: self.count_at(cell, look)]

    def have_ended(self, cells: Iterable[Cell], look: int | None) -> bool:
        """Return whether all runs of some cells at a look have ended."""
        counts = {cell: self.count_at(cell, look) for cell in cells} if look is not None else {}
        return have_ended(self._ended, self.manifest.seeds, counts)

    def of(self, cell: Cell, look: int | None = None) -> pd.Series:
        """Return a cell's scores at a look, indexed by seed, without runs that have none."""
        if cell not in self._by_cell:
            return pd.Series(dtype=float)
        own = self._by_cell[cell]["score"].dropna()
        return own if look is None else own[own.index.isin(self.seeds_at(cell, look))]

    def gain(self, env: str, look: int | None = None) -> float:
        """Return the reference's mean score minus a random policy's; NaN unless it is known and positive."""
        gain = float(self.of((env, self.manifest.reference), look).mean() - self.manifest.random_return(env))
        return gain if gain > 0 else float("nan")


@dataclass(frozen=True)
class TableDifference:
    """A variant's difference from the reference in some environments: one, or all together."""

    envs: tuple[str, ...]
    variant: str
    untested: Estimate
    """The difference of all scores with Welch's interval, shown if there is no verdict."""
    seed_correlation: float
    no_verdict: str
    verdict: Verdict = UNTESTED_VERDICT

    @property
    def env(self) -> str:
        """The environment's name, or ALL_ENVIRONMENTS."""
        return self.envs[0] if len(self.envs) == 1 else ALL_ENVIRONMENTS

    def cells(self, manifest: Manifest, seeds: int) -> dict[Cell, int]:
        """Return how many seeds its cells have with so many per variant: the reference may have more."""
        of_variant = {(env, self.variant): seeds for env in self.envs}
        return of_variant | {(env, manifest.reference): manifest.reference_factor * seeds for env in self.envs}

    def row(self) -> dict[str, Any]:
        """Return the row of the table, with COLUMNS."""
        verdict = self.verdict
        missing = RUNS_MISSING if verdict.state == "waiting" else f"below {MIN_SEEDS} seeds"
        return {
            "env": self.env,
            "variant": self.variant,
            **dict(zip(COLUMNS[:3], verdict.interval if verdict.word else self.untested, strict=True)),
            "corrected_ci_low": verdict.corrected.low,
            "corrected_ci_high": verdict.corrected.high,
            "verdict": verdict.word,
            "p_holm": verdict.p_values[0] if verdict.p_values else np.nan,
            "p_equivalence": verdict.p_values[1] if len(verdict.p_values) > 1 else np.nan,
            "state": verdict.state,
            "look": verdict.look,
            "seeds_needed": verdict.seeds_needed,
            "seed_correlation": self.seed_correlation,
            "no_verdict": "" if verdict.word else self.no_verdict or missing,
        }


def why_no_verdict(results: Results) -> str:
    """Return why no comparison of some results gets a verdict, or ""."""
    return TRAINING_NOT_OVER if results.manifest.reached else "" if are_comparable(results) else MIXED_DEVICES


def differences(table: pd.DataFrame, manifest: Manifest, no_verdict: str = "") -> pd.DataFrame:
    """Return a row per environment and variant other than the reference, with COLUMNS, given the runs' scores.

    With several tasks, a row per variant follows for all of them together, in gains of the reference.
    `no_verdict`: why no difference gets a verdict, or "".
    """
    return table_of(table_differences(table, manifest, no_verdict))


def table_of(differences: Sequence[TableDifference]) -> pd.DataFrame:
    """Return a row per difference, with COLUMNS."""
    rows = [one.row() for one in differences]
    whole = {"seeds_needed": "Int64", "look": "Int64"}
    return pd.DataFrame(rows, columns=["env", "variant", *COLUMNS]).astype(whole)


def table_differences(table: pd.DataFrame, manifest: Manifest, no_verdict: str = "") -> list[TableDifference]:
    """Return the differences from the reference with their verdicts, as in `differences`."""
    of = Scores(table, manifest)
    variants = [name for name in manifest.variants if name != manifest.reference]
    groups: list[tuple[str, ...]] = [(env,) for env in manifest.envs]
    if len(manifest.tasks) > 1:
        groups.append(manifest.envs)
    places = [(envs, name) for envs in groups for name in variants]
    gaps = [_difference(of, envs, name, no_verdict) for envs, name in places]
    testable = [one for one in gaps if not one.no_verdict]
    contests = [_contest(of, one.envs, one.variant) for one in testable]
    decided = dict(zip(map(id, testable), verdicts(contests, design_of(manifest)), strict=True))
    return [replace(one, verdict=decided.get(id(one), one.verdict)) for one in gaps]


def design_of(manifest: Manifest) -> Design:
    """Return the looks of an experiment."""
    return Design(manifest.looks or (None,))


def _difference(of: Scores, envs: tuple[str, ...], variant: str, no_verdict: str) -> TableDifference:
    """Return a difference without its verdict."""
    manifest = of.manifest
    if len(envs) > 1:
        known = all(np.isfinite(of.gain(env)) for env in envs)
        reasons = [
            no_verdict,
            _protocols(manifest, variant),
            "" if known or manifest.seed_range else "the gain is not known",
        ]
        reasons += [edge(manifest, env, variant, manifest.reference) for env in envs]
        return TableDifference(envs, variant, NO_ESTIMATE, float("nan"), next(filter(None, reasons), ""))
    own, reference = of.of((envs[0], variant)), of.of((envs[0], manifest.reference))
    both = own.index.intersection(reference.index)
    few = min(len(own), len(reference))
    planned = manifest.seed_range is not None
    reason = _protocols(manifest, variant) or (f"{few} seeds" if few < MIN_SEEDS and not planned else "")
    reason = reason or edge(manifest, envs[0], variant, manifest.reference)
    interval = difference_interval(own, reference)
    return TableDifference(envs, variant, interval, seed_correlation(own[both], reference[both]), no_verdict or reason)


def _protocols(manifest: Manifest, variant: str) -> str:
    """Return why a variant that was imported cannot be compared with the reference: their protocols differ, else ""."""
    own, reference = (manifest.variants[name].imported for name in (variant, manifest.reference))
    return why_not_the_same(own.card, reference.card) if own and reference else ""


def _contest(of: Scores, envs: tuple[str, ...], variant: str) -> Contest:
    """Return what is tested at each look: in one environment in units of return, in several in gains.

    A seed's value in a task is the mean over its backends, so that these are not counted as independent tasks.
    """
    cells = [(env, name) for env in envs for name in (variant, of.manifest.reference)]
    tasks = list(of.manifest.tasks.values()) if len(envs) > 1 else [envs]

    def trial(look: int | None) -> Trial | None:
        scales = [1.0 if len(envs) == 1 else of.gain(env, look) for env in envs]
        scale = dict(zip(envs, scales, strict=True))
        own, reference = (
            tuple(
                mean_over_backends([of.of((env, name), look).astype(float) / scale[env] for env in of_task])
                for of_task in tasks
            )
            for name in (variant, of.manifest.reference)
        )
        if min(map(len, (*own, *reference))) < MIN_SEEDS or not np.isfinite(scales).all():
            return None
        return Trial(_families(of, envs, look), Permuted(own, reference))

    return Contest(
        lambda look: of.have_ended(cells, look),
        trial,
        lambda look: any(not len(of.of(cell, look)) for cell in cells),
    )


def _families(of: Scores, envs: tuple[str, ...], look: int | None) -> tuple[Family, ...]:
    """Return that there is a difference and, with a margin, that there is none beyond it."""
    share = of.manifest.margin
    if share is None:
        return (different(),)
    margin = share if len(envs) > 1 else share * of.gain(envs[0], look)
    # Without a gain nothing is equivalent: no difference is within a margin of 0.
    return (different(), (equivalent(margin if np.isfinite(margin) else 0.0),))


def words_of(row: Mapping[Any, Any], short: bool = False) -> str:
    """Return a row's verdict as shown, with the seeds that would decide; "" if there is none."""
    is_constant = row["difference_ci_low"] == row["difference_ci_high"]
    return in_words(row["verdict"], row["state"], _look(row), _seeds_needed(row), short, is_constant)


def rules(manifest: Manifest) -> str:
    """Return how the verdicts come about."""
    if not manifest.looks:
        return VERDICT_RULES
    return f"{VERDICT_RULES} {looks_in_words(manifest)}"


def looks_in_words(manifest: Manifest) -> str:
    """Return how looks come about in a range of seeds; "" if seeds are fixed."""
    if not manifest.looks:
        return ""
    more = MORE_REFERENCE_SEEDS.format(factor=manifest.reference_factor) if manifest.reference_factor > 1 else ""
    return f"{LOOKS_RULES.format(most=manifest.looks[-1])}{more}."


def _seeds_needed(row: Mapping[Any, Any]) -> int | None:
    return None if pd.isna(row["seeds_needed"]) else int(row["seeds_needed"])


def _look(row: Mapping[Any, Any]) -> int | None:
    return None if pd.isna(row["look"]) else int(row["look"])
