"""An experiment: a question, and the variants whose runs answer it; or several that are trained together.

A variant is a name, an algorithm and the options that differ from its defaults. A run is one variant's resolved config
(spec/overrides.py) on one environment with one seed. spec/load.py reads experiments from files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import Protocol

from sac_bench.spec.choose import Choice, Choose
from sac_bench.spec.claim import Claim
from sac_bench.spec.factorial import Factorial
from sac_bench.spec.measures import LAST_SHARE
from sac_bench.spec.run import RunSpec
from sac_bench.spec.seeds import SeedRange
from sac_bench.spec.variant import Variant

Allotment = Mapping[tuple[str, str], int]
"""{(environment, variant): how many seeds it has}."""


@dataclass(frozen=True)
class Need:
    """What an undecided comparison of an experiment needs for a later look."""

    experiment: str
    label: str
    """The comparison, as users read it."""
    had: int | None
    """The seeds per variant at its last look, if there was one."""
    look: int
    seeds: Allotment


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it."""

    name: str
    question: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    """Of every variant; with a range, those that any variant has now."""
    steps: int
    reference: str
    variants: dict[str, Variant]
    success_return: float | None = None
    source: str = ""
    overrides: tuple[str, ...] = field(default=())
    margin: float | None = None
    """The share of the reference's gain below which differences do not matter, without a claim (it has its own)."""
    claim: Claim | None = None
    choose: Choose | None = None
    """What must be chosen before there are runs (`selection`, then `with_choices`)."""
    choices: tuple[Choice, ...] = ()
    mix_devices: bool = False
    """Whether runs of another kind of device than the requested one are accepted."""
    seed_range: SeedRange | None = None
    allotment: Allotment = field(default_factory=dict)
    """How many of `seeds` each variant has now in each environment; {}: all, a fixed number."""
    first_seed: int = 0
    reference_factor: int = 1
    """How many times the variants' seeds the reference has."""
    factorial: Factorial | None = None
    """The design, if the variants are its cells."""
    backends: tuple[str, ...] = ()
    """Those on which `envs` has the tasks of a file with this key: two environments of one task are compared."""
    score_last: float = LAST_SHARE
    """A run's score is the mean of its evaluations in this last share of its steps."""

    def seeds_of(self, env: str, variant: str) -> tuple[int, ...]:
        """Return the seeds that a variant has now in an environment."""
        return self.seeds[: self.allotment.get((env, variant))]

    def all_seeds_of(self, env: str, variant: str) -> Sequence[int]:
        """Return the seeds that a variant may have at the last look in an environment."""
        if self.seed_range is None:
            return self.seeds_of(env, variant)
        return range(self.first_seed, self.first_seed + self.at_look(self.seed_range.last)[env, variant])

    def with_range(self, seed_range: SeedRange) -> Experiment:
        """Return the experiment with the seeds of the range's first look."""
        return replace(self, seed_range=seed_range, allotment={}).with_seeds(self.at_look(seed_range.first))

    def up_to(self, look: int) -> Experiment:
        """Return the experiment with a range that reaches to a look, if it does not yet."""
        assert self.seed_range is not None, f"{self.name}: its seeds are fixed"
        last = max(look, self.seed_range.last)
        return replace(self, seed_range=replace(self.seed_range, last=last))

    def at_look(self, look: int) -> dict[tuple[str, str], int]:
        """Return how many seeds all variants have if none is decided before a look."""
        factor = {self.reference: self.reference_factor}
        return {(env, variant): look * factor.get(variant, 1) for env in self.envs for variant in self.variants}

    def with_seeds(self, allotment: Allotment) -> Experiment:
        """Return the experiment in which these variants have so many of the seeds, and the others as before.

        Raises ValueError for fewer seeds than before and for more than the range allows.
        """
        assert self.seed_range is not None, f"{self.name}: its seeds are fixed"
        for (env, variant), seeds in allotment.items():
            least, most = self.allotment.get((env, variant), 1), len(self.all_seeds_of(env, variant))
            if not least <= seeds <= most:
                raise ValueError(f"{variant} on {env}: {seeds} seeds, not {least} to {most}")
        merged = {**self.allotment, **allotment}
        end = self.first_seed + max(merged.values())
        return replace(self, allotment=merged, seeds=tuple(range(self.first_seed, end)))

    def runs(self) -> list[tuple[Variant, RunSpec]]:
        """Return every (variant, run), ordered by environment, variant, seed. Variants may share a run."""
        assert self.choose is None, f"{self.name}: the options of its variants are not chosen yet"
        return [
            (variant, variant.run(env, seed))
            for env in self.envs
            for variant in self.variants.values()
            for seed in self.seeds_of(env, variant.name)
        ]

    def names(self) -> dict[str, str]:
        """Return {run id: its first variant, with the environment if there are several}."""
        place = " on {}" if len(self.envs) > 1 else ""
        named = [(spec.id, variant.name + place.format(spec.env)) for variant, spec in self.runs()]
        return dict(reversed(named))

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
            seed_range=None,
            allotment={},
            reference_factor=1,
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
            changes = own[self.envs[0]] if equal and "on" not in variant.overrides else {"on": on}
            variants[name] = replace(variant, configs=configs, overrides=variant.overrides | changes)
        return replace(self, variants=variants, choose=None, choices=tuple(choices))


