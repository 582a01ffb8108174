"""From a TOML file to runs: every error of the input is found here, and told in one line.

An experiment is a list of variants; a variant is a name and what differs from the algorithm's defaults; a run
is one variant's resolved config on one environment with one seed. A run's id is a hash of what its numbers
depend on: not of names, not of the experiment, not of the number of steps.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import ReplayConfig, require_multiple
from sac_bench.errors import InputError, nearest
from sac_bench.training.envs import describe

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}")
RESERVED = ("runs", "cohorts", "environments", "record", "store.json")
MAX_SEED = 2**32 - 1
MAX_STEPS = 10**12
MAX_RUNS = 10_000
MAX_BYTES = 2**17  # of a file: every seed of 10,000 written out fits


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that its numbers depend on."""

    algorithm: str
    config: ReplayConfig
    env: str
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """All of it, the whole config included, as JSON holds it."""
        return self.identity() | {"config": self.config.model_dump(mode="json")}

    def identity(self) -> dict[str, Any]:
        """What the id is a hash of. Of the config only what differs from the defaults: a new option leaves old
        ids as they were, and a changed default wants new `semantics`."""
        return {
            "algorithm": self.algorithm,
            "semantics": ALGORITHMS[self.algorithm].semantics,
            "env": self.env,
            "backend": describe(self.env).backend,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json", exclude_defaults=True),
        }

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of `identity`."""
        return digest(self.identity())

    def structure(self) -> str:
        """Runs with equal structure can train as one program."""
        described = {"algorithm": self.algorithm, "env": self.env, "config": self.config.structure()}
        return json.dumps(described, sort_keys=True)

    @staticmethod
    def from_dict(spec: dict[str, Any]) -> RunSpec:
        """The inverse of `as_dict`, for what a store holds."""
        config = ALGORITHMS[spec["algorithm"]].config.model_validate_json(json.dumps(spec["config"]))
        return RunSpec(spec["algorithm"], config, spec["env"], spec["seed"])


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that name a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Variant:
    """A name, a resolved config, what it changes, how long it trains, and the sweep it is a point of."""

    name: str
    config: ReplayConfig
    overrides: dict[str, Any]
    steps: int
    swept: tuple[str, float] | None = None


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it."""

    name: str
    question: str
    algorithm: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    reference: str
    variants: dict[str, Variant]
    success_return: float | None = None
    source: str = ""
    overrides: tuple[str, ...] = field(default=())

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Every (variant, run), in the order of environments, variants, seeds. Variants may share a run."""
        return [
            (variant, RunSpec(self.algorithm, variant.config, env, seed))
            for env in self.envs
            for variant in self.variants.values()
            for seed in self.seeds
        ]


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
    variants: dict[str, dict[str, Any]] = {}
    sweep: dict[str, list[Any]] = {}


def load(
    path: str | Path,
    *,
    seeds: int | None = None,
    steps: int | None = None,
    envs: Sequence[str] = (),
    variants: Sequence[str] = (),
    settings: Sequence[str] = (),
    name: str | None = None,
) -> Experiment:
    """Read an experiment file and apply the command line's overrides; InputError for anything amiss."""
    path = Path(path)
    where = str(path)
    table = dict(_read(path))
    asked = {"seeds": seeds, "steps": steps, "envs": list(envs) or None, "name": name}
    table |= {key: value for key, value in asked.items() if value is not None}
    file = _validate(_File, table, where)
    if file.algorithm not in ALGORITHMS:
        raise InputError(
            f"{where}: algorithm: unknown algorithm {file.algorithm!r}{nearest(file.algorithm, ALGORITHMS)}"
        )
    if not NAME.fullmatch(file.name):
        raise InputError(f"{where}: name: {file.name!r} is not a plain name (letters, digits, '.', '_', '=', '+', '-')")
    if file.name in RESERVED:
        raise InputError(f"{where}: name: {file.name!r} is a folder of the store's own; choose another")
    chosen = _seeds(file.seeds, where)
    count = len(file.envs) * len(chosen) * max(1, len(file.variants) + sum(map(len, file.sweep.values())))
    if count > MAX_RUNS:
        raise InputError(f"{where}: envs, variants, sweep and seeds make {count:,} runs; at most {MAX_RUNS:,}")
    options = ALGORITHMS[file.algorithm].config.model_fields
    base = file.base | dict(_setting(text, options) for text in settings)
    resolved = _variants(file, base, where)
    reference = next(iter(resolved)) if file.reference is None else file.reference
    if reference not in resolved:
        raise InputError(f"{where}: reference: no variant {reference!r}{nearest(reference, resolved)}")
    if variants:
        for wanted in variants:
            if wanted not in resolved:
                raise InputError(f"{where}: no variant {wanted!r}{nearest(wanted, resolved)}; "
                                 f"it has {', '.join(resolved)}")  # fmt: skip
        resolved = {n: v for n, v in resolved.items() if n in variants}
        reference = reference if reference in resolved else next(iter(resolved))
    if steps is not None:  # the command line's steps are everyone's
        resolved = {n: replace(v, steps=steps) for n, v in resolved.items()}
    for variant in resolved.values():
        _check_steps(variant, where)
    for i, env in enumerate(file.envs):
        with located(f"{where}: envs"):
            describe(env)
        if env in file.envs[:i]:
            raise InputError(f"{where}: envs: {env!r} is there twice")
    return Experiment(
        name=file.name,
        question=file.question,
        algorithm=file.algorithm,
        envs=tuple(file.envs),
        seeds=chosen,
        steps=file.steps,
        reference=reference,
        variants=resolved,
        success_return=file.success_return,
        source=where,
        overrides=tuple(settings),
    )


