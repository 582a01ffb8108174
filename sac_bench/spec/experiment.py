"""Reads an experiment file and resolves it to runs. Every input error is reported here, in one line.

An experiment is a list of variants. A variant is a name, an algorithm and the options that differ from its defaults. A
run is one variant's resolved config (spec/overrides.py) on one environment with one seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from sac_bench.envs.checking import check
from sac_bench.errors import InputError, nearest
from sac_bench.spec.choose import FIRST_SEED, Candidate, Choice, Choose, ChooseTable, Options, grids
from sac_bench.spec.claim import Claim, parse_claim
from sac_bench.spec.includes import tables
from sac_bench.spec.overrides import MAX_STEPS, Overrides
from sac_bench.spec.run import RunSpec
from sac_bench.spec.toml import located, validate
from sac_bench.spec.variant import Variant, check_steps
from sac_bench.spec.warm_start import link_parents, tables_of, with_parents

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}")
RESERVED = ("runs", "cohorts", "environments", "record", "store.json", "index.html", "index.md")
MAX_SEED = 2**32 - 1
MAX_RUNS = 10_000


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it."""

    name: str
    question: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    reference: str
    variants: dict[str, Variant]
    success_return: float | None = None
    source: str = ""
    overrides: tuple[str, ...] = field(default=())
    claim: Claim | None = None
    choose: Choose | None = None
    """What must be chosen before there are runs (`selection`, then `with_choices`)."""
    choices: tuple[Choice, ...] = ()
    mix_devices: bool = False
    """Whether runs of another kind of device than the requested one are accepted."""

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Return every (variant, run), ordered by environment, variant, seed. Variants may share a run."""
        assert self.choose is None, f"{self.name}: the options of its variants are not chosen yet"
        return [
            (variant, variant.run(env, seed))
            for env in self.envs
            for variant in self.variants.values()
            for seed in self.seeds
        ]

    def selection(self) -> Experiment | None:
        """Return the experiment that trains all candidates on the selection seeds, or None if nothing is chosen."""
        if self.choose is None:
            return None
        candidates = {variant.name: variant for variant in self.choose.variants()}
        return replace(
            self,
            name=f"{self.name}-choice",
            question=f"Which options suit each variant of {self.name} best?",
            seeds=self.choose.seeds,
            reference=next(iter(candidates)),
            variants=candidates,
            claim=None,
            choose=None,
        )

    def with_choices(self, choices: Sequence[Choice]) -> Experiment:
        """Return the experiment whose variants have the chosen options."""
        assert self.choose is not None
        variants = {}
        for name, variant in self.variants.items():
            own = {choice.env: choice.options for choice in choices if choice.variant == name}
            by_env = {
                env: next(one.variant for one in self.choose.candidates[name] if one.options == options)
                for env, options in own.items()
            }
            configs = {env: of_env.configs[env] for env, of_env in by_env.items()}
            equal = all(options == own[self.envs[0]] for options in own.values())
            on = {env: {**variant.overrides.get("on", {}).get(env, {}), **options} for env, options in own.items()}
            changes = own[self.envs[0]] if equal else {"on": on}
            variants[name] = replace(variant, configs=configs, overrides=variant.overrides | changes)
        return replace(self, variants=variants, choose=None, choices=tuple(choices))


class Plannable(Protocol):
    """Anything that lists runs to plan: an experiment, or several."""

    @property
    def mix_devices(self) -> bool:
        """Whether runs of another kind of device than the requested one are accepted."""
        ...

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Return every run with its variant, whose `steps` say how far to train it."""
        ...


@dataclass(frozen=True)
class ExperimentGroup:
    """Experiments that are trained together; runs that they share are trained once."""

    experiments: tuple[Experiment, ...]

    @property
    def source(self) -> str:
        """The file if there is one experiment, or else how many experiments there are."""
        sources = [experiment.source for experiment in self.experiments]
        return sources[0] if len(sources) == 1 else f"{len(sources)} experiments"

    @property
    def mix_devices(self) -> bool:
        """Whether all of them accept runs of another kind of device."""
        return all(experiment.mix_devices for experiment in self.experiments)

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Return every (variant, run) of all experiments."""
        return list(chain.from_iterable(experiment.runs() for experiment in self.experiments))

    def selection(self) -> ExperimentGroup | None:
        """Return the experiments that train the candidates of [choose], or None if nothing is chosen."""
        selections = tuple(one for experiment in self.experiments if (one := experiment.selection()))
        return ExperimentGroup(selections) if selections else None


class _File(BaseModel):
    """The tables and keys of an experiment file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    question: str = ""
    algorithm: str = "sac"
    envs: Annotated[list[str], Field(min_length=1)]
    seeds: int | list[int] = 3
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    reference: str | None = None
    success_return: float | None = None
    base: dict[str, Any] = {}
    on: dict[str, dict[str, Any]] = {}
    variants: dict[str, dict[str, Any]] = {}
    sweep: dict[str, list[Any] | dict[str, list[Any]]] = {}
    choose: ChooseTable | None = None
    claim: str = ""
    source: str = ""
    refuted_by: str = ""
    expect: str | list[str] = []
    margin: Annotated[float, Field(gt=0)] | None = None
    grows: tuple[str, str] | None = Field(None, strict=False)


