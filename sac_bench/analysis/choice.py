"""Chooses each variant's options from its candidates' scores on the selection seeds (spec/choose.py)."""

from __future__ import annotations

import json
import math
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
    "selection seeds {seeds}. If that is at the edge of its grid, a candidate within the grid is chosen instead if its "
    "mean is lower by at most one standard error of the difference. The comparison uses other seeds. All variants had "
    "{count} candidates. A variant that still chose a value at the edge gets no verdict, since a better value may lie "
    "beyond."
)


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
            options = chosen(known, at_edge).options
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


def chosen(scored: Sequence[Score], at_edge: Callable[[Options], Sequence[str]]) -> Score:
    """Return the candidate with the highest mean, or one that is nearly as good if that one is at an edge.

    An edge matters only if values beyond may be better. If a candidate within the grid is as good up to one standard
    error of the difference, there is no sign of it, and the best such candidate is returned. This is the rule by which
    cross-validation chooses a model (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3). The standard error of a
    single seed counts as 0.
    """

    def mean(one: Score) -> float:
        assert one.mean is not None
        return one.mean

    best = max(scored, key=mean)
    near = [one for one in scored if mean(best) - mean(one) <= math.hypot(best.error or 0.0, one.error or 0.0)]
    inner = [one for one in near if not at_edge(one.options)]
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
    return RULES.format(seeds=", ".join(map(str, first.seeds)), count=len(first.candidates))


def _in_words(options: Options) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())


def _mean_in_words(one: Score) -> str:
    if one.mean is None:
        return "no score"
    return f"{one.mean:.0f}" + ("" if one.error is None else f" ± {one.error:.0f}")
