"""From a study's TOML file to what is searched: every error of the input is found here, before anything is trained.

A study is an experiment whose variants are not known yet. What a trial changes is put last, after [base],
[base.ALGORITHM], [on.ENV] and the variant it starts from: the experiment's own layers resolve and check it.
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

from sac_bench.envs.checking import check
from sac_bench.errors import InputError, nearest
from sac_bench.spec import experiment as experiments
from sac_bench.spec.experiment import NAME, RESERVED, Experiment, Variant
from sac_bench.spec.overrides import MAX_STEPS, Overrides, Resolved
from sac_bench.spec.run import digest
from sac_bench.spec.toml import located, read, validate
from sac_bench.tuning.space import Choice, Dimension, Params, parse, probes

JUDGED_BY = ("eval_every", "eval_episodes")
"""Options that say how a run is judged: a search over them would judge its trials by different measures."""
DEFAULT = "default"
HELD_OUT_FROM = 1000
"""The first held-out seed, where a file says only how many there are to be."""
Sampler = Literal["tpe", "cma-es", "random"]
Pruner = Literal["hyperband", "successive-halving", "none"]


class _HeldOut(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    top: Annotated[int, Field(ge=1, le=100)] = 3
    seeds: int | list[int] = 5


class _File(BaseModel):
    """The tables and keys of a study file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    question: str = ""
    experiment: str | None = None
    variant: str | None = None
    algorithm: str | None = None
    envs: Annotated[list[str], Field(min_length=1)] | None = None
    seeds: int | list[int] = 2
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
    """What is searched, how trials are judged and pruned, and how the winner is checked."""

    name: str
    question: str
    algorithm: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    rungs: tuple[int, ...]
    """Steps at which trials are pruned, ascending; `steps` is not among them."""
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
    """{env: the returns that count as 0 and 1}; empty where there is one environment."""
    space: tuple[Dimension, ...]
    top: int
    held_out_seeds: tuple[int, ...]
    source: str
    layers: Overrides
    base: Mapping[str, Any]
    """The tables [base] and, below, [on], as the layers have them."""
    on: Mapping[str, Any]
    start: Mapping[str, Any]
    """What the variant changes that the search starts from; its table [on] included."""

    @property
    def stages(self) -> tuple[int, ...]:
        """The rungs and the end."""
        return (*self.rungs, self.steps)

    @cached_property
    def default(self) -> Variant:
        """Where the search starts from, and what its winner has to beat."""
        return self._named(DEFAULT, self.layers.resolve("[base]", self.start), self.steps)

    def overrides(self, params: Params) -> dict[str, Any]:
        """What a trial's variant changes, as a table of its own. What is searched holds on every environment."""
        on = {
            env: {k: v for k, v in table.items() if k not in params} for env, table in self.start.get("on", {}).items()
        }
        on = {env: table for env, table in on.items() if table}
        return {key: value for key, value in self.start.items() if key != "on"} | params | ({"on": on} if on else {})

    def variant(self, name: str, params: Params, steps: int) -> Variant:
        """A trial as an experiment's variant, trained to `steps`; InputError where it cannot be."""
        resolved = self.layers.resolve("[space]", self.start, params, by="[space]")
        variant = self._named(name, resolved, steps, params)
        experiments.check_steps(variant, self.source)
        return variant

    def probes(self) -> Iterator[Variant]:
        """Variants all over the space, to see what is amiss before anything is trained."""
        return (self.variant("[space]", params, self.steps) for params in probes(self.space))

    def _named(self, name: str, resolved: Resolved, steps: int, changes: Params | None = None) -> Variant:
        changed = resolved.changes if changes is None else changes
        return Variant(name, resolved.algorithm, resolved.configs, dict.fromkeys(self.envs, steps), changed)

    def experiment(self, variants: Sequence[Variant], name: str = "", seeds: Sequence[int] = ()) -> Experiment:
        """An ordinary experiment of these variants, the first its reference."""
        return Experiment(
            name=name or self.name,
            question=self.question,
            envs=self.envs,
            seeds=tuple(seeds) or self.seeds,
            steps=self.steps,
            reference=variants[0].name,
            variants={variant.name: variant for variant in variants},
            source=self.source,
        )

    def definition(self) -> str:
        """A digest of what trials of one study must share to be compared; runs' ids have the versions that count."""
        return digest(
            {
                "default": [spec.id for _, spec in self.experiment([self.default]).runs()],
                "stages": self.stages,
                "objective": [self.objective, self.aggregate, self.quantile, dict(self.scale)],
                "space": {dimension.name: repr(dimension) for dimension in self.space},
            }
        )


