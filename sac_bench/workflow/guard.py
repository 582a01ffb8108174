"""Guards recorded results: trains some of their runs again and reports what got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sac_bench.algorithms import ALGORITHMS
from sac_bench.analysis.differences import Cell, Scores
from sac_bench.analysis.format import score_format
from sac_bench.analysis.hypotheses import Family, different, equivalent
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.same_runs import Sameness, rows_of_runs, same_runs
from sac_bench.analysis.scores import equal_steps, scores
from sac_bench.analysis.sequential import Contest, Trial
from sac_bench.analysis.verdicts import verdicts
from sac_bench.errors import InputError, counted, nearest
from sac_bench.results.cells import rows_of
from sac_bench.results.collect import gather
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.spec.experiment import Experiment, ExperimentGroup
from sac_bench.spec.toml import validate
from sac_bench.spec.variant import Shown, Variant
from sac_bench.workflow.training import Training, train_and_collect

LEAST_SEEDS = 2
"""With one new run, there is no spread to test with."""
FAILS_ON: dict[str, tuple[str, ...]] = {
    "worse": ("worse",),
    "different": ("worse", "better"),
    "undecided": ("worse", "better", "undecided"),
}
"""{--fail-on: the outcomes that fail}."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a variant's new runs in an environment: identical, equivalent, undecided, better or worse."""

    env: str
    variant: str
    word: str
    why: str

    def in_words(self) -> str:
        """Return "worse: one-q on Hopper-v5: 3 new runs score 80, the record's 24 score 120"."""
        return f"{self.word}: {self.variant} on {self.env}: {self.why}"


def recorded_experiment(manifest: Manifest, seeds: int) -> Experiment:
    """Return the experiment that trains the first seeds of every variant with the settings of record.

    Raises InputError if the settings are not valid any more, or runs start from other runs.
    """
    name = f"{manifest.name}-guard"
    return Experiment(
        name=name,
        question=f"Are the results of {manifest.name} still the same?",
        envs=manifest.envs,
        seeds=manifest.seeds[:seeds],
        steps=max(map(max, map(manifest.steps_on, manifest.envs))),
        reference=manifest.reference,
        variants={one: _variant(manifest, one, name) for one in manifest.variants},
        source=manifest.name,
        margin=manifest.margin,
        score_last=manifest.score_last,
        mix_devices=True,  # the record may be of another kind of device
    )


def _variant(manifest: Manifest, name: str, where: str) -> Variant:
    of = manifest.variants[name]
    if "start" in of.overrides:
        raise InputError(f"{where}: variant {name!r} starts from other runs, which cannot be guarded; guard the others")
    if of.algorithm not in ALGORITHMS:
        hint = nearest(of.algorithm, ALGORITHMS)
        raise InputError(f"{where}: variant {name!r}: unknown algorithm {of.algorithm!r}{hint}; --import its module")
    config = ALGORITHMS[of.algorithm].config
    configs = {env: validate(config, of.configs[env], f"{where}: variant {name!r} on {env}") for env in manifest.envs}
    return Variant(name, of.algorithm, configs, dict(of.steps), dict(of.overrides), shown=Shown())


def guard(record: Results, seeds: int, training: Training) -> list[Outcome]:
    """Train the first seeds of a record again, where the results folder lacks them, and compare.

    Raises InputError for fewer than two seeds, and as `recorded_experiment`.
    """
    if seeds < LEAST_SEEDS:
        raise InputError(f"--seeds {seeds}: must be at least {LEAST_SEEDS}")
    experiment = recorded_experiment(record.manifest, seeds)
    train_and_collect(ExperimentGroup((experiment,)), training)
    new = gather(training.store, experiment)
    known = new.manifest.model_copy(update={"random": record.manifest.random})  # what a diverged run counts as
    return compared(record, replace(new, manifest=known))


def compared(record: Results, new: Results) -> list[Outcome]:
    """Return how new runs of the first seeds compare with a record, cell by cell.

    Runs are identical if all their numbers but times are. Otherwise the scores of the new runs are compared with all
    recorded ones of the cell by the tests of all verdicts, with Holm's correction over these cells. Unlike verdicts of
    reports, they need no five seeds on a side: the permutation test itself cannot show more than its runs allow.
    """
    cells = [(env, name) for env in new.manifest.envs for name in new.manifest.variants]
    rows = rows_of_runs(record), rows_of_runs(new)
    same = {cell: _same(record, new, cell, rows) for cell in cells}
    steps = equal_steps(record.manifest)
    recorded, fresh = (Scores(scores(of, at=steps), of.manifest) for of in (record, new))
    outcomes: dict[Cell, Outcome] = {}
    contests: dict[Cell, Contest] = {}
    for cell in cells:
        scored, expected = fresh.of(cell), recorded.of(cell)
        missing = len(expected.index.intersection(list(new.manifest.seeds)).difference(scored.index))
        if same[cell].identical:
            outcomes[cell] = Outcome(*cell, "identical", same[cell].same_runs)
        elif missing:
            ended = rows_of(new.runs, *cell)["status"].value_counts()
            why = ", ".join(f"{count} {status}" for status, count in ended.items())
            outcomes[cell] = Outcome(*cell, "worse", f"{counted(missing, 'new run')} without a score ({why})")
        elif min(len(scored), len(expected)) < LEAST_SEEDS:
            outcomes[cell] = Outcome(*cell, "undecided", "too few runs with a score in the record")
        else:
            contests[cell] = _contest(cell, recorded, fresh)
    for cell, verdict in zip(contests, verdicts(list(contests.values())), strict=True):
        why = f"{_score(fresh.of(cell))}, the record's {_score(recorded.of(cell))}; same runs: {same[cell].same_runs}"
        outcomes[cell] = Outcome(*cell, verdict.word or "undecided", f"the new {why}")
    return [outcomes[cell] for cell in cells]


def _score(values: Any) -> str:
    mean = float(values.mean())
    return f"{counted(len(values), 'run')} score {mean:,{score_format(abs(mean))}}"


def _same(record: Results, new: Results, cell: Cell, rows: Sequence[Any]) -> Sameness:
    runs = rows_of(record.runs, *cell)
    return same_runs(runs[runs["seed"].isin(new.manifest.seeds)], rows_of(new.runs, *cell), *rows)


def _contest(cell: Cell, recorded: Scores, fresh: Scores) -> Contest:
    """Return that the new runs differ and, if the record has a margin, that they do not differ beyond it."""
    share, gain = recorded.manifest.margin, recorded.gain(cell[0])
    families: tuple[Family, ...] = (different(),)
    if share is not None and gain > 0:
        families += ((equivalent(share * gain),),)
    trial = Trial(families, permuted(fresh.of(cell), recorded.of(cell)))
    return Contest(lambda _: True, lambda _: trial)


def failing(outcomes: Sequence[Outcome], on: str) -> list[Outcome]:
    """Return the outcomes that fail. Raises InputError for an unknown --fail-on."""
    if on not in FAILS_ON:
        raise InputError(f"--fail-on {on}: must be one of {', '.join(FAILS_ON)}{nearest(on, FAILS_ON)}")
    return [one for one in outcomes if one.word in FAILS_ON[on]]


def counts(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """Return {outcome: how many}, in the order in which they first occur."""
    words = [one.word for one in outcomes]
    return {word: words.count(word) for word in dict.fromkeys(words)}
