"""Reads a study's TOML file. Every input error is reported here, before anything is trained.

A study is an experiment whose variants are not known yet. A trial's settings take precedence over [base],
[base.ALGORITHM], [on.ENV] and the variant that the search starts from. They are resolved and validated like a variant's
overrides (spec/overrides.py).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sac_bench.errors import InputError, Problems, nearest
from sac_bench.spec import load as experiments
from sac_bench.spec.backends import Backends
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.includes import tables
from sac_bench.spec.lines import with_lines
from sac_bench.spec.load import check_name
from sac_bench.spec.names import typed
from sac_bench.spec.overrides import MAX_STEPS, Overrides, Resolved
from sac_bench.spec.run import digest
from sac_bench.spec.seeds import Seeds
from sac_bench.spec.toml import located, merged, read, validate, validate_known
from sac_bench.spec.variant import Variant, check_steps
from sac_bench.tuning.space import Choice, Dimension, Params, parse, probes

EVALUATION_OPTIONS = ("eval_every", "eval_episodes", "eval_sampled_every")
"""Options that define how a run is evaluated. A search over them would compare trials by different measures."""
DEFAULT_VARIANT = "default"
HELD_OUT_FROM = 1000
"""First held-out seed if a file gives only their number."""
Sampler = Literal["tpe", "cma-es", "random"]
Pruner = Literal["hyperband", "successive-halving", "none"]


class _HeldOut(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    top: Annotated[int, Field(ge=1, le=100)] = 3
    seeds: Seeds = 5


class _File(BaseModel):
    """The tables and keys of a study file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    question: str = ""
    experiment: str | None = None
    variant: str | None = None
    algorithm: str | None = None
    envs: Annotated[list[str], Field(min_length=1)] | None = None
    seeds: Seeds = 2
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    rungs: Annotated[list[int], Field(max_length=20)] = []
    trials: Annotated[int, Field(ge=1, le=10_000)]
    batch: Annotated[int, Field(ge=1, le=256)] = 8
    sampler: Sampler = "tpe"
    sampler_seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    pruner: Pruner | None = None
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    objective: Literal["final", "area"] = "final"
    aggregate: Literal["iqm", "lower-quantile"] = "iqm"
    quantile: Annotated[float, Field(gt=0, lt=0.5)] = 0.25
    scale: dict[str, list[float]] = {}
    base: dict[str, Any] = {}
    on: dict[str, dict[str, Any]] = {}
    space: dict[str, Any]
    held_out: dict[str, Any] = {}


