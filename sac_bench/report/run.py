"""Run experiments: train what they lack, collect their tables, and write their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sac_bench.analysis.choice import choose
from sac_bench.analysis.waves import next_seeds
from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.plan import Plan
from sac_bench.execution.train import Planned, Workers, train
from sac_bench.report.experiment import write_report as write_experiment_report
from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from sac_bench.results.collect import collect, gather, list_runs
from sac_bench.results.load import Results, load_results
from sac_bench.results.manifest import FILE
from sac_bench.spec.experiment import Allotment, Experiment, ExperimentGroup
from sac_bench.spec.includes import find
from sac_bench.spec.load import load
from sac_bench.store.store import Store

Pages = dict[str, Page | str]
"""{experiment: its page, or why it could not be written}."""


@dataclass(frozen=True)
class Training:
    """Where and how a command trains. `command`: what a report names; `planned`: what is done with each plan."""

    store: Store
    workers: Workers
    console: Console
    command: str
    keep_replay: bool = False
    retrain: bool = False
    planned: Planned = lambda *_: None


def run(
    experiment: str | Path,
    *,
    seeds: int | str | None = None,
    steps: int | None = None,
    envs: str | Sequence[str] = (),
    variants: str | Sequence[str] = (),
    settings: str | Sequence[str] = (),
    name: str | None = None,
    quick: bool = False,
    device: str = "auto",
    workers: int | None = None,
    keep_replay: bool = False,
    retrain: bool = False,
    mix_devices: bool = False,
    results: str | Path = "results",
) -> Results:
    """Run an experiment as `sac-bench run` does, with progress on the terminal or in the notebook; return its results.

    `experiment` is a file, or the name of one in experiments/. The other arguments are the command's options --seeds
    (5 or "5..30"), --steps, --env, --variant, --set and so on. Runs that the results folder contains already are
    reused. For user-defined environments and algorithms use the command line, whose --import loads them in the workers,
    too. Raises InputError for what cannot be done.
    """
    changes = {
        "seeds": seeds,
        "steps": steps,
        "envs": _listed(envs),
        "variants": _listed(variants),
        "settings": _listed(settings),
        "name": name,
        "quick": quick,
        "mix_devices": mix_devices,
    }
    loaded = load(find(experiment), **changes)  # type: ignore[arg-type]
    arguments = "".join(f", {key}={value!r}" for key, value in changes.items() if value)
    command = f"sac_bench.run({str(experiment)!r}{arguments})"
    store = Store(results)
    store.check_layout()
    store.check_writable(loaded.name)
    group = ExperimentGroup((loaded,))
    team = Workers.on(device, workers, len({spec.id for _, spec in (group.selection() or group).runs()}))
    console = Console(markup=False, emoji=False)
    training = Training(store, team, console, command, keep_replay, retrain)
    group = train_and_collect(with_choices(group, training), training)
    report_one(group.experiments[0], store, console, command)
    return load_results(loaded.name, store.root)


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def write_report(experiment: str, results: str | Path = "results") -> Path:
    """Write an experiment's tables, figures and report again from its CSV files; return the path of report.html.

    Raises InputError if there are no such results, or they are damaged.
    """
    load_results(experiment, results)
    write_experiment_report(Path(results) / experiment)
    return Path(results) / experiment / "report.html"


def with_choices(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Train and report the candidates of experiments with [choose]; return the experiments with the best ones.

    Raises InputError if nothing can be chosen.
    """
    if selections := experiments.selection():
        train_and_collect(selections, training)
    chosen = []
    for one in experiments.experiments:
        if selection := one.selection():
            results, _ = report_one(selection, training.store, training.console, training.command)
            one = one.with_choices(choose(one, results))
        chosen.append(one)
    return ExperimentGroup(tuple(chosen))


def train_and_collect(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Train what experiments lack, and with a range of seeds what undecided comparisons need, look by look.

    Their folders list their runs from the start, so that nothing frees them. Every command begins at the first look:
    what follows depends on results alone. Return the experiments with the seeds that they have in the end.
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
        grow=lambda trained: _at_next_look(trained, training),
    )


def _at_next_look(experiments: ExperimentGroup, training: Training) -> ExperimentGroup | None:
    """Return the experiments with the seeds that their results ask for; None if none asks for more."""
    raised = []
    for one in experiments.experiments:
        if one.seed_range:
            _measure_random_policies(one, training.store, training.console)
            if more := next_seeds(gather(training.store, one)):
                training.console.print(f"{one.name}: more seeds for {_in_words(more)}", highlight=False)
                one = one.with_seeds(more)
        raised.append(one)
    grown = ExperimentGroup(tuple(raised))
    return None if grown == experiments else grown


def _in_words(more: Allotment) -> str:
    """Return "sac (to 16), one-q (to 8) on Hopper-v5": the seeds that variants have next."""
    of_env: dict[str, list[str]] = {}
    for (env, variant), seeds in more.items():
        of_env.setdefault(env, []).append(f"{variant} (to {seeds})")
    return "; ".join(f"{', '.join(variants)} on {env}" for env, variants in of_env.items())


def report_one(experiment: Experiment, store: Store, console: Console, command: str) -> tuple[Results, Page]:
    """Collect an experiment's tables and write its report; return both."""
    _measure_random_policies(experiment, store, console)
    results = collect(store, experiment, command)
    return results, write_experiment_report(store.experiment(experiment.name))


def _measure_random_policies(experiment: Experiment, store: Store, console: Console) -> None:
    """Measure a random policy in every environment in which a run has started, once per store."""
    started = {spec.env for _, spec in experiment.runs() if store.run(spec.id).status()["steps"]}
    for failure in measure_random_policies(store, sorted(started)):
        console.print(failure, highlight=False, soft_wrap=True)


def reported(results: Path) -> list[str]:
    """Return the names of the experiments and studies in a results folder."""
    return sorted(path.parent.name for path in results.glob(f"*/{FILE}"))


def index(results: Path, pages: Mapping[str, Page | str]) -> Path:
    """Write the index of all reports; return its path."""
    write_index(pages, results)
    return results / "index.html"


def failures(pages: Mapping[str, Page | str]) -> None:
    """Raise InputError if a report could not be written."""
    if broken := [f"{name}: {page}" for name, page in pages.items() if isinstance(page, str)]:
        raise InputError("; ".join(broken))