def load(path: str | Path, trials: int | None = None) -> Study:
    """Read a study file; InputError for anything amiss, the config's refusal of a part of the space included."""
    path = Path(path)
    where = str(path)
    table = dict(read(path)) | ({} if trials is None else {"trials": trials})
    file = validate(_File, table, where)
    held_out = validate(_HeldOut, file.held_out, f"{where}: [held_out]")
    if not NAME.fullmatch(file.name):
        raise InputError(f"{where}: name: {file.name!r} is not a plain name (letters, digits, '.', '_', '=', '+', '-')")
    if file.name.lower() in RESERVED:  # some file systems do not tell case apart
        raise InputError(f"{where}: name: {file.name!r} is a folder of the store's own; choose another")
    seeds, held_out_seeds = _seeds(file, held_out, where)
    base, start = _base(file, path, where)
    for i, env in enumerate(base["envs"]):
        with located(f"{where}: envs"):
            check(env)
        if env in base["envs"][:i]:
            raise InputError(f"{where}: envs: {env!r} is there twice")
    layers = Overrides(
        where,
        base["algorithm"],
        file.steps,
        base["base"],
        base["on"],
        (),
        {},
        base["envs"],
        None if file.experiment else base["envs"],
    )
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
        space=_space(file, layers, base["algorithm"], where),
        top=held_out.top,
        held_out_seeds=held_out_seeds,
        source=where,
        layers=layers,
        base=base["base"],
        on=base["on"],
        start=start,
    )
    experiments.check_steps(study.default, where)
    _check_rungs(study, where)
    for _ in study.probes():
        pass
    if study.sampler == "cma-es" and (len(study.space) < 2 or any(isinstance(d, Choice) for d in study.space)):
        raise InputError(f"{where}: sampler: cma-es searches two numbers or more, and no choices; use tpe")
    runs = (1 + study.top) * len(study.envs) * len(study.held_out_seeds)
    if runs > experiments.MAX_RUNS:
        raise InputError(
            f"{where}: [held_out]: top, seeds and envs make {runs:,} runs; at most {experiments.MAX_RUNS:,}"
        )
    if study.sampler == "cma-es" and importlib.util.find_spec("cmaes") is None:
        raise InputError(f"{where}: sampler: cma-es wants the package cmaes; pip install cmaes, or use tpe")
    return study


def in_words(study: Study) -> str:
    """What would be searched, in lines."""
    runs = len(study.seeds) * len(study.envs)
    pruned = (
        "none pruned" if study.pruner == "none" else f"{study.pruner} at {', '.join(f'{r:,}' for r in study.rungs)}"
    )
    return (
        f"{study.trials} trials of {study.algorithm} on {', '.join(study.envs)}: {runs} runs of up to {study.steps:,} "
        f"steps each, {pruned}\n"
        f"searched by {study.sampler}: {', '.join(dimension.name for dimension in study.space)}\n"
        f"then the best {study.top} and the default on {len(study.held_out_seeds)} held-out seeds"
    )


