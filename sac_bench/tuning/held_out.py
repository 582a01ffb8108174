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


@dataclass(frozen=True)
class Verdict:
    """What of the search's gain is left."""

    contenders: tuple[Contender, ...]
    """The default, then the search's best trials, best first: the second is the winner."""
    gain: float
    """By which the winner was above the default in the search."""
    kept: float
    """By which it is above the default on held-out seeds, by the same objective."""

    @property
    def winner(self) -> Contender:
        return self.contenders[1]

    @property
    def survived(self) -> float:
        """The share of the gain that is left; NaN where there was none."""
        return self.kept / self.gain if self.gain > 0 else math.nan

    def answer(self) -> str:
        """Whether the winner really beats the default, in a sentence or two."""
        won, gap = self.winner, self.winner.difference
        interval = f"{signed(gap.value)}, 95% interval [{signed(gap.low)}, {signed(gap.high)}]"
        if not math.isfinite(gap.low):
            said = f"{won.name} differs from the default by {signed(gap.value)}; one seed tells no interval"
        elif gap.low > 0:
            said = f"{won.name} beats the default on held-out seeds: {interval}"
        elif gap.high < 0:
            said = f"{won.name} is worse than the default on held-out seeds: {interval}"
        else:
            said = f"It is not shown that {won.name} beats the default: {interval} on held-out seeds"
        if self.gain <= 0:
            return f"{said}. The search found nothing above the default ({signed(self.gain)} on its own seeds)."
        share = f"{self.survived:.0%} of that survived" if self.kept > 0 else "none of that survived"
        return (
            f"{said}. In the search it was {signed(self.gain)} above the default, on held-out seeds "
            f"{signed(self.kept)}: {share}."
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it, NaN as null."""
        own = asdict(self) | {"survived": self.survived, "answer": self.answer()}
        dumped = json.loads(json.dumps(own), parse_constant=lambda _: None)
        assert isinstance(dumped, dict)
        return dumped


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
    searched_default: float,
    held_out: Mapping[str, Scores],
    worst: Mapping[str, float],
) -> Verdict:
    """From held-out scores {variant: scores} of the default and the chosen trials, best first.

    `worst` {env: what a diverged run enters with}.
    """
    per_seed = {name: seed_values(study, scores, worst) for name, scores in held_out.items()}
    contenders = []
    for trial in [None, *chosen]:
        name = trial.name if trial else DEFAULT
        scores, values = held_out[name], per_seed[name]
        contenders.append(
            Contender(
                name=name,
                params=trial.params if trial else {},
                searched=(trial.value or 0.0) if trial else searched_default,
                held_out=objective_value(scores, worst, study.scale, study.aggregate, study.quantile),
                mean=mean_interval(values),
                difference=difference_interval(values, per_seed[DEFAULT]) if trial else Estimate(*[math.nan] * 3),
                diverged=sum(run.diverged for runs in scores.values() for run in runs),
            )
        )
    default, winner = contenders[:2]
    return Verdict(tuple(contenders), winner.searched - default.searched, winner.held_out - default.held_out)


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
