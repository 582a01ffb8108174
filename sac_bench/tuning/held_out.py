"""Checks the result of a search: its best trials and the default on held-out seeds, which the search did not use.

The winner is the search's best trial, chosen before it is trained on held-out seeds, so the interval of its difference
from the default is unbiased. The other trials are shown for information only: choosing among them by held-out scores
would be another search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tomli_w

from sac_bench.analysis.statistics import NO_ESTIMATE, Estimate, difference_interval, mean_interval
from sac_bench.tuning.score import Scores, objective_value, values_of
from sac_bench.tuning.space import Params
from sac_bench.tuning.study import DEFAULT_VARIANT, Study
from sac_bench.tuning.trials import Trial, as_json


@dataclass(frozen=True)
class Contender:
    """A variant's value in the search and on held-out seeds."""

    name: str
    params: Params
    searched: float
    """Value by the study's objective on the search's seeds, at the study's steps."""
    held_out: float
    """Value by the same objective on held-out seeds."""
    mean: Estimate
    """Mean over held-out seeds of the means over environments, with 95% interval (Student's t)."""
    difference: Estimate
    """Difference from the default, with 95% interval (Welch's t); NaN for the default itself."""
    diverged: int
    exploded: int = 0
    searched_difference: Estimate = NO_ESTIMATE
    """Like `difference`, on the search's seeds. Biased upward for the winner, which was chosen by them."""


