"""Chooses the options of experiments, then trains them look by look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console

from sac_bench.analysis.choice import choose
from sac_bench.analysis.waves import beyond_reach, needs, needs_to_decide
from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.budget import Purse
from sac_bench.execution.plan import Plan
from sac_bench.execution.train import Planned, plan, price_of, train
from sac_bench.execution.worker_options import Workers
from sac_bench.report.experiment import write_report
from sac_bench.report.page import Page
from sac_bench.results.collect import collect, gather, list_runs, runs_of
from sac_bench.results.load import Results
from sac_bench.spec.experiment import Experiment, ExperimentGroup, Need, supposed
from sac_bench.spec.shard import Shard
from sac_bench.store.store import Store

Reported = Callable[[Experiment, Results, Page], None]
"""What is done with each report once it is written."""


@dataclass(frozen=True)
class Training:
    """Where and how experiments are trained and reported.

    command: the command line that reports show; planned, reported: called with each plan and each report; shard: the
    share of the runs to train; trackers: functions that write an experiment's folder in the format of another program.
    """

    store: Store
    workers: Workers
    console: Console
    command: str
    keep_replay: bool = False
    retrain: bool = False
    planned: Planned = lambda *_: None
    purse: Purse = field(default_factory=Purse)
    shard: Shard | None = None
    reported: Reported = lambda *_: None
    trackers: Sequence[Callable[[Path], Path]] = ()

    def left_out(self, experiments: ExperimentGroup) -> frozenset[str]:
        """Return the ids of the runs that other shares train."""
        return self.shard.left_out(experiments) if self.shard else frozenset()

    def own_runs(self, experiments: ExperimentGroup) -> pd.DataFrame:
        """Return the runs of experiments, one row each, without those that other shares train."""
        runs = runs_of(self.store, experiments)
        return runs[~runs["run_id"].isin(self.left_out(experiments))]

    def say(self, text: object) -> None:
        """Print a line as it is, without wrapping."""
        self.console.print(str(text), highlight=False, soft_wrap=True)


def with_choices(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Train and report the candidates of experiments with [choose]; return the experiments with the best ones.

    Raises InputError if nothing can be chosen.
    """
    if selections := experiments.selection():
        train_and_collect(selections, training)
    chosen = []
    for one in experiments.experiments:
        if selection := one.selection():
            results, _ = collect_and_report(selection, training)
            one = one.with_choices(choose(one, results))
        chosen.append(one)
    return ExperimentGroup(tuple(chosen))


def lacks_runs(experiments: ExperimentGroup, training: Training) -> bool:
    """Return whether a command would train runs of experiments as they are now."""
    left_out = tuple(training.left_out(experiments))
    return bool(plan(experiments, training.store, training.workers, training.retrain, left_out).cohorts)


def expected(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Return the experiments with their options, to estimate times; train and write nothing.

    If no candidate of an experiment lacks runs, these are the options that it chooses, else those of `supposed`. Raises
    InputError if nothing can be chosen.
    """
    known = []
    for one in experiments.experiments:
        if selection := one.selection():
            if lacks_runs(ExperimentGroup((selection,)), training):
                one = supposed(one)
            else:
                one = one.with_choices(choose(one, gather(training.store, selection, measured=False)))
        known.append(one)
    return ExperimentGroup(tuple(known))


def at_next_look(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Return the experiments at the first look that lacks runs, as existing results decide; write nothing.

    If no comparison needs more seeds, none lacks runs. Robustness that is not measured yet counts as unknown.
    """
    while not lacks_runs(experiments, training):
        ranged = [one for one in experiments.experiments if one.seed_range]
        missing = [need for one in ranged for need in needs(gather(training.store, one, measured=False))]
        if not missing:
            break
        experiments = experiments.with_needs(missing)
    return experiments


def train_and_collect(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Train the missing runs of experiments. With a range of seeds, also train further looks of undecided comparisons.

    Their folders list their runs from the start, so `sac-bench gc` does not free them. Every command begins at the
    first look; later looks depend only on results. Return the experiments with their final seeds.
    """

    def listed(planned: ExperimentGroup, plan: Plan) -> None:
        training.planned(planned, plan)
        if plan.cohorts:
            for experiment in planned.experiments:
                list_runs(training.store, experiment, training.command)

    return train(
        experiments,
        training.store,
        training.workers,
        training.console,
        keep_replay=training.keep_replay,
        retrain=training.retrain,
        planned=listed,
        needs=lambda trained: _needs(trained, training),
        purse=training.purse,
        skip=training.left_out(experiments),
    )


def _needs(experiments: ExperimentGroup, training: Training) -> list[Need]:
    """Return what the comparisons of experiments with a range of seeds need for their next looks, in order."""
    needed = []
    for one in experiments.experiments:
        if one.seed_range:
            _measure_random_policies(one, training)
            needed += needs(gather(training.store, one))
    return needed


def outlook(experiments: ExperimentGroup, training: Training) -> list[str]:
    """Return lines on what is undecided once training has ended, and what would decide it; none if seeds are fixed.

    The first ones are comparisons that lack budget for their next look. Then come those that are undecided at the most
    seeds or stopped. Each price is that of one comparison by itself.
    """
    tried = [spec.id for _, spec in experiments.runs()]
    budget, lacking, undecided = training.purse.budget, [], []
    for one in experiments.experiments:
        if one.seed_range is None:
            continue
        _measure_random_policies(one, training)
        results = gather(training.store, one)
        name = f"{one.name}: " if len(experiments.experiments) > 1 else ""
        for need in needs(results) if budget else []:
            seeds = f"{need.had} -> {need.look}" if need.had else f"to {need.look}"
            lacking.append(f"  {name}{need.label}: {_price(need, one, tried, training)} more ({seeds} seeds)")
        for need in needs_to_decide(results):
            price = _price(need, one, tried, training)
            undecided.append(f"  {name}{need.label}: needs {need.look} seeds, {price} more")
        undecided += [f"  {name}{label}: {reason}" for label, reason in beyond_reach(results).items()]
    if budget and lacking:
        lacking.insert(0, f"undecided for lack of budget ({budget.text}):")
    if undecided:
        undecided.insert(0, "undecided; for 80% power, if the observed difference is the true one:")
    return [*lacking, *undecided]


def _price(need: Need, experiment: Experiment, tried: Sequence[str], training: Training) -> str:
    """Return the price of the runs that a comparison needs, except those that were tried."""
    group = ExperimentGroup((experiment.up_to(need.look),)).with_needs([need])
    try:
        return str(price_of(group, training.store, training.workers, training.purse.unit, skip=tried))
    except InputError:  # existing runs with these seeds are damaged, or of another kind of device
        return "an unknown time"


def collect_and_report(experiment: Experiment, training: Training) -> tuple[Results, Page]:
    """Collect an experiment's tables and write its report; return both."""
    _measure_random_policies(experiment, training)
    results = collect(training.store, experiment, training.command)
    return results, write_report(training.store.experiment(experiment.name))


def _measure_random_policies(experiment: Experiment, training: Training) -> None:
    """Measure a random policy in every environment in which a run has started, once per store."""
    store = training.store
    started = {spec.env for _, spec in experiment.runs() if store.run(spec.id).status()["steps"]}
    for failure in measure_random_policies(store, sorted(started)):
        training.say(failure)
