"""Where a variant's runs begin: at the weights that runs of another variant ended with, seed by seed.

[variants.NAME]
start = { variant = "sac", env = "HalfCheetah-v5", steps = 20000 }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.algorithms.pytree import named_tensors
from sac_bench.envs.checking import check
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError, nearest
from sac_bench.spec.overrides import MAX_STEPS
from sac_bench.spec.run import RunSpec, Start
from sac_bench.spec.toml import located, validate

if TYPE_CHECKING:
    from sac_bench.spec.experiment import Variant


@dataclass(frozen=True)
class Parent:
    """The runs that a variant's runs start from: a variant, whose only steps are those, on one environment."""

    variant: Variant
    env: str

    @property
    def steps(self) -> int:
        return self.variant.steps[self.env]

    def run(self, seed: int) -> RunSpec:
        """The run that one of this seed starts from."""
        return self.variant.run(self.env, seed)

    def start(self, seed: int) -> Start:
        """The same as a run's spec has it."""
        return Start(self.run(seed).id, self.steps)


LONGEST_CHAIN = 10
Runs = list[tuple["Variant", RunSpec]]


class _Table(BaseModel):
    """What a file says of a start."""

    model_config = ConfigDict(extra="forbid", strict=True)

    variant: str
    env: str
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None


def tables_of(variants: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, _Table]:
    """What [variants.NAME] says of starts, the environments known."""
    tables = {}
    for name, overrides in variants.items():
        if "start" not in overrides:
            continue
        place, start = _place(where, name), overrides["start"]
        if not isinstance(start, dict):
            raise InputError(f"{place}: wants {{ variant = NAME, env = ID }}, and steps = N if not all, not {start!r}")
        tables[name] = validate(_Table, start, place)
        with located(f"{place}: env"):
            check(tables[name].env)
    return tables


def with_starts(
    variants: Mapping[str, Variant], envs: Sequence[str], steps: int | None, where: str
) -> dict[str, Variant]:
    """The variants on `envs` alone, with what they start from, after `steps` if given; InputError where it cannot be.

    `variants` are on the environments of all starts, too.
    """
    tables = tables_of({name: variant.overrides for name, variant in variants.items()}, where)
    kept = lambda of: {env: of[env] for env in envs}
    known: dict[str, Variant] = {}

    def begun(name: str, before: tuple[str, ...] = ()) -> Variant:
        variant, place = variants[name], _place(where, name)
        if (table := tables.get(name)) is None or name in known:
            return known.get(name, variant)
        if table.variant not in variants:
            raise InputError(f"{place}: no variant {table.variant!r}{nearest(table.variant, variants)}")
        if table.variant in (*before, name):
            raise InputError(f"{place}: goes round in a circle: {' from '.join((*before, name, table.variant))}")
        other = begun(table.variant, (*before, name)) if len(before) < LONGEST_CHAIN else None
        if other is None or other.generation == LONGEST_CHAIN:
            raise InputError(f"{place}: at most {LONGEST_CHAIN} starts, one from the other")
        count = steps or table.steps or other.steps[table.env]
        one = replace(other, configs={table.env: other.configs[table.env]}, steps={table.env: count})
        origin = Parent(one, table.env)
        for env in envs:
            _check_fit(origin, variant, env, place)
        known[name] = replace(variant, start=origin)
        return known[name]

    found = {name: begun(name) for name in variants}
    return {name: replace(v, configs=kept(v.configs), steps=kept(v.steps)) for name, v in found.items()}


def with_parents(runs: Runs, needs: Callable[[Variant, RunSpec], bool] = lambda *_: True) -> Runs:
    """Runs, then what those of them that `needs` says start from, and so on; a run may be there more than once.

    InputError where a run is to go on beyond where others start from it: it keeps the weights of its end alone.
    """
    found = list(runs)
    started = []
    for variant, spec in found:  # which grows
        if variant.start is not None and needs(variant, spec):
            started.append((variant, spec.start))
            found.append((variant.start.variant, variant.start.run(spec.seed)))
    furthest: dict[str, int] = {}
    for variant, spec in found if started else ():
        furthest[spec.id] = max(furthest.get(spec.id, 0), variant.steps[spec.env])
    for variant, start in started:
        if start is not None and variant.start is not None and furthest[start.run] > start.steps:
            raise InputError(
                f"variant {variant.name!r} starts from {variant.start.variant.name!r} on {variant.start.env} at "
                f"{start.steps} steps, and that is trained to {furthest[start.run]}; a run keeps the weights of its end"
            )
    return found


def _check_fit(origin: Parent, variant: Variant, env: str, place: str) -> None:
    """InputError unless what the origin's runs end with is what the variant's runs on `env` are made of."""
    there, here = origin.variant, variant
    if there.algorithm != here.algorithm:
        raise InputError(
            f"{place}: {there.name!r} is of {there.algorithm} and {here.name!r} of {here.algorithm}; "
            "weights go on in the same algorithm"
        )
    if ALGORITHMS[here.algorithm].learner(here.configs[env], *_sizes(env)).start is None:
        raise InputError(f"{place}: runs of {here.algorithm} do not start from others (its Learner has no `start`)")
    if _sizes(origin.env) != _sizes(env):
        words = ["{} observations and {} actions on {}".format(*_sizes(of), of) for of in (origin.env, env)]
        raise InputError(f"{place}: does not fit: {words[0]}, {words[1]}")
    theirs, ours = there.configs[origin.env], here.configs[env]
    if theirs.structure() == ours.structure():
        return
    of_origin, own = _shapes(there.algorithm, theirs, origin.env), _shapes(here.algorithm, ours, env)
    for part in {**own, **of_origin}:
        if own.get(part) != of_origin.get(part):
            raise InputError(
                f"{place}: does not fit: {part} is {_shape(of_origin, part)} in {there.name!r} and "
                f"{_shape(own, part)} here, on {env}"
            )


def _sizes(env: str) -> tuple[int, int]:
    described = describe(env)
    return described.observation_dim, described.action_dim


def _shapes(algorithm: str, config: TrainingConfig, env: str) -> dict[str, tuple[int, ...]]:
    """{name: shape} of what a run ends with."""
    learner = ALGORITHMS[algorithm].learner(config, *_sizes(env))
    tensors = named_tensors(learner.weights(learner.shape_of_state(config.hyperparameter_tensors())))
    return {name: tuple(leaf.shape) for name, leaf in tensors.items()}


def _shape(shapes: Mapping[str, tuple[int, ...]], part: str) -> str:
    return str(list(shapes[part])) if part in shapes else "nothing"


def _place(where: str, name: str) -> str:
    return f"{where}: [variants.{name}] start"
