"""Chooses each variant's options from its candidates' scores on the selection seeds (spec/choose.py)."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from sac_bench.analysis.scores import scores
from sac_bench.errors import InputError
from sac_bench.results.cells import rows_of
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.spec.choose import Candidate, Choice, Options, Score

if TYPE_CHECKING:
    from sac_bench.spec.experiment import Experiment

RULES = (
    "Each variant chose these options in each environment: the candidate with the highest mean score over the "
    "selection seeds {seeds}. {edge} The comparison uses other seeds. All variants had {count} candidates. A variant "
    "that still chose a value at the edge gets no verdict, since a better value may lie beyond."
)
TOLERANT = (
    "If that is at the edge of its grid, the best candidate within the grid is chosen instead if its mean is lower by "
    "at most sqrt(2 v), where v is the median of the squared standard errors of the variant's candidates."
)
STRICT = "With fewer than {least} selection seeds, this holds at the edge of a grid, too."
MIN_SEEDS = 3
"""Selection seeds below which an inner candidate must be at least as good as the one at the edge."""


def choose(experiment: Experiment, results: Results) -> tuple[Choice, ...]:
    """Return what every variant chooses in every environment, from the results of `experiment.selection()`.

    A candidate is left out if one of its runs has no score. Raises InputError if no candidate is left.
    """
    assert experiment.choose is not None
    made = []
    for variant, candidates in experiment.choose.candidates.items():
        by = experiment.choose.by.get(variant, "score")
        table = scores(results, "sample" if by == "sampled" else None)
        for env in experiment.envs:
            scored = tuple(_scored(table, env, one) for one in candidates)
            known = [one for one in scored if one.mean is not None]
            if not known:
                raise InputError(
                    f"{results.manifest.name}: no candidate of {variant!r} on {env} has a score for every selection "
                    "seed, so nothing can be chosen; run the command again to train failed runs again"
                )
            at_edge = partial(experiment.choose.at_edge, variant, scored=[one.options for one in known])
            options = chosen(known, at_edge, tolerance(known, len(experiment.choose.seeds))).options
            made.append(
                Choice(
                    variant=variant,
                    env=env,
                    options=options,
                    at_edge=at_edge(options),
                    candidates=scored,
                    seeds=experiment.choose.seeds,
                    by=by,
                )
            )
    return tuple(made)


def tolerance(scored: Sequence[Score], seeds: int) -> float:
    """Return by how much an inner candidate's mean may be lower than that of the best, which is at an edge.

    sqrt(2 v), with the median v of the candidates' squared standard errors: the standard error of the difference of two
    typical candidates. A median, because one failed seed of one candidate must not widen it. 0 below MIN_SEEDS seeds.
    """
    squared = [one.error**2 for one in scored if one.error is not None]
    return math.sqrt(2 * statistics.median(squared)) if seeds >= MIN_SEEDS and squared else 0.0


def chosen(scored: Sequence[Score], at_edge: Callable[[Options], Sequence[str]], within: float) -> Score:
    """Return the candidate with the highest mean, or one that is nearly as good if that one is at an edge.

    An edge matters only if values beyond may be better. If a candidate inside the grid is as good up to the tolerance
    `within`, there is no sign of it, and the best such candidate is returned. Cross-validation chooses models by a rule
    of this kind (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3).
    """

    def mean(one: Score) -> float:
        assert one.mean is not None
        return one.mean

    best = max(scored, key=mean)
    inner = [one for one in scored if mean(best) - mean(one) <= within and not at_edge(one.options)]
    return max(inner, key=mean) if inner and at_edge(best.options) else best


def _scored(table: pd.DataFrame, env: str, one: Candidate) -> Score:
    own = rows_of(table, env, one.variant.name)["score"]
    if own.isna().any() or not len(own):
        return Score(options=one.options, mean=None)
    error = float(own.std() / math.sqrt(len(own))) if len(own) > 1 else None
    return Score(options=one.options, mean=float(own.mean()), error=error)


def edge(manifest: Manifest, env: str, *variants: str) -> str:
    """Return why variants get no verdict: "temperature = 1 of `fixed` is at the edge of its grid"; "" if they do."""
    return "; ".join(
        f"{option} = {json.dumps(choice.options[option])} of `{choice.variant}` is at the edge of its grid"
        for choice in manifest.choices
        if choice.env == env and choice.variant in variants
        for option in choice.at_edge
    )


def grid(manifest: Manifest) -> pd.DataFrame:
    """Return the choices as a table for a reader."""
    return pd.DataFrame(
        {
            "variant": choice.variant,
            "environment": choice.env,
            "chosen": _in_words(choice.options),
            "edge of the grid": ", ".join(choice.at_edge),
            "chosen by": choice.by,
            "mean score of each candidate, with its standard error": "; ".join(
                f"{_in_words(one.options)}: {_mean_in_words(one)}" for one in choice.candidates
            ),
        }
        for choice in manifest.choices
    )


def rules(manifest: Manifest) -> str:
    """Return how the choices were made."""
    first = manifest.choices[0]
    edge = TOLERANT if len(first.seeds) >= MIN_SEEDS else STRICT.format(least=MIN_SEEDS)
    return RULES.format(seeds=", ".join(map(str, first.seeds)), count=len(first.candidates), edge=edge)


def _in_words(options: Options) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())


def _mean_in_words(one: Score) -> str:
    if one.mean is None:
        return "no score"
    return f"{one.mean:.0f}" + ("" if one.error is None else f" ± {one.error:.0f}")