@dataclass(frozen=True)
class Study:
    """What to search, how trials are evaluated and pruned, and how the winner is checked."""

    name: str
    question: str
    algorithm: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    rungs: tuple[int, ...]
    """Steps at which trials are pruned, ascending, without `steps`."""
    trials: int
    batch: int
    sampler: Sampler
    sampler_seed: int
    pruner: Pruner
    reduction: int
    objective: Literal["final", "area"]
    aggregate: Literal["iqm", "lower-quantile"]
    quantile: float
    scale: Mapping[str, tuple[float, float]]
    """{env: the returns that count as 0 and 1}; may be empty for one environment."""
    space: tuple[Dimension, ...]
    top: int
    held_out_seeds: tuple[int, ...]
    source: str
    overrides: Overrides
    base: Mapping[str, Any]
    """The table [base], merged with the experiment's."""
    on: Mapping[str, Any]
    """The table [on], merged with the experiment's."""
    start: Mapping[str, Any]
    """The changes of the variant that the search starts from, with its table [on]."""
    mix_devices: bool = False
    """As in Experiment."""

    @property
    def stages(self) -> tuple[int, ...]:
        """The rungs and the final steps."""
        return (*self.rungs, self.steps)

    @cached_property
    def default(self) -> Variant:
        """The variant that the search starts from, and that its winner is compared with."""
        return self._named(DEFAULT_VARIANT, self.overrides.resolve("[base]", self.start), self.steps)

    def changes(self, params: Params) -> dict[str, Any]:
        """Return the table of a trial's variant. Its settings apply on every environment."""
        on = {
            env: {k: v for k, v in table.items() if k not in params} for env, table in self.start.get("on", {}).items()
        }
        on = {env: table for env, table in on.items() if table}
        return {key: value for key, value in self.start.items() if key != "on"} | params | ({"on": on} if on else {})

    def variant(self, name: str, params: Params, steps: int) -> Variant:
        """Return a trial as a variant with `steps` steps; InputError if its config is invalid."""
        resolved = self.overrides.resolve("[space]", self.start, params, by="[space]")
        variant = self._named(name, resolved, steps, params)
        check_steps(variant, self.source)
        return variant

    def probes(self) -> Iterator[Variant]:
        """Yield variants from all over the space, to validate it before training."""
        return (self.variant("[space]", params, self.steps) for params in probes(self.space))

    def _named(self, name: str, resolved: Resolved, steps: int, changes: Params | None = None) -> Variant:
        changes = resolved.changes if changes is None else changes
        return Variant(name, resolved.algorithm, resolved.configs, dict.fromkeys(self.envs, steps), changes)

    def experiment(self, variants: Sequence[Variant], name: str = "", seeds: Sequence[int] = ()) -> Experiment:
        """Return an experiment of these variants; the first is the reference."""
        return Experiment(
            name=name or self.name,
            question=self.question,
            envs=self.envs,
            seeds=tuple(seeds) or self.seeds,
            steps=self.steps,
            reference=variants[0].name,
            variants={variant.name: variant for variant in variants},
            source=self.source,
            mix_devices=self.mix_devices,
        )

    def definition(self) -> str:
        """Return a digest of everything that comparable trials must share. Versions are part of the run ids."""
        return digest(
            {
                "default": [spec.id for _, spec in self.experiment([self.default]).runs()],
                "stages": self.stages,
                "objective": [self.objective, self.aggregate, self.quantile, dict(self.scale)],
                "space": {dimension.name: repr(dimension) for dimension in self.space},
            }
        )


def load(path: str | Path, trials: int | None = None) -> Study:
    """Read a study file; InputError for invalid input, also if the config refuses a part of the space."""
    with with_lines(Path(path), given=() if trials is None else ("trials",)):
        return _load(Path(path), trials)


def _load(path: Path, trials: int | None) -> Study:
    where, problems = str(path), Problems()
    table = dict(read(path)) | ({} if trials is None else {"trials": trials})
    if "space" not in table and ("variants" in table or "claim" in table):
        raise InputError(f"{where}: this is an experiment; run it with sac-bench run {typed(where)}")
    file = validate_known(_File, table, where, problems)
    held_out = validate(_HeldOut, file.held_out, f"{where}: [held_out]")
    with problems.noted():
        check_name(file.name, where)
    seeds, held_out_seeds = _seeds(file, held_out, where)
    base, start = _base(file, path, where)
    Backends().check_envs(base["envs"], where, problems)
    overrides = Overrides(
        where,
        base["algorithm"],
        file.steps,
        base["base"],
        base["on"],
        (),
        {},
        base["envs"],
        None if file.experiment else base["envs"],
        problems,
    )
    problems.raise_all()
    study = Study(
        name=file.name,
        question=file.question,
        algorithm=base["algorithm"],
        envs=tuple(base["envs"]),
        seeds=seeds,
        steps=file.steps,
        rungs=tuple(file.rungs),
        trials=file.trials,
        batch=file.batch,
        sampler=file.sampler,
        sampler_seed=file.sampler_seed,
        pruner=file.pruner or ("hyperband" if file.rungs else "none"),
        reduction=file.reduction,
        objective=file.objective,
        aggregate=file.aggregate,
        quantile=file.quantile,
        scale=_scale(file, base["envs"], where),
        space=_space(file, overrides, base["algorithm"], where),
        top=held_out.top,
        held_out_seeds=held_out_seeds,
        source=where,
        overrides=overrides,
        base=base["base"],
        on=base["on"],
        start=start,
    )
    check_steps(study.default, where)
    _check_rungs(study, where)
    for _ in study.probes():
        pass
    if study.sampler == "cma-es" and (len(study.space) < 2 or any(isinstance(d, Choice) for d in study.space)):
        raise InputError(
            f"{where}: sampler: cma-es requires at least two dimensions, and none of type categorical; use tpe"
        )
    runs = (1 + study.top) * len(study.envs) * len(study.held_out_seeds)
    if runs > experiments.MAX_RUNS:
        raise InputError(
            f"{where}: [held_out]: top, seeds and envs make {runs:,} runs; the maximum is {experiments.MAX_RUNS:,}"
        )
    if study.sampler == "cma-es" and importlib.util.find_spec("cmaes") is None:
        raise InputError(f"{where}: sampler: cma-es requires the package cmaes; pip install cmaes, or use tpe")
    return study