def _seeds(file: _File, held_out: _HeldOut, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The search's seeds and the held-out ones, which it must not see."""
    seeds = experiments.seed_list(file.seeds, where)
    asked = held_out.seeds
    if isinstance(asked, int) and 1 <= asked <= experiments.MAX_RUNS:
        first = max(HELD_OUT_FROM, max(seeds) + 1)
        asked = list(range(first, first + asked))
    others = experiments.seed_list(asked, f"{where}: [held_out]")
    if both := sorted(set(seeds) & set(others)):
        raise InputError(f"{where}: [held_out] seeds: {both[0]} is one of the search's own seeds")
    return seeds, others


def _base(file: _File, path: Path, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the study's layers are made of (algorithm, envs, base, on), and the variant that the search starts from."""
    given: dict[str, Any] = {"algorithm": file.algorithm or "sac", "envs": file.envs, "base": file.base, "on": file.on}
    start: dict[str, Any] = {}
    of_algorithms = {f"base.{name}": table for name, table in file.base.items() if isinstance(table, dict)}
    of_envs = {f"on.{env}": table for env, table in file.on.items()}
    for name, options in {"base": file.base, **of_algorithms, **of_envs}.items():
        if "steps" in options:
            raise InputError(f"{where}: [{name}] steps: a study has one number of steps for all its runs")
    if file.experiment is None:
        if file.variant is not None:
            raise InputError(f'{where}: variant: goes with experiment = "FILE", whose variant it names')
    else:
        source = path.parent / file.experiment
        with located(f"{where}: experiment"):
            known = experiments.load(source)
            table = dict(read(source))
        name = file.variant or known.reference
        if name not in known.variants:
            raise InputError(
                f"{where}: variant: {file.experiment} has no variant {name!r}{nearest(name, known.variants)}"
            )
        variant = known.variants[name]
        if variant.start is not None:
            raise InputError(f"{where}: variant: {name!r} starts from other runs' weights; a study does not")
        if file.algorithm not in (None, variant.algorithm):
            raise InputError(
                f"{where}: algorithm: {name!r} of {file.experiment} is of {variant.algorithm}; leave it out"
            )
        given["algorithm"], given["envs"] = variant.algorithm, file.envs or list(known.envs)
        # [base] may hold options of other algorithms' variants in tables of theirs, which are left to them.
        given["base"] = _without_steps(_joined(table.get("base", {}), file.base))
        given["on"] = _without_steps(_joined(table.get("on", {}), file.on))
        start = _without_steps(dict(variant.overrides))
        if name not in table.get("variants", {}):  # a point of a sweep, whose value is the last layer
            swept = name.partition("=")[0]
            start["on"] = {
                env: {k: v for k, v in own.items() if k != swept} for env, own in start.get("on", {}).items()
            }
    if given["envs"] is None:
        raise InputError(f"{where}: envs: is missing")
    for env in file.on:
        if env not in given["envs"]:
            raise InputError(f"{where}: [on.{env}]: not one of envs{nearest(env, given['envs'])}")
    return given, start


def _joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables, `then` wins, tables inside them joined too."""
    both = dict(first) | dict(then)
    for key in first.keys() & then.keys():
        if isinstance(first[key], dict) and isinstance(then[key], dict):
            both[key] = _joined(first[key], then[key])
    return both


def _without_steps(table: Mapping[str, Any]) -> dict[str, Any]:
    """A study's steps are everyone's, in whatever table."""
    return {
        key: _without_steps(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key != "steps"
    }


def _scale(file: _File, envs: Sequence[str], where: str) -> dict[str, tuple[float, float]]:
    for env, values in file.scale.items():
        if env not in envs:
            raise InputError(f"{where}: [scale] {env}: not one of envs{nearest(env, envs)}")
        if len(values) != 2 or not 0 < values[1] - values[0] < math.inf:
            raise InputError(
                f"{where}: [scale] {env}: wants two returns, that of 0 and a greater one of 1, not {values}"
            )
    for env in envs if len(envs) > 1 else ():
        if env not in file.scale:
            raise InputError(
                f"{where}: [scale] {env}: is missing; returns of several environments are put on one scale by "
                "[the return that counts as 0, the return that counts as 1] of each"
            )
    return {env: (values[0], values[1]) for env, values in file.scale.items()}


def _space(file: _File, layers: Overrides, algorithm: str, where: str) -> tuple[Dimension, ...]:
    if not file.space:
        raise InputError(f"{where}: [space]: is empty: there is nothing to search")
    for name in file.space:
        if name == "steps":
            raise InputError(f"{where}: [space] steps: a study has one number of steps for all its runs")
        if name in JUDGED_BY:
            raise InputError(f"{where}: [space] {name}: says how trials are judged, and so cannot be searched")
        layers.check([name], algorithm, "[space]")
    return tuple(parse(name, table, where) for name, table in file.space.items())


def _check_rungs(study: Study, where: str) -> None:
    """Refuse rungs and steps at which a run is not evaluated whoever trains it."""
    if not study.rungs and study.pruner != "none":
        raise InputError(f'{where}: rungs: is missing; pruner = "{study.pruner}" prunes there, and "none" nowhere')
    if list(study.rungs) != sorted(set(study.rungs)):
        raise InputError(f"{where}: rungs: wants them in ascending order, each once, not {list(study.rungs)}")
    for rung in study.rungs:
        if not 1 <= rung < study.steps:
            raise InputError(f"{where}: rungs: {rung} is not between 0 and steps = {study.steps}")
    for env, config in study.default.configs.items():
        for name, steps in [*(("rungs", rung) for rung in study.rungs), ("steps", study.steps)]:
            if steps % config.eval_every:
                below = steps - steps % config.eval_every
                near = " or ".join(str(n) for n in (below, below + config.eval_every) if n)
                raise InputError(
                    f"{where}: {name}: {steps} is no evaluation point on {env}: eval_every = "
                    f"{config.eval_every}; nearest: {near}"
                )