def load(
    path: str | Path,
    *,
    seeds: int | None = None,
    steps: int | None = None,
    envs: Sequence[str] = (),
    variants: Sequence[str] = (),
    settings: Sequence[str] = (),
    name: str | None = None,
    quick: bool = False,
    mix_devices: bool = False,
) -> Experiment:
    """Read an experiment file and apply the command line's options; InputError for invalid input."""
    path = Path(path)
    where = str(path)
    table, known_envs = tables(path, quick)
    options = {"seeds": seeds, "steps": steps, "envs": list(envs) or None, "name": name}
    table |= {key: value for key, value in options.items() if value is not None}
    if "space" in table and "trials" in table:
        raise InputError(f"{where}: this is a study; run it with sac-bench tune {where}")
    file = validate(_File, table, where)
    if not NAME.fullmatch(file.name):
        raise InputError(f"{where}: name: {file.name!r} is not a plain name (letters, digits, '.', '_', '=', '+', '-')")
    if file.name.lower() in RESERVED:  # some file systems ignore case
        raise InputError(f"{where}: name: {file.name!r} is reserved for a folder of the store; choose another")
    seed_numbers = seed_list(file.seeds, where)
    lists = [values for _, _, values in _sweeps(file)]
    count = len(file.envs) * len(seed_numbers) * max(1, len(file.variants) + sum(map(len, lists)))
    if count > MAX_RUNS:
        raise InputError(f"{where}: envs, variants, sweep and seeds make {count:,} runs; the maximum is {MAX_RUNS:,}")
    for i, env in enumerate(file.envs):
        with located(f"{where}: envs"):
            check(env)
        if env in file.envs[:i]:
            raise InputError(f"{where}: envs: {env!r} is duplicated")
    starts = tables_of(file.variants, where)
    all_envs = list(dict.fromkeys([*file.envs, *(table.env for table in starts.values())]))
    overrides = Overrides(
        where,
        file.algorithm,
        file.steps,
        file.base,
        file.on,
        settings,
        file.variants,
        all_envs,
        None if envs else [*all_envs, *known_envs],
    )
    recipes = _recipes(file, overrides, where)
    unlinked = {one.name: one.resolved(overrides, one.name, {}) for one in recipes}
    choose = _choose(file.choose, recipes, overrides, seed_numbers, where) if file.choose else None
    resolved = link_parents(unlinked, file.envs, steps, where)
    grows = file.grows if not envs or set(file.grows or ()) <= set(envs) else None  # else it is about other envs
    with located(where):
        claim = parse_claim(
            file.claim, file.source, file.refuted_by, file.expect, file.margin, grows, resolved, file.envs
        )
    reference = next(iter(resolved)) if file.reference is None else file.reference
    if reference not in resolved:
        raise InputError(f"{where}: reference: no variant {reference!r}{nearest(reference, resolved)}")
    if variants:
        for requested in variants:
            if requested not in resolved:
                hint = nearest(requested, resolved)
                raise InputError(f"{where}: no variant {requested!r}{hint}; available: {', '.join(resolved)}")
        resolved = {n: v for n, v in resolved.items() if n in variants}
        choose = choose and choose.of(variants)
        claim = None if claim and not claim.variants() <= set(resolved) else claim  # not all of its runs are requested
        reference = reference if reference in resolved else next(iter(resolved))
    for key in overrides.unused_settings({v.algorithm for v in resolved.values()}):
        raise InputError(f"--set {key}: none of the requested variants has this option")
    if steps is not None:  # the command line's steps apply to all
        resolved = {n: replace(v, steps=dict.fromkeys(v.steps, steps)) for n, v in resolved.items()}
        choose = choose and choose.with_steps(steps)
    for variant in resolved.values() if choose is None else choose.variants():
        check_steps(variant, where)
    loaded = Experiment(
        name=file.name,
        question=file.question or file.claim,
        envs=tuple(file.envs),
        seeds=seed_numbers,
        steps=file.steps,
        reference=reference,
        variants=resolved,
        success_return=file.success_return,
        source=where,
        overrides=tuple(settings),
        claim=claim,
        choose=choose,
        mix_devices=mix_devices,
    )
    if starts:
        own_runs = replace(loaded, seeds=seed_numbers[:1]).runs()
        with located(where):
            all_runs = with_parents(own_runs)
        for variant, _ in all_runs[len(own_runs) :]:
            check_steps(variant, where)
    return loaded


def _reference(file: _File) -> str:
    """Return the name of the reference: the key, or else the first variant."""
    return next(iter(file.variants), "") if file.reference is None else file.reference