@contextmanager
def located(where: str) -> Iterator[None]:
    """An InputError from within says where the cause is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)  # what is no experiment may be endless
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path()
        hint = nearest(path.name, [p.name for p in folder.glob("*.toml")])
        raise InputError(f"{path}: no such file{hint}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: too large for an experiment file: more than {MAX_BYTES // 1024} KiB")
    if not data.strip():
        raise InputError(f"{path}: the file is empty; it wants at least name, envs, steps and [variants.NAME]")
    try:
        return _parse(data.decode())
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def _parse(text: str) -> dict[str, Any]:
    """TOML; ValueError for what is none."""
    try:
        table = tomllib.loads(text)
        _check_integers(table)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return table


def _check_integers(value: Any, key: str = "") -> None:
    """TOML's integers have 64 bits, but `tomllib` reads longer ones, which no float or tensor holds."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{key}: an integer of more than 64 bits")
    for name, part in value.items() if isinstance(value, dict) else ():
        _check_integers(part, f"{key}.{name}" if key else name)
    for part in value if isinstance(value, list) else ():
        _check_integers(part, key)


def _setting(text: str, known: Collection[str]) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not key:
        raise InputError(f"--set {text}: wants KEY=VALUE")
    if key not in known:
        raise InputError(f"--set {key}: unknown key{nearest(key, known)}")
    try:
        table = _parse(f"value = {value}")
    except ValueError:
        table = {}
    return key, table["value"] if list(table) == ["value"] else value.strip()  # a bare word is a string


def _variants(file: _File, base: dict[str, Any], where: str) -> dict[str, Variant]:
    config_type = ALGORITHMS[file.algorithm].config
    known = config_type.model_fields
    for key in base:
        if key not in known:
            raise InputError(f"{where}: [base] {key}: unknown key{nearest(key, known)}")
    reference = file.variants.get(next(iter(file.variants), "") if file.reference is None else file.reference, {})
    variants = {}

    def add(name: str, table: str, overrides: dict[str, Any], swept: tuple[str, float] | None) -> None:
        if not NAME.fullmatch(name):
            raise InputError(f"{where}: {table}: {name!r} is not a plain name")
        if name in variants:
            raise InputError(f"{where}: {table}: there are two variants named {name!r}")
        overrides = dict(overrides)
        steps = overrides.pop("steps", file.steps)
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MAX_STEPS:
            raise InputError(f"{where}: {table} steps: wants a whole number from 1 to {MAX_STEPS:,}, not {steps!r}")
        config = _validate(config_type, base | overrides, f"{where}: {table}")
        variants[name] = Variant(name, config, overrides, steps, swept)

    for name, overrides in file.variants.items():
        add(name, f"[variants.{name}]", overrides, None)
    for key, values in file.sweep.items():
        if key not in known:
            raise InputError(f"{where}: [sweep] {key}: unknown key{nearest(key, known)}")
        for value in values:
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            swept = (key, float(value)) if numeric else None
            add(f"{key}={_label(value)}", "[sweep]", reference | {key: value}, swept)
    if not variants:
        add(file.algorithm, "[base]", {}, None)
    return variants


def _label(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(_label, value))
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_steps(variant: Variant, where: str) -> None:
    config, place = variant.config, f"{where}: variant {variant.name!r}"
    try:
        require_multiple("steps", variant.steps, config.num_envs)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    if config.updates_due(variant.steps) < 1:
        raise InputError(
            f"{place}: steps = {variant.steps} allows no update: learning_starts = {config.learning_starts}, "
            f"utd = {config.utd:g}; wants more steps or an earlier start (--set learning_starts=N)"
        )


def _seeds(seeds: int | list[int], where: str) -> tuple[int, ...]:
    if isinstance(seeds, int):
        if not 1 <= seeds <= MAX_RUNS:
            raise InputError(f"{where}: seeds: wants 1 to {MAX_RUNS} of them, not {seeds}")
        return tuple(range(seeds))
    if not seeds:
        raise InputError(f"{where}: seeds: the list is empty")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise InputError(f"{where}: seeds: {seed} is not between 0 and {MAX_SEED}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: seeds: a seed is there twice")
    return tuple(seeds)


def _key(location: Sequence[Any], values: Any) -> str:
    """The dotted key that pydantic's location leads to; beyond the keys of the input it names types."""
    parts: list[str] = []
    for part in location:
        if parts and not (isinstance(values, dict) and part in values):
            break
        parts.append(str(part))
        values = values.get(part) if isinstance(values, dict) else None
    return ".".join(parts)


def _validate(model: type[Any], values: dict[str, Any], where: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = _key(first["loc"], values)
        if first["type"] == "extra_forbidden":
            raise InputError(f"{where}: {key}: unknown key{nearest(key, model.model_fields)}") from None
        if first["type"] == "missing":
            raise InputError(f"{where}: {key}: is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        given = f", not {first['input']!r}" if key and first["type"] != "value_error" else ""
        raise InputError(f"{where}: {key + ': ' if key else ''}{message}{given}") from None
