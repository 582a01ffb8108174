"""Options that every variant chooses from a small grid, on selection seeds, before the variants are compared.

[choose]
seeds = 3                                 # selection seeds; the comparison uses others
[choose.base]                             # the default grid
"actor_lr, critic_lr" = [1e-4, 3e-4, 1e-3] # options that share each value
[choose.variants.fixed-temperature]
temperature = [0.01, 0.1, 1.0]
[choose.by]
fixed-temperature = "sampled"             # the measure to choose by; default: "score"

The candidates are all combinations of a grid's values. All variants must have the same number of candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from sac_bench.errors import InputError, nearest
from sac_bench.spec.seeds import Seeds

if TYPE_CHECKING:
    from sac_bench.spec.variant import Variant

FIRST_SEED = 1_000_000
"""The first selection seed, if a file gives only their number."""

Options = dict[str, Any]
Grid = Mapping[str, list[Any]]
"""{option, or several that share each value, as "actor_lr, critic_lr": values}."""
By = Literal["score", "sampled"]
"""The measure that a choice maximises: the score, or that of sampled actions."""


class ChooseTable(BaseModel):
    """The table [choose] of an experiment file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    seeds: Seeds = 3
    base: dict[str, list[Any]] = {}
    variants: dict[str, dict[str, list[Any]]] = {}
    by: dict[str, By] = {}


class Score(BaseModel):
    """A candidate's options and its mean score over the selection seeds; None if a run has no score.

    `error`: the mean's standard error; None with a single seed.
    """

    model_config = ConfigDict(frozen=True)

    options: Options
    mean: float | None
    error: float | None = None


class Choice(BaseModel):
    """The options that a variant chose in an environment. `at_edge`: those whose value is at the edge of its grid."""

    model_config = ConfigDict(frozen=True)

    variant: str
    env: str
    options: Options
    at_edge: tuple[str, ...]
    candidates: tuple[Score, ...]
    seeds: tuple[int, ...]
    by: By = "score"


@dataclass(frozen=True)
class Candidate:
    """A variant with one combination of the values in its grid."""

    variant: Variant
    options: Options


@dataclass(frozen=True)
class Choose:
    """What is chosen: the candidates of each variant, and the seeds to choose by."""

    seeds: tuple[int, ...]
    candidates: dict[str, tuple[Candidate, ...]]
    by: Mapping[str, By] = field(default_factory=dict)
    """{variant: the measure it chooses by}, if that is not its score."""

    def of(self, variants: Collection[str]) -> Choose:
        """Return what these variants choose."""
        return replace(self, candidates={name: own for name, own in self.candidates.items() if name in variants})

    def variants(self) -> list[Variant]:
        """Return the candidates of all variants."""
        return [one.variant for of_variant in self.candidates.values() for one in of_variant]

    def with_steps(self, steps: int) -> Choose:
        """Return the same with candidates that are trained for `steps`."""

        def trained(one: Candidate) -> Candidate:
            return replace(one, variant=replace(one.variant, steps=dict.fromkeys(one.variant.steps, steps)))

        return replace(self, candidates={name: tuple(map(trained, own)) for name, own in self.candidates.items()})

    def at_edge(self, variant: str, options: Options, scored: Sequence[Options]) -> tuple[str, ...]:
        """Return the numeric options whose value is the lowest or highest of its grid, unless none is possible beyond.

        The best value may then lie beyond the grid. `scored`: the candidates with a score. The grid of an option is its
        values in those that have all other options in common, since of the rest nothing is known. Options that share
        their values vary together.
        """
        algorithm = self.candidates[variant][0].variant.algorithm
        every = [one.options for one in self.candidates[variant]]

        def values(name: str) -> list[Any]:
            varied = {other: options[other] for other in options if all(one[other] == one[name] for one in every)}
            return [one[name] for one in scored if one | varied == options]

        return tuple(
            name
            for name, value in options.items()
            if _is_number(value)
            and value in (min(values(name)), max(values(name)))
            and value not in _limits(algorithm, name)
        )


def grids(table: ChooseTable, variants: Collection[str], where: str) -> dict[str, list[Options]]:
    """Return the candidates' options of every variant.

    Raises InputError for invalid grids and for unequal numbers of candidates.
    """
    for key, names in (("variants", table.variants), ("by", table.by)):
        for name in names:
            if name not in variants:
                raise InputError(f"{where}: [choose.{key}] {name}: no variant {name!r}{nearest(name, variants)}")
    combined = {name: _combined(table.variants.get(name, table.base), name, where) for name in variants}
    counts = {name: len(own) for name, own in combined.items()}
    if len(set(counts.values())) > 1:
        few, many = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
        raise InputError(
            f"{where}: [choose]: {few!r} has {counts[few]} candidates and {many!r} has {counts[many]}; all variants "
            "must have the same number, so that none is tuned more than another"
        )
    return combined


def _combined(grid: Grid, variant: str, where: str) -> list[Options]:
    """Return all combinations of a grid's values."""
    if not grid:
        raise InputError(
            f"{where}: [choose]: {variant!r} has no grid; add [choose.base] or [choose.variants.{variant}]"
        )
    named = [[name.strip() for name in key.split(",")] for key in grid]
    repeated = [name for name, count in Counter(chain(*named)).items() if count > 1]
    if repeated:
        raise InputError(f"{where}: [choose] {repeated[0]}: is given twice for {variant!r}")
    if "steps" in chain(*named):
        raise InputError(f"{where}: [choose] steps: is not an option of an algorithm; remove it")
    for option, values in grid.items():
        least = 3 if any(map(_is_number, values)) else 2
        if len(values) < least:
            raise InputError(f"{where}: [choose] {option}: must have at least {least} values, not {values!r}")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise InputError(f"{where}: [choose] {option}: a value is duplicated in {values!r}")
    return [
        {name: value for names, value in zip(named, values, strict=True) for name in names}
        for values in product(*grid.values())
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _limits(algorithm: str, option: str) -> list[float]:
    """Return the bounds of an option that are possible values."""
    from sac_bench.algorithms import ALGORITHMS

    metadata = ALGORITHMS[algorithm].config.model_fields[option].metadata
    bounds = [getattr(part, end, None) for part in metadata for end in ("ge", "le")]
    return [float(bound) for bound in bounds if bound is not None]
