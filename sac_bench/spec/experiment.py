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

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Return every (variant, run), ordered by environment, variant, seed. Variants may share a run."""
        return [
            (variant, variant.run(env, seed))
            for env in self.envs
            for variant in self.variants.values()
            for seed in self.seeds
        ]


class Plannable(Protocol):
    """Anything that lists runs to plan: an experiment, or several."""

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

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Return every (variant, run) of all experiments."""
        return list(chain.from_iterable(experiment.runs() for experiment in self.experiments))


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
    sweep: dict[str, list[Any]] = {}
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
    count = len(file.envs) * len(seed_numbers) * max(1, len(file.variants) + sum(map(len, file.sweep.values())))
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
    resolved = link_parents(_variants(file, overrides, where), file.envs, steps, where)
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
        claim = None if claim and not claim.variants() <= set(resolved) else claim  # not all of its runs are requested
        reference = reference if reference in resolved else next(iter(resolved))
    for key in overrides.unused_settings({v.algorithm for v in resolved.values()}):
        raise InputError(f"--set {key}: none of the requested variants has this option")
    if steps is not None:  # the command line's steps apply to all
        resolved = {n: replace(v, steps=dict.fromkeys(v.steps, steps)) for n, v in resolved.items()}
    for variant in resolved.values():
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
    )
    if starts:
        own_runs = replace(loaded, seeds=seed_numbers[:1]).runs()
        with located(where):
            all_runs = with_parents(own_runs)
        for variant, _ in all_runs[len(own_runs) :]:
            check_steps(variant, where)
    return loaded


def _variants(file: _File, overrides: Overrides, where: str) -> dict[str, Variant]:
    """Return the variants of [variants] and [sweep], or one of [base] alone."""
    first = next(iter(file.variants), "") if file.reference is None else file.reference
    reference = file.variants.get(first, {})
    variants = {}

    def add(name: str, table: str, changes: dict[str, Any], sweep: tuple[str, Any] | None = None) -> None:
        if not NAME.fullmatch(name):
            raise InputError(f"{where}: {table}: {name!r} is not a plain name")
        if name in variants:
            raise InputError(f"{where}: {table}: the variant {name!r} is duplicated")
        swept = dict([sweep]) if sweep else None
        resolved = overrides.resolve(f"[variants.{first}]" if sweep else table, changes, swept)
        point = None
        if sweep and isinstance(sweep[1], (int, float)) and not isinstance(sweep[1], bool):
            point = (sweep[0], float(sweep[1]))
        variants[name] = Variant(name, resolved.algorithm, resolved.configs, resolved.steps, resolved.changes, point)

    for name, changes in file.variants.items():
        add(name, f"[variants.{name}]", changes)
    swept_algorithm = overrides.algorithm(reference, f"[variants.{first}]")
    for key, values in file.sweep.items():
        overrides.check([key], swept_algorithm, "[sweep]")
        for value in values:
            add(f"{key}={_label(value)}", "[sweep]", reference, (key, value))
    if not variants:
        add(file.algorithm, "[base]", {})
    return variants


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