@dataclass(frozen=True)
class Verdict:
    """The comparison of the best trials with the default."""

    contenders: tuple[Contender, ...]
    """The default, then the search's best trials, best first; the second is the winner."""

    @staticmethod
    def from_dict(known: Mapping[str, Any]) -> Verdict:
        """Return the verdict from the result of `as_dict`; `searched_difference` may be missing."""
        contenders: list[dict[str, Any]] = known["contenders"]
        if len(contenders) < 2:
            raise ValueError("contenders: the default and a trial are required")
        estimates = [{name: _estimate(one[name]) for name in ESTIMATES if name in one} for one in contenders]
        return Verdict(tuple(Contender(**(one | own)) for one, own in zip(contenders, estimates, strict=True)))

    @property
    def winner(self) -> Contender:
        """The search's best trial."""
        return self.contenders[1]

    @property
    def gain(self) -> float:
        """How much higher the winner's value was than the default's in the search."""
        return self.winner.searched - self.contenders[0].searched

    @property
    def share(self) -> float:
        """The held-out difference over the one in the search; NaN unless both intervals are above 0."""
        won = self.winner
        shown = won.searched_difference.low > 0 and won.difference.low > 0
        return won.difference.value / won.searched_difference.value if shown else math.nan

    def answer(self) -> str:
        """Return in one or two sentences whether the winner beats the default."""
        won, gap = self.winner, self.winner.difference
        if not math.isfinite(gap.low):
            answer = f"{won.name} differs from the default by {signed(gap.value)}; one seed has no interval"
        elif gap.low > 0:
            answer = f"{won.name} beats the default on held-out seeds: {_in_words(gap)}"
        elif gap.high < 0:
            answer = f"{won.name} is worse than the default on held-out seeds: {_in_words(gap)}"
        else:
            answer = f"It is not shown that {won.name} beats the default: {_in_words(gap)} on held-out seeds"
        if self.gain <= 0:
            return f"{answer}. The search found nothing above the default ({signed(self.gain)} on its own seeds)."
        gap = won.searched_difference
        searched = _in_words(gap) if math.isfinite(gap.low) else f"{signed(self.gain)}, without an interval"
        answer = f"{answer}. On the search's own seeds, by which it was chosen: {searched}"
        if math.isnan(self.share):
            return f"{answer}."
        kept = f"about {self.share:.0%} of that is" if self.share < 1 else "all of that is"
        return f"{answer}; {kept} there on held-out seeds."

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, with null for NaN."""
        own = asdict(self) | {"gain": self.gain, "share": self.share, "answer": self.answer()}
        dumped = json.loads(json.dumps(own), parse_constant=lambda _: None)
        assert isinstance(dumped, dict)
        return dumped


ESTIMATES = ("mean", "difference", "searched_difference")


def _estimate(known: Sequence[float | None]) -> Estimate:
    return Estimate(*(math.nan if value is None else float(value) for value in known))


def _in_words(gap: Estimate) -> str:
    return f"{signed(gap.value)}, 95% interval [{signed(gap.low)}, {signed(gap.high)}]"


def signed(value: float) -> str:
    """Format a difference: "+1,234.5", "-0.0123"."""
    return f"{value:+,.1f}" if abs(value) >= 10 else f"{value:+.3g}"


def best(trials: Sequence[Trial], top: int) -> list[Trial]:
    """Return the complete trials with the highest values; of trials with equal settings, only the first."""
    ranked = sorted((t for t in trials if t.value is not None), key=lambda t: (-(t.value or 0.0), t.number))
    return list({as_json(trial.params): trial for trial in reversed(ranked)}.values())[::-1][:top]


def verdict(
    study: Study,
    chosen: Sequence[Trial],
    searched: Mapping[str, Scores],
    held_out: Mapping[str, Scores],
    worst_searched: Mapping[str, float],
    worst: Mapping[str, float],
) -> Verdict:
    """Return the verdict on the chosen trials, best first.

    searched, held_out: {variant: scores} of the default and the chosen trials on the search's and on held-out seeds.
    worst_searched, worst: {env: value of a diverged run} for each.
    """
    searched_per_seed = {name: seed_values(study, scores, worst_searched) for name, scores in searched.items()}
    per_seed = {name: seed_values(study, scores, worst) for name, scores in held_out.items()}

    def value_of(scores: Scores, worst: Mapping[str, float]) -> float:
        return objective_value(scores, worst, study.scale, study.aggregate, study.quantile)

    contenders = []
    for trial in [None, *chosen]:
        name = trial.name if trial else DEFAULT_VARIANT
        scores, values = held_out[name], per_seed[name]
        contenders.append(
            Contender(
                name=name,
                params=trial.params if trial else {},
                searched=(trial.value or 0.0) if trial else value_of(searched[DEFAULT_VARIANT], worst_searched),
                held_out=value_of(scores, worst),
                mean=mean_interval(values),
                difference=difference_interval(values, per_seed[DEFAULT_VARIANT]) if trial else NO_ESTIMATE,
                diverged=sum(run.diverged for runs in scores.values() for run in runs),
                exploded=sum(run.exploded for runs in scores.values() for run in runs),
                searched_difference=difference_interval(searched_per_seed[name], searched_per_seed[DEFAULT_VARIANT])
                if trial
                else NO_ESTIMATE,
            )
        )
    return Verdict(tuple(contenders))


def seed_values(study: Study, scores: Scores, worst: Mapping[str, float]) -> np.ndarray:
    """Return one value per seed [S]: the mean over environments, on the study's scale."""
    return np.mean(np.array([*values_of(scores, worst, study.scale).values()]), axis=0)


def best_file(study: Study, winner: Contender) -> str:
    """Return an experiment file with the default and the winner on held-out seeds, whose runs all exist already."""
    tables: dict[str, Any] = {
        "name": f"{study.name}-best",
        "question": f"What {winner.name} of the study {study.name} gets, compared with the default it started from.",
        "algorithm": study.algorithm,
        "envs": list(study.envs),
        "seeds": list(study.held_out_seeds),
        "steps": study.steps,
        "reference": DEFAULT_VARIANT,
        "base": dict(study.base),
        "on": {env: table for env, table in study.on.items() if env in study.envs and table},
        "variants": {DEFAULT_VARIANT: _only(study, study.start), "best": _only(study, study.changes(winner.params))},
    }
    tables = {key: value for key, value in tables.items() if value != {}}
    return (
        f"# The winner of the study {study.name}. Use it with sac-bench run, or copy [variants.best].\n"
        + tomli_w.dumps(tables)
    )


def _only(study: Study, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variant's table, limited to the study's environments."""
    on = {env: table for env, table in overrides.get("on", {}).items() if env in study.envs and table}
    return {key: value for key, value in overrides.items() if key != "on"} | ({"on": on} if on else {})
