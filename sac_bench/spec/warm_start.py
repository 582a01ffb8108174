"""Warm starts: a variant whose runs take their initial weights from runs of a parent variant with the same seed.

[variants.NAME]
start = { variant = "sac", env = "HalfCheetah-v5", steps = 20000, temperature = "own" }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sac_bench.algorithms import ALGORITHMS, Algorithm
from sac_bench.envs.known import check, properties
from sac_bench.errors import InputError, nearest
from sac_bench.options.config import MIN_LEARNED_TEMPERATURE, ReplayConfig, RolloutConfig, TrainingConfig
from sac_bench.spec.overrides import MAX_STEPS
from sac_bench.spec.run import RunSpec
from sac_bench.spec.toml import located, validate
from sac_bench.spec.variant import Parent, Variant

MAX_CHAIN_LENGTH = 10
OF_TRAINING = frozenset({*ReplayConfig.model_fields, *RolloutConfig.model_fields})
"""Options of which the weights' shapes are independent in sac_bench's algorithms."""
Runs = list[tuple[Variant, RunSpec]]


def _temperature(value: object) -> str | float:
    """Check the key `temperature`; ValueError if it is invalid."""
    if isinstance(value, str) and value in ("keep", "own"):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and MIN_LEARNED_TEMPERATURE <= value <= 1e6:
        return value
    raise ValueError(f'must be "keep", "own" or a number between {MIN_LEARNED_TEMPERATURE:g} and 1e6, not {value!r}')


class _Table(BaseModel):
    """The table `start` of a variant. `temperature` is None if the file does not say it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    variant: str
    env: str
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    temperature: Annotated[Any, AfterValidator(_temperature)] = None


def tables_of(variants: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, _Table]:
    """Return the `start` tables of all variants that have one, by name; InputError for invalid ones."""
    tables = {}
    for name, overrides in variants.items():
        if "start" not in overrides:
            continue
        place, start = _place(where, name), overrides["start"]
        if not isinstance(start, dict):
            raise InputError(
                f"{place}: must be {{ variant = NAME, env = ID }}, optionally with steps = N, not {start!r}"
            )
        tables[name] = validate(_Table, start, place)
        with located(f"{place}: env"):
            check(tables[name].env)
    return tables


def link_parents(
    variants: Mapping[str, Variant], envs: Sequence[str], steps: int | None, where: str
) -> dict[str, Variant]:
    """Return the variants on `envs` only, with their parents; InputError for an impossible warm start.

    variants: resolved on `envs` and on the environments of all parents; steps: of the parents, in place of their own.
    """
    tables = tables_of({name: variant.overrides for name, variant in variants.items()}, where)
    linked: dict[str, Variant] = {}

    def link(name: str, children: tuple[str, ...] = ()) -> Variant:
        variant, place = variants[name], _place(where, name)
        if (table := tables.get(name)) is None or name in linked:
            return linked.get(name, variant)
        if table.variant not in variants:
            raise InputError(f"{place}: no variant {table.variant!r}{nearest(table.variant, variants)}")
        if table.variant in (*children, name):
            raise InputError(f"{place}: is circular: {' from '.join((*children, name, table.variant))}")
        source = link(table.variant, (*children, name)) if len(children) < MAX_CHAIN_LENGTH else None
        if source is None or source.generation == MAX_CHAIN_LENGTH:
            raise InputError(f"{place}: a chain of starts must not be longer than {MAX_CHAIN_LENGTH}")
        count = steps or table.steps or source.steps[table.env]
        if source.parent is not None and table.env not in envs:
            _check(tables[source.name], source.parent, source, table.env, _place(where, source.name))
        source = replace(source, configs={table.env: source.configs[table.env]}, steps={table.env: count})
        parent = Parent(source, table.env, "keep" if table.temperature is None else table.temperature)
        for env in envs:
            _check(table, parent, variant, env, place)
        linked[name] = replace(variant, parent=parent)
        return linked[name]

    def on_envs(variant: Variant) -> Variant:
        configs = {env: variant.configs[env] for env in envs}
        return replace(variant, configs=configs, steps={env: variant.steps[env] for env in envs})

    return {name: on_envs(link(name)) for name in variants}


def with_parents(runs: Runs, needs: Callable[[Variant, RunSpec], bool] = lambda *_: True) -> Runs:
    """Return the runs, followed recursively by the parents of those for which `needs` is true, with duplicates.

    Raises InputError if a parent is to be trained beyond the steps that another run starts from: a run keeps only the
    weights of its end.
    """
    all_runs = list(runs)
    warm_started = []
    for variant, spec in all_runs:  # the list grows in the loop
        if variant.parent is not None and needs(variant, spec):
            warm_started.append((variant, spec.start))
            all_runs.append((variant.parent.variant, variant.parent.run(spec.seed)))
    furthest: dict[str, int] = {}
    for variant, spec in all_runs if warm_started else ():
        furthest[spec.id] = max(furthest.get(spec.id, 0), variant.steps[spec.env])
    for variant, start in warm_started:
        if start is not None and variant.parent is not None and furthest[start.run] > start.steps:
            raise InputError(
                f"variant {variant.name!r} starts from {variant.parent.variant.name!r} on {variant.parent.env} at "
                f"{start.steps} steps, but that is trained to {furthest[start.run]}; a run keeps only the weights of "
                "its end"
            )
    return all_runs


