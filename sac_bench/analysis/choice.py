"""Chooses each variant's options from its candidates' scores on the selection seeds (spec/choose.py)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd

from sac_bench.analysis.scores import scores
from sac_bench.errors import InputError
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.spec.choose import Choice, Options, Score

if TYPE_CHECKING:
    from sac_bench.spec.experiment import Experiment

RULES = (
    "Each variant chose these options in each environment: the candidate with the highest mean score over the "
    "selection seeds {seeds}. The comparison uses other seeds. All variants had {count} candidates. A variant whose "
    "best value is at the edge of its grid gets no verdict, since a better value may lie beyond."
)


def choose(experiment: Experiment, results: Results) -> tuple[Choice, ...]:
    """Return the best candidate of every variant in every environment, from the results of `experiment.selection()`.

    A candidate is left out if one of its runs has no score. Raises InputError if no candidate is left.
    """
    assert experiment.choose is not None
    table = scores(results)
    made = []
    for variant, candidates in experiment.choose.candidates.items():
        for env in experiment.envs:
            means = [_mean(table, env, one.variant.name) for one in candidates]
            known = [(mean, i) for i, mean in enumerate(means) if mean is not None]
            if not known:
                raise InputError(
                    f"{results.manifest.name}: no candidate of {variant!r} on {env} has a score for every selection "
                    "seed, so nothing can be chosen; run the command again to train failed runs again"
                )
            best = candidates[max(known, key=lambda one: (one[0], -one[1]))[1]].options
            scored = [candidates[i].options for _, i in known]
            made.append(
                Choice(
                    variant=variant,
                    env=env,
                    options=best,
                    at_edge=experiment.choose.at_edge(variant, best, scored),
                    candidates=tuple(
                        Score(options=one.options, mean=mean) for one, mean in zip(candidates, means, strict=True)
                    ),
                    seeds=experiment.choose.seeds,
                )
            )
    return tuple(made)


def _mean(table: pd.DataFrame, env: str, name: str) -> float | None:
    own = table.loc[(table["env"] == env) & (table["variant"] == name), "score"]
    return None if own.isna().any() or not len(own) else float(own.mean())


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
            "mean score of each candidate": "; ".join(
                f"{_in_words(one.options)}: {'no score' if one.mean is None else f'{one.mean:.0f}'}"
                for one in choice.candidates
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