def _sweeps(file: _File) -> list[tuple[str, str, list[Any]]]:
    """Return (variant, option, values) of [sweep], which is of the reference, and of all [sweep.VARIANT]."""
    tables = {key: values for key, values in file.sweep.items() if isinstance(values, dict)}
    own = {key: values for key, values in file.sweep.items() if isinstance(values, list)}
    return [
        (base, key, values)
        for base, table in {_reference(file): own, **tables}.items()
        for key, values in table.items()
    ]


@dataclass(frozen=True)
class _Recipe:
    """The tables that make a variant: its own or, for a point of a sweep, those of `base`, and option and value."""

    name: str
    table: str
    changes: dict[str, Any]
    sweep: tuple[str, Any] | None = None
    base: str | None = None

    def resolved(self, overrides: Overrides, name: str, options: Options, by: str = "[sweep]") -> Variant:
        """Return the variant under a name, with more options that take precedence."""
        point = dict([self.sweep]) if self.sweep else {}
        made = overrides.resolve(self.table, self.changes, point | options, by)
        swept = None
        if self.sweep and isinstance(self.sweep[1], (int, float)) and not isinstance(self.sweep[1], bool):
            swept = (self.sweep[0], float(self.sweep[1]))
        return Variant(name, made.algorithm, made.configs, made.steps, made.changes, swept, self.base)


def _recipes(file: _File, overrides: Overrides, where: str) -> list[_Recipe]:
    """Return the recipes of the variants of [variants] and [sweep], or of one variant of [base] alone."""
    recipes = [_Recipe(name, f"[variants.{name}]", changes) for name, changes in file.variants.items()]
    for base, key, values in _sweeps(file):
        is_reference = base == _reference(file)
        place = "[sweep]" if is_reference else f"[sweep.{base}]"
        if not is_reference and base not in file.variants:
            raise InputError(f"{where}: {place}: no variant {base!r}{nearest(base, file.variants)}")
        table, changes = f"[variants.{base}]", file.variants.get(base, {})
        overrides.check([key], overrides.algorithm(changes, table), place)
        prefix, of = ("", None) if is_reference else (f"{base}+", base)
        recipes += [_Recipe(f"{prefix}{key}={_label(value)}", table, changes, (key, value), of) for value in values]
    recipes = recipes or [_Recipe(file.algorithm, "[base]", {})]
    names = [one.name for one in recipes]
    for i, one in enumerate(recipes):
        place = "[sweep]" if one.sweep else one.table
        if not NAME.fullmatch(one.name):
            raise InputError(f"{where}: {place}: {one.name!r} is not a plain name")
        if one.name in names[:i]:
            raise InputError(f"{where}: {place}: the variant {one.name!r} is duplicated")
    return recipes


def _choose(
    table: ChooseTable, recipes: Sequence[_Recipe], overrides: Overrides, seeds: Sequence[int], where: str
) -> Choose:
    """Return the candidates of all variants, given the seeds of the comparison."""
    if isinstance(table.seeds, int):
        chosen_by = tuple(FIRST_SEED + seed for seed in seed_list(table.seeds, f"{where}: [choose]"))
    else:
        chosen_by = seed_list(table.seeds, f"{where}: [choose]")
    if common := sorted(set(chosen_by) & set(seeds)):
        raise InputError(f"{where}: [choose] seeds: {common[0]} is also a seed of the comparison; use other seeds")
    candidates = {}
    combined = grids(table, [one.name for one in recipes], where)
    for one in recipes:
        if "start" in one.changes:
            raise InputError(f"{where}: [choose]: {one.name!r} has a warm start, which [choose] does not support")
        own = f"[choose.variants.{one.name}]" if one.name in table.variants else "[choose.base]"
        made = []
        for options in combined[one.name]:
            name = "+".join([one.name, *(f"{key}={_label(value)}" for key, value in options.items())])
            if not NAME.fullmatch(name):
                raise InputError(f"{where}: {own}: {name!r} is not a plain name")
            variant = one.resolved(overrides, name, options, own)
            made.append(Candidate(replace(variant, swept=None, sweep_of=None), options))
        candidates[one.name] = tuple(made)
    return Choose(chosen_by, candidates)


def _label(value: Any) -> str:
    """Return a swept value as it appears in the variant's name."""
    if isinstance(value, list):
        return "x".join(map(_label, value))
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def seed_list(seeds: int | list[int], where: str) -> tuple[int, ...]:
    """Return the seeds of a file, which gives a list, or a number n for 0 to n - 1; InputError for invalid ones."""
    if isinstance(seeds, int):
        if not 1 <= seeds <= MAX_RUNS:
            raise InputError(f"{where}: seeds: must be between 1 and {MAX_RUNS}, not {seeds}")
        return tuple(range(seeds))
    if not seeds:
        raise InputError(f"{where}: seeds: the list is empty")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise InputError(f"{where}: seeds: {seed} must be between 0 and {MAX_SEED}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: seeds: a seed is duplicated")
    return tuple(seeds)