def _check(table: _Table, parent: Parent, variant: Variant, env: str, place: str) -> None:
    """Raise InputError unless the variant's runs on `env` can start from the parent as the table says."""
    _check_fit(parent, variant, env, place)
    _check_temperature(table, parent, variant, env, place)


def _check_fit(parent: Parent, variant: Variant, env: str, place: str) -> None:
    """Raise InputError unless the weights of the parent's runs have the shapes of the variant's runs on `env`."""
    source = parent.variant
    if source.algorithm != variant.algorithm:
        raise InputError(
            f"{place}: {source.name!r} uses {source.algorithm} and {variant.name!r} uses {variant.algorithm}; "
            "a warm start requires the same algorithm"
        )
    algorithm = ALGORITHMS[variant.algorithm]  # all of sac_bench's support warm starts
    if not algorithm.is_shipped and algorithm.learner(variant.configs[env], *_sizes(env)).start is None:
        raise InputError(f"{place}: {variant.algorithm} does not support warm starts (its Learner has no `start`)")
    if _sizes(parent.env) != _sizes(env):
        sizes = ["{} observations and {} actions on {}".format(*_sizes(of), of) for of in (parent.env, env)]
        raise InputError(f"{place}: does not fit: {sizes[0]}, {sizes[1]}")
    source_config, config = source.configs[parent.env], variant.configs[env]
    if _have_one_shape(algorithm, source_config, config):
        return
    source_shapes, shapes = (
        _shapes(source.algorithm, source_config, parent.env),
        _shapes(variant.algorithm, config, env),
    )
    for part in {**shapes, **source_shapes}:
        if shapes.get(part) != source_shapes.get(part):
            raise InputError(
                f"{place}: does not fit: {part} is {_shape(source_shapes, part)} in {source.name!r} and "
                f"{_shape(shapes, part)} here, on {env}"
            )


def _check_temperature(table: _Table, parent: Parent, variant: Variant, env: str, place: str) -> None:
    """Raise InputError unless the temperature of the variant's runs on `env` can start as the table says."""
    own, before = variant.configs[env].initial_temperature, parent.variant.configs[parent.env].initial_temperature
    if own is None or before is None:
        if table.temperature is not None:
            raise InputError(f"{place}: temperature: {variant.algorithm} has no temperature; remove this key")
        return
    if not own.learned:
        if table.temperature not in (None, "own"):
            raise InputError(
                f"{place}: temperature: has no effect on {env}, where learn_temperature = false fixes it at "
                f"{own.value:g}; remove this key"
            )
        return
    if parent.temperature != "keep":
        return
    on = variant.overrides.get("on", {}).get(env, {})
    if "temperature" in {**variant.overrides, **on}:
        raise InputError(
            f"{place}: the variant sets temperature = {own.value:g}, but starts with its parent's temperature; write "
            'temperature = "own" in start, or remove the option'
        )
    if table_of_option := variant.places.get(env, {}).get("temperature"):
        raise InputError(
            f"{table_of_option} temperature: has no effect on {variant.name!r} on {env}, which starts with its "
            'parent\'s temperature; write temperature = "own" in its start, or set this option only for the variants '
            "that use it"
        )
    if not before.learned and before.value < MIN_LEARNED_TEMPERATURE:
        raise InputError(
            f"{place}: a learned temperature cannot start at that of {parent.variant.name!r}, {before.value:g}; write "
            'temperature = "own" or a number in start'
        )


def _sizes(env: str) -> tuple[int, int]:
    described = properties(env)
    return described.observation_dim, described.action_dim


def _have_one_shape(algorithm: Algorithm, one: TrainingConfig, other: TrainingConfig) -> bool:
    """Return whether the weights of two configs certainly have the same shapes, without making them."""
    a, b = one.structure(), other.structure()
    differing = {key for key in {**a, **b} if a.get(key) != b.get(key)}
    return not differing or (algorithm.is_shipped and differing <= OF_TRAINING)


def _shapes(algorithm: str, config: TrainingConfig, env: str) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of the weights at the end of a run."""
    from sac_bench.algorithms.hyperparameters import hyperparameters_of  # torch takes seconds
    from sac_bench.algorithms.pytree import named_tensors

    learner = ALGORITHMS[algorithm].learner(config, *_sizes(env))
    tensors = named_tensors(learner.weights(learner.shape_of_state(hyperparameters_of(config))))
    return {name: tuple(leaf.shape) for name, leaf in tensors.items()}


def _shape(shapes: Mapping[str, tuple[int, ...]], part: str) -> str:
    return str(list(shapes[part])) if part in shapes else "nothing"


def _place(where: str, name: str) -> str:
    return f"{where}: [variants.{name}] start"