def supposed(experiment: Experiment) -> Experiment:
    """Return the experiment as if every variant chose the candidate in the middle, to estimate its time."""
    assert experiment.choose is not None
    middle = {name: own[len(own) // 2].options for name, own in experiment.choose.candidates.items()}
    seeds = experiment.choose.seeds
    return experiment.with_choices(
        [
            Choice(variant=name, env=env, options=options, at_edge=(), candidates=(), seeds=seeds)
            for name, options in middle.items()
            for env in experiment.envs
        ]
    )


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
        """Return every (variant, run) of all experiments.

        With ranges of seeds, also those that later looks may make of these runs with more steps, because a finished run
        may not be continuable.
        """
        own = list(chain.from_iterable(experiment.runs() for experiment in self.experiments))
        return own + self._later() if any(one.seed_range for one in self.experiments) else own

    def names(self) -> dict[str, str]:
        """Return {run id: its first variant}, with the experiment if there are several."""
        if len(self.experiments) == 1:
            return self.experiments[0].names()
        named = [(run, f"{one.name}: {name}") for one in self.experiments for run, name in one.names().items()]
        return dict(reversed(named))

    def _later(self) -> list[tuple[Variant, RunSpec]]:
        cells: dict[str, list[tuple[Experiment, str, Variant]]] = defaultdict(list)
        for one in self.experiments:
            for env, variant in product(one.envs, one.variants.values()):
                cells[variant.run(env, 0).id].append((one, env, variant))
        return [
            (longer, longer.run(env, seed))
            for same in cells.values()
            for (one, env, variant), (other, _, longer) in product(same, same)
            if longer.steps[env] > variant.steps[env]
            for seed in one.seeds_of(env, variant.name)
            if seed in other.all_seeds_of(env, longer.name)
        ]

    def with_needs(self, needs: Sequence[Need]) -> ExperimentGroup:
        """Return the experiments with the seeds that comparisons need; no variant gets fewer than it has."""
        grown = []
        for one in self.experiments:
            more: dict[tuple[str, str], int] = {}
            for cell, seeds in chain.from_iterable(need.seeds.items() for need in needs if need.experiment == one.name):
                more[cell] = max(seeds, more.get(cell, one.allotment[cell]))
            grown.append(one.with_seeds(more) if more else one)
        return ExperimentGroup(tuple(grown))

    def at_looks(self) -> list[ExperimentGroup]:
        """Return the experiments at each look if nothing is decided; one with fewer looks stays at its last.

        Raises ValueError unless all have a range of seeds.
        """
        looks = [one.seed_range.looks if one.seed_range else () for one in self.experiments]
        if not all(looks):
            raise ValueError("an experiment has fixed seeds")
        return [
            ExperimentGroup(
                tuple(
                    one.with_seeds(one.at_look(own[min(i, len(own) - 1)]))
                    for one, own in zip(self.experiments, looks, strict=True)
                )
            )
            for i in range(max(map(len, looks)))
        ]

    def selection(self) -> ExperimentGroup | None:
        """Return the experiments that train the candidates of [choose], or None if nothing is chosen."""
        selections = tuple(one for experiment in self.experiments if (one := experiment.selection()))
        return ExperimentGroup(selections) if selections else None
