"""What a search may choose: named dimensions, each a range or a list of choices."""

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

from sac_bench.errors import InputError, nearest
from sac_bench.spec.toml import validate

Params = dict[str, Any]
"""Options by name, as an experiment file would have them."""
MAX_GRID_VALUES = 1000
"""Whole numbers in a range, up to which each is tried before anything is trained."""
CORNERS = 4096
INSIDE = 256
"""Settings from inside a space that are tried before anything is trained."""
LARGEST = 2**53


@dataclass(frozen=True)
class Dimension:
    """One option that is searched."""

    name: str

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        raise NotImplementedError

    def ends(self) -> list[Any]:
        """The values that bound all others."""
        raise NotImplementedError

    def probes(self) -> list[Any]:
        """Values to try the config with; all there are where they are few."""
        return self.ends()

    def drawn(self, chosen: random.Random) -> Any:
        """Any value."""
        raise NotImplementedError

    def value(self, stored: Any) -> Any:
        """An option's value, of what Optuna keeps."""
        return stored

    def suggest(self, trial: optuna.Trial) -> None:
        """Have the sampler say a value, or what it said before; the trial keeps it."""
        raise NotImplementedError


@dataclass(frozen=True)
class FloatRange(Dimension):
    """Numbers from `low` to `high`, even in their logarithm with `log`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def ends(self) -> list[Any]:
        return [self.low, self.distribution.high]

    def drawn(self, chosen: random.Random) -> float:
        over, back = (math.log, math.exp) if self.log else (float, float)
        value = back(chosen.uniform(over(self.low), over(self.high)))
        if self.step is not None:
            value = self.low + self.step * math.floor((value - self.low) / self.step)
        return min(max(value, self.low), self.distribution.high)

    def suggest(self, trial: optuna.Trial) -> None:
        trial.suggest_float(self.name, self.low, self.distribution.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class IntRange(Dimension):
    """Whole numbers from `low` to `high`, every `step`."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    @property
    def distribution(self) -> IntDistribution:
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def ends(self) -> list[Any]:
        return [self.low, self.distribution.high]

    def probes(self) -> list[Any]:
        values = range(self.low, self.high + 1, self.step)
        return list(values) if len(values) <= MAX_GRID_VALUES else self.ends()

    def drawn(self, chosen: random.Random) -> int:
        return chosen.randrange(self.low, self.high + 1, self.step)

    def suggest(self, trial: optuna.Trial) -> None:
        trial.suggest_int(self.name, self.low, self.distribution.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choice(Dimension):
    """One of some values, lists included."""

    choices: tuple[Any, ...]

    @property
    def _stored(self) -> list[Any]:
        return [json.dumps(choice) if isinstance(choice, list) else choice for choice in self.choices]

    @property
    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self._stored)

    def ends(self) -> list[Any]:
        return list(self.choices)

    def value(self, stored: Any) -> Any:
        return self.choices[self._stored.index(stored)]

    def drawn(self, chosen: random.Random) -> Any:
        return chosen.choice(self.choices)

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
    low: Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
    high: Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
    log: bool = False
    step: Annotated[int, Field(ge=1)] = 1


class _Categorical(_Table):
    made: ClassVar[type[Dimension]] = Choice
    choices: Annotated[list[bool | int | float | str | list[int | float | str]], Field(min_length=2)]


KINDS: dict[str, type[_Table]] = {"float": _Float, "int": _Int, "categorical": _Categorical}


def parse(name: str, table: Any, where: str) -> Dimension:
    """A dimension from its table in [space]; InputError naming the file, the option and the key."""
    place = f"{where}: [space] {name}"
    if not isinstance(table, dict):
        raise InputError(f'{place}: wants a table as {{type = "float", low = 0.1, high = 1.0}}, not {table!r}')
    kind = table.get("type")
    if kind is None:
        raise InputError(f"{place}: type: is missing; there are {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(kind, KINDS) if isinstance(kind, str) else ""
        raise InputError(f"{place}: type: unknown type {kind!r}{hint or '; there are ' + ', '.join(KINDS)}")
    read = validate(KINDS[kind], {key: value for key, value in table.items() if key != "type"}, place)
    if isinstance(read, _Categorical):
        if any(one == other for one, other in itertools.combinations(read.choices, 2)):  # 1, 1.0 and true are
            raise InputError(f"{place}: choices: one is there twice")
        return Choice(name, tuple(read.choices))
    assert isinstance(read, (_Float, _Int))
    if read.low > read.high:
        raise InputError(f"{place}: low: {read.low:g} is above high = {read.high:g}")
    if read.low == read.high:
        raise InputError(f"{place}: low: {read.low:g} is also high, which leaves nothing to search; put it into [base]")
    if read.log and read.low <= 0:
        raise InputError(f"{place}: low: {read.low:g} has no logarithm; log = true wants low above 0")
    if read.log and "step" in read.model_fields_set:
        raise InputError(f"{place}: step: goes with log = false only")
    if read.step is not None and (read.high - read.low) / read.step > LARGEST:
        raise InputError(f"{place}: step: {read.step:g} is too small for low = {read.low:g} to high = {read.high:g}")
    if read.step is not None and read.step > read.high - read.low:
        raise InputError(f"{place}: step: {read.step:g} is more than from low = {read.low:g} to high = {read.high:g}")
    return type(read).made(name, **read.model_dump())


def probes(space: Sequence[Dimension]) -> Iterator[Params]:
    """Settings to try the config with, all of which a search might ask for.

    Every end, or value where there are few, with the others at their first; then the corners, or many of them where
    there are too many; then some from inside.
    """
    first = {dimension.name: dimension.ends()[0] for dimension in space}
    for dimension in space:
        for value in dimension.probes():
            yield first | {dimension.name: value}
    ends = [dimension.ends() for dimension in space]
    corners: Iterator[Sequence[Any]] = itertools.product(*ends)
    chosen = random.Random(0)
    if math.prod(map(len, ends)) > CORNERS:
        corners = ([chosen.choice(values) for values in ends] for _ in range(CORNERS))
    for corner in corners:
        yield dict(zip(first, corner, strict=True))
    for _ in range(INSIDE):
        yield {dimension.name: dimension.drawn(chosen) for dimension in space}
