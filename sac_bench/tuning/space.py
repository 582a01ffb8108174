"""The search space: named dimensions, each a range or a list of choices."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sac_bench.errors import InputError, nearest
from sac_bench.spec.toml import validate

Params = dict[str, Any]
"""Values of options by name, as in an experiment file."""
MAX_GRID_VALUES = 1000
"""Largest number of integers in a range that are all validated before training."""
MAX_CORNERS = 4096
"""Largest number of corners of a space that are validated before training."""
INNER_SETTINGS = 256
"""Number of random settings from a space that are validated before training."""
MAX_EXACT_INTEGER = 2**53
"""Largest integer up to which all integers are exact as floats."""


@dataclass(frozen=True)
class Dimension:
    """One searched option."""

    name: str

    @property
    def distribution(self) -> BaseDistribution:
        """The same range for Optuna."""
        raise NotImplementedError

    def ends(self) -> list[Any]:
        """Return the ends of the range, or all choices."""
        raise NotImplementedError

    def probes(self) -> list[Any]:
        """Return values to validate the config with: all if there are few."""
        return self.ends()

    def draw(self, generator: random.Random) -> Any:
        """Return a random value."""
        raise NotImplementedError

    def value(self, stored: Any) -> Any:
        """Return the option's value for the value that Optuna stores."""
        return stored

    def suggest(self, trial: optuna.Trial) -> None:
        """Make the sampler choose a value, which the trial stores; a stored one is kept."""
        raise NotImplementedError


@dataclass(frozen=True)
class FloatRange(Dimension):
    """Numbers from `low` to `high`, uniform in the logarithm if `log`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    @override
    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    @override
    def ends(self) -> list[Any]:
        return [self.low, self.distribution.high]

    @override
    def draw(self, generator: random.Random) -> float:
        over, back = (math.log, math.exp) if self.log else (float, float)
        value = back(generator.uniform(over(self.low), over(self.high)))
        if self.step is not None:
            value = self.low + self.step * math.floor((value - self.low) / self.step)
        return min(max(value, self.low), self.distribution.high)

    @override
    def suggest(self, trial: optuna.Trial) -> None:
        trial.suggest_float(self.name, self.low, self.distribution.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class IntRange(Dimension):
    """Integers from `low` to `high` in steps of `step`."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    @property
    @override
    def distribution(self) -> IntDistribution:
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    @override
    def ends(self) -> list[Any]:
        return [self.low, self.distribution.high]

    @override
    def probes(self) -> list[Any]:
        values = range(self.low, self.high + 1, self.step)
        return list(values) if len(values) <= MAX_GRID_VALUES else self.ends()

    @override
    def draw(self, generator: random.Random) -> int:
        return generator.randrange(self.low, self.high + 1, self.step)

    @override
    def suggest(self, trial: optuna.Trial) -> None:
        trial.suggest_int(self.name, self.low, self.distribution.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choice(Dimension):
    """One of several values, which may be lists."""

    choices: tuple[Any, ...]

    @property
    def _stored(self) -> list[Any]:
        return [json.dumps(choice) if isinstance(choice, list) else choice for choice in self.choices]

    @property
    @override
    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self._stored)

    @override
    def ends(self) -> list[Any]:
        return list(self.choices)

    @override
    def value(self, stored: Any) -> Any:
        return self.choices[self._stored.index(stored)]

    @override
    def draw(self, generator: random.Random) -> Any:
        return generator.choice(self.choices)

    @override
    def suggest(self, trial: optuna.Trial) -> None:
        trial.suggest_categorical(self.name, self._stored)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Float(_Table):
    made: ClassVar[type[Dimension]] = FloatRange
    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None


class _Int(_Table):
    made: ClassVar[type[Dimension]] = IntRange
    low: Annotated[int, Field(ge=-MAX_EXACT_INTEGER, le=MAX_EXACT_INTEGER)]
    high: Annotated[int, Field(ge=-MAX_EXACT_INTEGER, le=MAX_EXACT_INTEGER)]
    log: bool = False
    step: Annotated[int, Field(ge=1)] = 1


class _Categorical(_Table):
    made: ClassVar[type[Dimension]] = Choice
    choices: Annotated[list[bool | int | float | str | list[int | float | str]], Field(min_length=2)]


KINDS: dict[str, type[_Table]] = {"float": _Float, "int": _Int, "categorical": _Categorical}


def parse(name: str, table: Any, where: str) -> Dimension:
    """Return a dimension from its table in [space]; InputError with file, option and key if it is invalid."""
    place = f"{where}: [space] {name}"
    if not isinstance(table, dict):
        raise InputError(
            f'{place}: must be a table, for example {{type = "float", low = 0.1, high = 1.0}}, not {table!r}'
        )
    kind = table.get("type")
    if kind is None:
        raise InputError(f"{place}: type: is required; available: {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(kind, KINDS) if isinstance(kind, str) else ""
        raise InputError(f"{place}: type: unknown type {kind!r}{hint or '; available: ' + ', '.join(KINDS)}")
    read = validate(KINDS[kind], {key: value for key, value in table.items() if key != "type"}, place)
    if isinstance(read, _Categorical):
        if any(one == other for one, other in itertools.combinations(read.choices, 2)):  # 1, 1.0 and true are equal
            raise InputError(f"{place}: choices: a choice is duplicated")
        return Choice(name, tuple(read.choices))
    assert isinstance(read, (_Float, _Int))
    if read.low > read.high:
        raise InputError(f"{place}: low: {read.low:g} must be below high = {read.high:g}")
    if read.low == read.high:
        raise InputError(f"{place}: low: {read.low:g} equals high; move the option to [base]")
    if read.log and read.low <= 0:
        raise InputError(f"{place}: low: must be above 0 for log = true, not {read.low:g}")
    if read.log and "step" in read.model_fields_set:
        raise InputError(f"{place}: step: requires log = false")
    if read.step is not None and (read.high - read.low) / read.step > MAX_EXACT_INTEGER:
        raise InputError(f"{place}: step: {read.step:g} is too small for low = {read.low:g} to high = {read.high:g}")
    if read.step is not None and read.step > read.high - read.low:
        raise InputError(
            f"{place}: step: {read.step:g} is larger than the range from low = {read.low:g} to high = {read.high:g}"
        )
    return type(read).made(name, **read.model_dump())


def probes(space: Sequence[Dimension]) -> Iterator[Params]:
    """Yield settings that a search could propose, to validate the config with.

    First each dimension's probes with the other dimensions at their first end, then the corners (a random selection if
    there are more than MAX_CORNERS), then random settings.
    """
    first = {dimension.name: dimension.ends()[0] for dimension in space}
    for dimension in space:
        for value in dimension.probes():
            yield first | {dimension.name: value}
    ends = [dimension.ends() for dimension in space]
    corners: Iterator[Sequence[Any]] = itertools.product(*ends)
    generator = random.Random(0)
    if math.prod(map(len, ends)) > MAX_CORNERS:
        corners = ([generator.choice(values) for values in ends] for _ in range(MAX_CORNERS))
    for corner in corners:
        yield dict(zip(first, corner, strict=True))
    for _ in range(INNER_SETTINGS):
        yield {dimension.name: dimension.draw(generator) for dimension in space}