def in_words(study: Study) -> str:
    """Return a description of the search in three lines."""
    runs = len(study.seeds) * len(study.envs)
    pruned = "no pruning" if study.pruner == "none" else f"{study.pruner} at {', '.join(f'{r:,}' for r in study.rungs)}"
    return (
        f"{study.trials} trials of {study.algorithm} on {', '.join(study.envs)}: {runs} runs of up to {study.steps:,} "
        f"steps each, {pruned}\n"
        f"searched by {study.sampler}: {', '.join(dimension.name for dimension in study.space)}\n"
        f"then the best {study.top} and the default on {len(study.held_out_seeds)} held-out seeds"
    )


def _seeds(file: _File, held_out: _HeldOut, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the search's seeds and the held-out seeds; InputError if they overlap."""
    seeds = experiments.seed_list(file.seeds, where)
    requested = held_out.seeds
    if isinstance(requested, int) and 1 <= requested <= experiments.MAX_RUNS:
        first = max(HELD_OUT_FROM, max(seeds) + 1)
        requested = list(range(first, first + requested))
    held_out_seeds = experiments.seed_list(requested, f"{where}: [held_out]")
    if overlap := sorted(set(seeds) & set(held_out_seeds)):
        raise InputError(f"{where}: [held_out] seeds: {overlap[0]} is one of the search's seeds")
    return seeds, held_out_seeds


def _base(file: _File, path: Path, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return {algorithm, envs, base, on} of the study, and the changes of the variant that the search starts from."""
    given: dict[str, Any] = {"algorithm": file.algorithm or "sac", "envs": file.envs, "base": file.base, "on": file.on}
    start: dict[str, Any] = {}
    of_algorithms = {f"base.{name}": table for name, table in file.base.items() if isinstance(table, dict)}
    of_envs = {f"on.{env}": table for env, table in file.on.items()}
    for name, options in {"base": file.base, **of_algorithms, **of_envs}.items():
        if "steps" in options:
            raise InputError(f"{where}: [{name}] steps: must be the same for all runs of a study; set it at the top")
    if file.experiment is None:
        if file.variant is not None:
            raise InputError(f'{where}: variant: requires experiment = "FILE"')
    else:
        source = path.parent / file.experiment
        with located(f"{where}: experiment"):
            experiment = experiments.load(source)
            table, _ = tables(source, quick=False)
        if experiment.choose:
            raise InputError(f"{where}: experiment: {file.experiment} has [choose], which a study does not support")
        if experiment.backends:
            raise InputError(f"{where}: experiment: {file.experiment} has backends, which a study does not support")
        name = file.variant or experiment.reference
        if name not in experiment.variants:
            raise InputError(
                f"{where}: variant: {file.experiment} has no variant {name!r}{nearest(name, experiment.variants)}"
            )
        variant = experiment.variants[name]
        if variant.parent is not None:
            raise InputError(f"{where}: variant: {name!r} has a warm start; a study does not support that")
        if file.algorithm not in (None, variant.algorithm):
            raise InputError(
                f"{where}: algorithm: {name!r} of {file.experiment} uses {variant.algorithm}; remove this key"
            )
        given["algorithm"], given["envs"] = variant.algorithm, file.envs or list(experiment.envs)
        # [base] may have tables with options of other variants' algorithms.
        given["base"] = _without_steps(merged(table.get("base", {}), file.base))
        given["on"] = _without_steps(merged(table.get("on", {}), file.on))
        start = _without_steps(dict(variant.overrides))
        if name not in table.get("variants", {}):  # a point of a sweep, whose value takes precedence
            swept = name.removeprefix(f"{variant.sweep_of}+").partition("=")[0]
            start["on"] = {
                env: {k: v for k, v in own.items() if k != swept} for env, own in start.get("on", {}).items()
            }
    if given["envs"] is None:
        raise InputError(f"{where}: envs: is required")
    for env in file.on:
        if env not in given["envs"]:
            raise InputError(f"{where}: [on.{env}]: must be one of envs{nearest(env, given['envs'])}")
    return given, start


def _without_steps(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table without `steps` keys: all runs of a study have the same steps."""
    return {
        key: _without_steps(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key != "steps"
    }


def _scale(file: _File, envs: Sequence[str], where: str) -> dict[str, tuple[float, float]]:
    """Return [scale]; InputError if it is invalid, or missing for several environments."""
    for env, values in file.scale.items():
        if env not in envs:
            raise InputError(f"{where}: [scale] {env}: must be one of envs{nearest(env, envs)}")
        if len(values) != 2 or not 0 < values[1] - values[0] < math.inf:
            raise InputError(
                f"{where}: [scale] {env}: must be two returns, that of 0 and a higher one of 1, not {values}"
            )
    for env in envs if len(envs) > 1 else ():
        if env not in file.scale:
            raise InputError(
                f"{where}: [scale] {env}: is required for several environments: "
                "[the return that counts as 0, the return that counts as 1]"
            )
    return {env: (values[0], values[1]) for env, values in file.scale.items()}


def _space(file: _File, overrides: Overrides, algorithm: str, where: str) -> tuple[Dimension, ...]:
    if not file.space:
        raise InputError(f"{where}: [space]: must not be empty")
    for name in file.space:
        if name == "steps":
            raise InputError(f"{where}: [space] steps: must be the same for all runs of a study")
        if name in EVALUATION_OPTIONS:
            raise InputError(
                f"{where}: [space] {name}: cannot be searched, because it defines how trials are evaluated"
            )
        overrides.check([name], algorithm, "[space]")
    return tuple(parse(name, table, where) for name, table in file.space.items())


def _check_rungs(study: Study, where: str) -> None:
    """Raise InputError for rungs or steps that are not evaluation points of all runs."""
    if not study.rungs and study.pruner != "none":
        raise InputError(f'{where}: rungs: is required for pruner = "{study.pruner}"; set it, or pruner = "none"')
    if list(study.rungs) != sorted(set(study.rungs)):
        raise InputError(f"{where}: rungs: must be ascending without duplicates, not {list(study.rungs)}")
    for rung in study.rungs:
        if not 1 <= rung < study.steps:
            raise InputError(f"{where}: rungs: {rung} must be between 0 and steps = {study.steps}")
    for env, config in study.default.configs.items():
        for name, steps in [*(("rungs", rung) for rung in study.rungs), ("steps", study.steps)]:
            if steps % config.eval_every:
                below = steps - steps % config.eval_every
                near = " or ".join(str(n) for n in (below, below + config.eval_every) if n)
                raise InputError(
                    f"{where}: {name}: {steps} is not an evaluation point on {env}: eval_every = "
                    f"{config.eval_every}; nearest: {near}"
                )
