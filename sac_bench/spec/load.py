"""Reads an experiment file and resolves its variants. All errors of a file are reported here, at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError, Problems, nearest
from sac_bench.spec.backends import Backends
from sac_bench.spec.choose import FIRST_SEED, Candidate, Choose, ChooseTable, Options, grids
from sac_bench.spec.claim import Claim, is_on, parse_claim
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.factorial import with_factorial
from sac_bench.spec.includes import tables
from sac_bench.spec.lines import with_lines
from sac_bench.spec.measures import LAST_SHARE
from sac_bench.spec.names import typed
from sac_bench.spec.overrides import MAX_STEPS, Overrides
from sac_bench.spec.presets import with_presets
from sac_bench.spec.seeds import REFERENCE_FACTOR, SeedRange, Seeds, parse_range
from sac_bench.spec.toml import located, validate, validate_known
from sac_bench.spec.variant import Shown, Variant, check_steps, shown_of
from sac_bench.spec.warm_start import link_parents, tables_of, with_parents

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}")
RESERVED_NAMES = ("runs", "cohorts", "environments", "record", "store.json", "index.html", "index.md")
MAX_SEED = 2**32 - 1
MAX_RUNS = 10_000


class _Sweep(Shown):
    """The values of an option, and how figures show them."""

    values: Annotated[list[Any], Field(min_length=1)]


class _File(BaseModel):
    """The tables and keys of an experiment file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    question: str = ""
    algorithm: str = "sac"
    envs: Annotated[list[str], Field(min_length=1)]
    backends: Annotated[list[str], Field(min_length=1)] | None = None
    seeds: Seeds = 3
    first_seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    reference_factor: Annotated[int, Field(ge=1, le=20)] | None = None
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    reference: str | None = None
    success_return: float | None = None
    base: dict[str, Any] = {}
    on: dict[str, dict[str, Any]] = {}
    variants: dict[str, dict[str, Any]] = {}
    sweep: dict[str, list[Any] | dict[str, Any]] = {}
    choose: ChooseTable | None = None
    claim: str = ""
    source: str = ""
    refuted_by: str = ""
    expect: str | list[str] = []
    margin: Annotated[float, Field(gt=0)] | None = None
    score_last: Annotated[float, Field(gt=0, le=1)] = LAST_SHARE
    grows: tuple[str, str] | None = Field(None, strict=False)


STAND_INS = {"question": "", "seeds": 3, "first_seed": 0, "steps": MAX_STEPS, "score_last": LAST_SHARE}
"""Values in place of invalid ones, under which no other check fails because of them."""


class Changes(TypedDict, total=False):
    """What a command changes in experiments: the arguments of `load`."""

    seeds: Seeds | None
    steps: int | None
    envs: Sequence[str]
    variants: Sequence[str]
    settings: Sequence[str]
    name: str | None
    quick: bool
    mix_devices: bool


def load(
    path: str | Path,
    *,
    seeds: Seeds | None = None,
    steps: int | None = None,
    envs: Sequence[str] = (),
    variants: Sequence[str] = (),
    settings: Sequence[str] = (),
    name: str | None = None,
    quick: bool = False,
    mix_devices: bool = False,
) -> Experiment:
    """Read an experiment file and apply the command line's options; InputError for all that is invalid, with lines."""
    given = {"seeds": seeds, "steps": steps, "envs": list(envs) or None, "name": name}
    options = {key: value for key, value in given.items() if value is not None}
    with with_lines(Path(path), quick, options):
        return _load(Path(path), options, variants, settings, quick, mix_devices)


def refuse_study(table: Mapping[str, Any], where: str) -> None:
    """Raise InputError for the tables of a study."""
    if "space" in table and "trials" in table:
        raise InputError(f"{where}: this is a study; run it with sac-bench tune {typed(where)}")


