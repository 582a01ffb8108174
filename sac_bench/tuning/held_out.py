"""Whether what a search found holds: its best trials and the default on seeds that the search never saw.

The winner is the search's best trial, chosen before it is trained there: so its difference from the default has an
honest interval. The other trials shown are not candidates; to take the best of them by their held-out scores would be
to search again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sac_bench.analysis.statistics import Estimate, difference_interval, mean_interval
from sac_bench.tuning.score import Scores, normalised, objective_value
from sac_bench.tuning.space import Params
from sac_bench.tuning.study import DEFAULT, Study
from sac_bench.tuning.trials import Trial, as_json

NOT_KNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Contender:
    """A variant's value in the search and on held-out seeds."""

    name: str
    params: Params
    searched: float
    """By the study's objective on the search's seeds, at the same steps as all."""
    held_out: float
    """By the same objective on held-out seeds."""
    mean: Estimate
    """Over held-out seeds, each the mean over environments, with its 95% interval (Student's t)."""
    difference: Estimate
    """From the default, with its 95% interval (Welch's t); NaN for the default itself."""
    diverged: int
    searched_difference: Estimate = NOT_KNOWN
    """As `difference`, on the search's seeds. Of the winner it is too high on average: the search chose it by them."""


@dataclass(frozen=True)
class Verdict:
    """What of the search's gain is left."""

    contenders: tuple[Contender, ...]
    """The default, then the search's best trials, best first: the second is the winner."""

    @staticmethod
    def from_dict(known: Mapping[str, Any]) -> Verdict:
        """The inverse of `as_dict`; earlier versions wrote no differences on the search's seeds."""
        contenders: list[dict[str, Any]] = known["contenders"]
        estimates = [{name: _estimate(one[name]) for name in ESTIMATES if name in one} for one in contenders]
        return Verdict(tuple(Contender(**(one | own)) for one, own in zip(contenders, estimates, strict=True)))

    @property
    def winner(self) -> Contender:
        return self.contenders[1]

    @property
    def gain(self) -> float:
        """By which the winner was above the default in the search, by the study's objective."""
        return self.winner.searched - self.contenders[0].searched

    @property
    def share(self) -> float:
        """Of the difference in the search, what is there on held-out seeds; NaN unless both are shown to be above 0."""
        won = self.winner
        shown = won.searched_difference.low > 0 and won.difference.low > 0
        return won.difference.value / won.searched_difference.value if shown else math.nan

    def answer(self) -> str:
        """Whether the winner really beats the default, in a sentence or two."""
        won, gap = self.winner, self.winner.difference
        if not math.isfinite(gap.low):
            said = f"{won.name} differs from the default by {signed(gap.value)}; one seed has no interval"
        elif gap.low > 0:
            said = f"{won.name} beats the default on held-out seeds: {_in_words(gap)}"
        elif gap.high < 0:
            said = f"{won.name} is worse than the default on held-out seeds: {_in_words(gap)}"
        else:
            said = f"It is not shown that {won.name} beats the default: {_in_words(gap)} on held-out seeds"
        if self.gain <= 0:
            return f"{said}. The search found nothing above the default ({signed(self.gain)} on its own seeds)."
        before = won.searched_difference
        searched = _in_words(before) if math.isfinite(before.low) else f"{signed(self.gain)}, without an interval"
        said = f"{said}. On the search's own seeds, by which it was chosen: {searched}"
        if math.isnan(self.share):
            return f"{said}."
        kept = f"about {self.share:.0%} of that is" if self.share < 1 else "all of that is"
        return f"{said}; {kept} there on held-out seeds."

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it, NaN as null."""
        own = asdict(self) | {"gain": self.gain, "share": self.share, "answer": self.answer()}
        dumped = json.loads(json.dumps(own), parse_constant=lambda _: None)
        assert isinstance(dumped, dict)
        return dumped


ESTIMATES = ("mean", "difference", "searched_difference")


def _estimate(known: Sequence[float | None]) -> Estimate:
    return Estimate(*(math.nan if value is None else value for value in known))


def _in_words(gap: Estimate) -> str:
    return f"{signed(gap.value)}, 95% interval [{signed(gap.low)}, {signed(gap.high)}]"


def signed(value: float) -> str:
    """A difference for a reader: "+1,234.5", "-0.0123"."""
    return f"{value:+,.1f}" if abs(value) >= 10 else f"{value:+.3g}"


def best(trials: Sequence[Trial], top: int) -> list[Trial]:
    """The complete trials of highest value, of equal settings the first, of equal values the earlier."""
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
    """From scores {variant: scores} of the default and the chosen trials, best first: on the search's seeds, and on
    held-out ones.

    `worst` {env: what a diverged run enters with}, there and here.
    """
    before = {name: seed_values(study, scores, worst_searched) for name, scores in searched.items()}
    per_seed = {name: seed_values(study, scores, worst) for name, scores in held_out.items()}
    value_of = lambda scores, worst: objective_value(scores, worst, study.scale, study.aggregate, study.quantile)
    contenders = []
    for trial in [None, *chosen]:
        name = trial.name if trial else DEFAULT
        scores, values = held_out[name], per_seed[name]
        contenders.append(
            Contender(
                name=name,
                params=trial.params if trial else {},
                searched=(trial.value or 0.0) if trial else value_of(searched[DEFAULT], worst_searched),
                held_out=value_of(scores, worst),
                mean=mean_interval(values),
                difference=difference_interval(values, per_seed[DEFAULT]) if trial else NOT_KNOWN,
                diverged=sum(run.diverged for runs in scores.values() for run in runs),
                searched_difference=difference_interval(before[name], before[DEFAULT]) if trial else NOT_KNOWN,
            )
        )
    return Verdict(tuple(contenders))


def seed_values(study: Study, scores: Scores, worst: Mapping[str, float]) -> np.ndarray:
    """A value a seed [S]: the mean over environments, on the study's scale."""
    per_env = [
        [normalised(worst[env] if run.diverged else run.value, env, study.scale) for run in runs]
        for env, runs in scores.items()
    ]
    return np.mean(np.array(per_env), axis=0)


def best_file(study: Study, winner: Contender) -> str:
    """An experiment file of the default and the winner on the held-out seeds: all of its runs are there already."""
    tables: dict[str, Any] = {
        "name": f"{study.name}-best",
        "question": f"What {winner.name} of the study {study.name} gets, beside the default it started from.",
        "algorithm": study.algorithm,
        "envs": list(study.envs),
        "seeds": list(study.held_out_seeds),
        "steps": study.steps,
        "reference": DEFAULT,
        "base": dict(study.base),
        "on": {env: table for env, table in study.on.items() if env in study.envs and table},
        "variants": {DEFAULT: _only(study, study.start), "best": _only(study, study.overrides(winner.params))},
    }
    tables = {key: value for key, value in tables.items() if value != {}}
    return f"# The winner of the study {study.name}: sac-bench run this file, or copy [variants.best].\n" + toml(tables)


def _only(study: Study, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's table, of its environments the study's."""
    on = {env: table for env, table in overrides.get("on", {}).items() if env in study.envs and table}
    return {key: value for key, value in overrides.items() if key != "on"} | ({"on": on} if on else {})


def toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Tables as TOML, plain values first."""
    plain = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    text = "".join(f"{line}\n" for line in plain)
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = toml(value, (*path, key))
            header = ".".join(map(_key, (*path, key)))
            has_own = not value or any(not isinstance(part, Mapping) for part in value.values())
            text += (f"\n[{header}]\n" if has_own else "") + inner
    return text


def _key(name: str) -> str:
    bare = name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
    return name if bare else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