def _load(
    path: Path,
    options: Mapping[str, Any],
    variants: Sequence[str],
    settings: Sequence[str],
    quick: bool,
    mix_devices: bool,
) -> Experiment:
    """Read an experiment file, with the command line's options in place of its keys."""
    where, problems = str(path), Problems()
    table, known_envs = tables(path, quick)
    table = with_presets(table, where)
    table, factorial = with_factorial(table, where)
    table |= options
    if isinstance(options.get("seeds"), list):  # a list is for all variants
        table = {key: value for key, value in table.items() if key not in ("first_seed", "reference_factor")}
    envs, steps = options.get("envs", ()), options.get("steps")
    refuse_study(table, where)
    file = validate_known(_File, table, where, problems, STAND_INS)
    backends = Backends.checked(file.backends, where, problems)
    envs, named = backends.all_envs(envs), file.envs
    file = file.model_copy(update={"envs": backends.all_envs(named)})
    sweeps = _sweeps(file, where, problems)
    with problems.noted():
        check_name(file.name, where)
    seed_range: SeedRange | None = None
    most: int | list[int] = 1
    all_seeds: tuple[int, ...] = (0,)
    factor = 1
    with problems.noted():
        seed_range = parse_range(file.seeds, where) if isinstance(file.seeds, str) else None
        factor = _reference_factor(file, seed_range, where)
        most = seed_range.last if seed_range else file.seeds
        seed_list(most, where, file.first_seed)
        all_seeds = seed_list(most * factor if isinstance(most, int) else most, where, file.first_seed)
        _check_count(file, sweeps, most if isinstance(most, int) else len(all_seeds), all_seeds, where)
    backends.check_envs(named, where, problems)
    with problems.noted():
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
            None if envs else _names(backends, [*all_envs, *backends.all_envs(known_envs)]),
            problems,
            backends,
        )
        for factor_name, own in (factorial.options if factorial else {}).items():
            overrides.check(own, file.algorithm, f"[factorial.factors.{factor_name}]")
        recipes = _recipes(file, sweeps, overrides, problems, where)
        reference = recipes[0].name if file.reference is None else file.reference
        names = [one.name for one in recipes]
        if reference not in names:
            problems.errors.append(
                InputError(f"{where}: reference: no variant {reference!r}{nearest(reference, names)}")
            )
        unlinked = {}
        for one in recipes:
            with problems.noted():
                unlinked[one.name] = one.resolved(overrides, one.name, {})
    problems.raise_all()
    choose = _choose(file.choose, recipes, overrides, all_seeds, where) if file.choose else None
    resolved = link_parents(unlinked, file.envs, steps, where)
    claim = _claim(file, resolved, envs, backends, where)
    if variants:
        for requested in variants:
            if requested not in resolved:
                hint = nearest(requested, resolved)
                raise InputError(f"{where}: no variant {requested!r}{hint}; available: {', '.join(resolved)}")
        resolved = {n: v for n, v in resolved.items() if n in variants}
        choose = choose and choose.of(variants)
        claim = None if claim and not claim.variants() <= set(resolved) else claim  # not all of its runs are requested
        factorial = factorial if len(resolved) == len(file.variants) else None  # effects need all of its cells
        if reference not in resolved or len(resolved) == 1:
            reference = next(iter(resolved))
            if isinstance(most, int) and not seed_range:
                factor, all_seeds = 1, all_seeds[:most]
    for key in overrides.unused_settings({v.algorithm for v in resolved.values()}):
        raise InputError(f"--set {key}: none of the requested variants has this option")
    if steps is not None:  # the command line's steps apply to all
        resolved = {n: replace(v, steps=dict.fromkeys(v.steps, steps)) for n, v in resolved.items()}
        choose = choose and choose.with_steps(steps)
    if factorial and seed_range:
        raise InputError(f"{where}: seeds: must be fixed with [factorial], not a range: effects are tested once")
    for variant in resolved.values() if choose is None else choose.variants():
        check_steps(variant, where)
    loaded = Experiment(
        name=file.name,
        question=file.question or file.claim,
        envs=tuple(file.envs),
        seeds=all_seeds,
        steps=file.steps,
        reference=reference,
        variants=resolved,
        success_return=file.success_return,
        source=where,
        overrides=tuple(settings),
        margin=None if file.claim else file.margin,
        first_seed=file.first_seed,
        reference_factor=1 if claim else factor,
        backends=backends.names,
        score_last=file.score_last,
        claim=claim,
        choose=choose,
        mix_devices=mix_devices,
        factorial=factorial,
    )
    if factorial:
        _check_cells(loaded, where)
    if seed_range:
        loaded = loaded.with_range(seed_range)
    elif factor > 1:
        loaded = replace(loaded, allotment=loaded.at_look(len(all_seeds) // factor))
    if starts:
        own_runs = [(one, one.run(env, all_seeds[0])) for env in loaded.envs for one in resolved.values()]
        with located(where):
            all_runs = with_parents(own_runs)
        for variant, _ in all_runs[len(own_runs) :]:
            check_steps(variant, where)
    return loaded


def _check_cells(experiment: Experiment, where: str) -> None:
    """Raise InputError if cells of a factorial design have the same runs, which count as independent."""
    owner: dict[str, str] = {}
    for variant, run in experiment.runs():
        if (other := owner.setdefault(run.id, variant.name)) != variant.name:
            raise InputError(
                f"{where}: [factorial]: {other} and {variant.name} have the same runs; the levels of a factor must "
                "differ in an option other than steps"
            )


def check_name(name: str, where: str) -> None:
    """Raise InputError unless a name may be that of a folder of results."""
    if not NAME.fullmatch(name):
        raise InputError(f"{where}: name: {name!r} is not a plain name (letters, digits, '.', '_', '=', '+', '-')")
    if name.lower() in RESERVED_NAMES:  # some file systems ignore case
        raise InputError(f"{where}: name: {name!r} is reserved for a folder of the store; choose another")


def _names(backends: Backends, envs: Sequence[str]) -> list[str]:
    """Return the names that stand for environments, without repeats."""
    return list(dict.fromkeys(name for env in envs for name in backends.names_of(env)))


def _reference_factor(file: _File, seed_range: SeedRange | None, where: str) -> int:
    """Return how many times the variants' seeds the reference has at most: fewer in a claim, which compares any two."""
    if file.reference_factor is None:
        return REFERENCE_FACTOR if seed_range else 1
    if file.reference_factor > 1 and (file.claim or isinstance(file.seeds, list)):
        reason = "a claim compares any two variants" if file.claim else "seeds is a list, which is for all variants"
        raise InputError(f"{where}: reference_factor: must be 1, because {reason}")
    return file.reference_factor


def _check_count(file: _File, sweeps: Sweeps, most: int, seeds: Sequence[int], where: str) -> None:
    """Raise InputError for too many runs, if all variants get the most seeds, and the reference all."""
    variants = max(1, len(file.variants) + sum(len(swept.values) for _, _, swept in sweeps))
    if (count := len(file.envs) * (most * (variants - 1) + len(seeds))) > MAX_RUNS:
        runs = f"{'up to ' if isinstance(file.seeds, str) else ''}{count:,} runs"
        raise InputError(f"{where}: envs, variants, sweep and seeds make {runs}; the maximum is {MAX_RUNS:,}")


def _claim(
    file: _File, variants: Mapping[str, Variant], envs: Sequence[str], backends: Backends, where: str
) -> Claim | None:
    """Return the file's claim, if any; of a claim about other environments than the command line's `envs`, the rest."""
    expect = backends.expectations([file.expect] if isinstance(file.expect, str) else file.expect, file.envs)
    kept = [text for text in expect if not envs or is_on(text, envs)]
    if expect and not kept:
        return None
    pair = backends.pair(file.grows, file.envs, where)
    grows = pair if not envs or set(pair or ()) <= set(envs) else None
    with located(where):
        claim = parse_claim(file.claim, file.source, file.refuted_by, kept, file.margin, grows, variants, file.envs)
        _check_sampled(claim, variants)
        return claim


def _check_sampled(claim: Claim | None, variants: Mapping[str, Variant]) -> None:
    """Raise InputError unless every evaluation of variants that are compared by sampled actions plays them."""
    for side in (side for expected in (claim.expect if claim else ()) for side in (expected.a, expected.b)):
        if side.measure == "sampled" and ALGORITHMS[variants[side.variant].algorithm].scored_by != "sample":
            for env, config in variants[side.variant].configs.items():
                if config.eval_sampled_every != 1:
                    raise InputError(
                        f"expect: {side}: requires sampled actions in every evaluation: set eval_sampled_every = 1 for "
                        f"{side.variant}, not {config.eval_sampled_every} ({env})"
                    )


def _reference(file: _File) -> str:
    """Return the name of the reference: the key, or else the first variant."""
    return next(iter(file.variants), "") if file.reference is None else file.reference


Sweeps = Sequence[tuple[str, str, _Sweep]]
"""(variant, option, sweep) of all sweeps."""


def _sweeps(file: _File, where: str, problems: Problems) -> Sweeps:
    """Return the sweeps of [sweep], which is of the reference, and of all [sweep.VARIANT].

    The values of an option are a list, or a table that also has a label or group.
    """
    options = {name for of in ALGORITHMS.values() for name in of.config.model_fields} - file.variants.keys()
    tables: dict[str, dict[str, Any]] = {
        key: table
        for key, table in file.sweep.items()
        if isinstance(table, dict) and key not in options and table.keys().isdisjoint(_Sweep.model_fields)
    }
    own = {key: given for key, given in file.sweep.items() if key not in tables}
    sweeps = []
    for base, table in {"": own, **tables}.items():
        for key, given in table.items():
            place = ".".join(filter(None, ("sweep", base, key)))
            with problems.noted():
                swept = given if isinstance(given, dict) else {"values": given}
                sweeps.append((base or _reference(file), key, validate(_Sweep, swept, f"{where}: [{place}]")))
    titles = [(base, swept.label or key) for base, key, swept in sweeps]
    for i, (base, key, _) in enumerate(sweeps):
        if titles[i] in titles[:i]:
            place = ".".join(filter(None, ("sweep", base if key in tables.get(base, ()) else "", key)))
            problems.errors.append(InputError(f"{where}: [{place}] label: {titles[i][1]!r} is used for two sweeps"))
    return sweeps


@dataclass(frozen=True)
class _Recipe:
    """The tables that make a variant: its own or, for a point of a sweep, those of `base`, and option and value."""

    name: str
    table: str
    changes: dict[str, Any]
    sweep: tuple[str, Any] | None = None
    base: str | None = None
    sweep_label: str = ""
    shown: Shown = field(default_factory=Shown)

    def resolved(self, overrides: Overrides, name: str, options: Options, by: str = "[sweep]") -> Variant:
        """Return the variant under a name, with more options that take precedence."""
        point = dict([self.sweep]) if self.sweep else {}
        made = overrides.resolve(self.table, self.changes, point | options, by)
        swept = None
        if self.sweep and isinstance(self.sweep[1], (int, float)) and not isinstance(self.sweep[1], bool):
            swept = (self.sweep[0], float(self.sweep[1]))
        return Variant(
            name,
            made.algorithm,
            made.configs,
            made.steps,
            made.changes,
            swept,
            self.base,
            self.sweep_label,
            shown=self.shown,
            places=made.places,
        )


def _recipes(file: _File, sweeps: Sweeps, overrides: Overrides, problems: Problems, where: str) -> list[_Recipe]:
    """Return the recipes of the variants of [variants] and [sweep], or of one variant of [base] alone."""
    options = {
        name: {key: value for key, value in changes.items() if key not in Shown.model_fields}
        for name, changes in file.variants.items()
    }
    shown = dict.fromkeys(file.variants, Shown())
    for name, changes in file.variants.items():
        with problems.noted():
            shown[name] = validate(Shown, shown_of(changes), f"{where}: [variants.{name}]")
    recipes = [_Recipe(name, f"[variants.{name}]", options[name], shown=shown[name]) for name in options]
    for base, key, swept in sweeps:
        is_reference = base == _reference(file)
        place = "[sweep]" if is_reference else f"[sweep.{base}]"
        if not is_reference and base not in file.variants:
            problems.errors.append(InputError(f"{where}: {place}: no variant {base!r}{nearest(base, file.variants)}"))
            continue
        table, changes, own = f"[variants.{base}]", options.get(base, {}), shown.get(base, Shown())
        known_before = len(problems.errors)
        with problems.noted():
            overrides.check([key], overrides.algorithm(changes, table), place)
        if len(problems.errors) > known_before:
            continue
        prefix, of = ("", None) if is_reference else (f"{base}+", base)
        recipes += [
            _Recipe(
                f"{prefix}{key}={_label(value)}",
                table,
                changes,
                (key, value),
                of,
                swept.label,
                swept.of_point(key, _label(value), "" if is_reference else base, Shown() if is_reference else own),
            )
            for value in swept.values
        ]
    recipes = recipes or [_Recipe(file.algorithm, "[base]", {})]
    names, labels = set[str](), set[str]()
    for one in recipes:
        place, label = "[sweep]" if one.sweep else one.table, one.shown.label or one.name
        if not NAME.fullmatch(one.name):
            problems.errors.append(InputError(f"{where}: {place}: {one.name!r} is not a plain name"))
        if one.name in names:
            problems.errors.append(InputError(f"{where}: {place}: the variant {one.name!r} is duplicated"))
        elif label in labels:
            problems.errors.append(InputError(f"{where}: {place} label: {label!r} is used for two variants"))
        names.add(one.name)
        labels.add(label)
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
            made.append(Candidate(replace(variant, swept=None, sweep_of=None, shown=_shown(one, options)), options))
        candidates[one.name] = tuple(made)
    return Choose(chosen_by, candidates, table.by)


def _shown(recipe: _Recipe, options: Options) -> Shown:
    """Return how a candidate of a variant is shown: below the variant, and with its options if that has a label."""
    named = [recipe.shown.label, *(f"{key} = {_label(value)}" for key, value in options.items())]
    label = ", ".join(named) if recipe.shown.label else ""
    return Shown.model_construct(label=label, group=recipe.shown.label or recipe.name)


def _label(value: Any) -> str:
    """Return a swept value as it appears in the variant's name."""
    if isinstance(value, list):
        return "x".join(map(_label, value))
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def seed_list(seeds: Seeds, where: str, first: int = 0) -> tuple[int, ...]:
    """Return the seeds of a file: a list, or a number n for first, first + 1, ..., first + n - 1.

    Raises InputError for others.
    """
    if isinstance(seeds, str):
        raise InputError(f"{where}: seeds: must be a number or a list here, not {seeds!r}")
    if isinstance(seeds, int):
        if not 1 <= seeds <= MAX_RUNS:
            raise InputError(f"{where}: seeds: must be between 1 and {MAX_RUNS}, not {seeds}")
        seeds = list(range(first, first + seeds))
    elif first:
        raise InputError(f"{where}: first_seed: requires a number or a range of seeds, not a list")
    if not seeds:
        raise InputError(f"{where}: seeds: the list is empty")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise InputError(f"{where}: seeds: {seed} must be between 0 and {MAX_SEED}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: seeds: a seed is duplicated")
    return tuple(seeds)
