"""Run experiments: train missing runs, collect tables, and write reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from sac_bench.analysis.choice import choose
from sac_bench.analysis.waves import needs, needs_to_decide
from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.budget import Purse
from sac_bench.execution.plan import Plan
from sac_bench.execution.train import Planned, Workers, price_of, train
from sac_bench.report.experiment import write_report as write_experiment_report
from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from sac_bench.results.collect import collect, gather, list_runs, refresh
from sac_bench.results.load import Results, load_results
from sac_bench.results.manifest import FILE
from sac_bench.results.replaced import check_not_replaced
from sac_bench.spec.experiment import Experiment, ExperimentGroup, Need
from sac_bench.spec.load import load
from sac_bench.spec.names import find
from sac_bench.spec.seeds import Seeds
from sac_bench.spec.shard import Shard
from sac_bench.store.store import Store

Pages = dict[str, Page | str]
"""{experiment: its page, or why it could not be written}."""


@dataclass(frozen=True)
class Training:
    """Where and how a command trains.

    command: what a report names; planned: what is done with each plan; shard: the share of the runs to train.
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


def run(
    experiment: str | Path,
    *,
    seeds: Seeds | None = None,
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
    budget: str | None = None,
    results: str | Path = "results",
) -> Results:
    """Run an experiment as `sac-bench run` does, with progress on the terminal or in the notebook; return its results.

    `experiment` is a file or a name that `sac-bench list` shows. The other arguments are the command's options --seeds
    (5, [3, 4] or "5..30"), --steps, --env, --variant, --set, --budget ("8h") and so on. Runs that the results folder
    contains already are reused. For user-defined environments and algorithms use the command line, whose --import loads
    them in the workers, too. Raises InputError for what cannot be done.
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
    arguments = "".join(f", {key}={value!r}" for key, value in (changes | {"budget": budget}).items() if value)
    command = f"sac_bench.run({str(experiment)!r}{arguments})"
    store = Store(results)
    store.check_layout()
    store.check_writable(loaded.name)
    if name is None:
        check_not_replaced(loaded, store)
    group = ExperimentGroup((loaded,))
    purse = Purse.of(budget, group)
    team = Workers.on(device, workers, len({spec.id for _, spec in (group.selection() or group).runs()}))
    console = Console(markup=False, emoji=False)
    training = Training(store, team, console, command, keep_replay, retrain, purse=purse)
    group = train_and_collect(with_choices(group, training), training)
    report_one(group.experiments[0], store, console, command)
    for line in outlook(group, training):
        console.print(line, highlight=False, soft_wrap=True)
    return load_results(loaded.name, store.root)


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def write_report(experiment: str, results: str | Path = "results") -> Path:
    """Write an experiment's tables, figures and report again from its CSV files; return the path of report.html.

    During training, the CSV files get what is saved so far before. Raises InputError if there are no such results, or
    they are damaged.
    """
    load_results(experiment, results)
    refreshed(Path(results) / experiment)
    return Path(results) / experiment / "report.html"


def refreshed(folder: Path) -> Page:
    """Write an experiment's report again, after its tables if some of its runs had not ended; return its page."""
    refresh(Store(folder.parent), folder.name)
    return write_experiment_report(folder)


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
        needs=lambda trained: _needs(trained, training),
        purse=training.purse,
        skip=training.shard.left_out(experiments) if training.shard else (),
    )


def _needs(experiments: ExperimentGroup, training: Training) -> list[Need]:
    """Return what the comparisons of experiments with a range of seeds need for their next looks, in order."""
    found = []
    for one in experiments.experiments:
        if one.seed_range:
            _measure_random_policies(one, training.store, training.console)
            found += needs(gather(training.store, one))
    return found


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
        _measure_random_policies(one, training.store, training.console)
        results = gather(training.store, one)
        name = f"{one.name}: " if len(experiments.experiments) > 1 else ""
        for need in needs(results) if budget else []:
            seeds = f"{need.had} -> {need.look}" if need.had else f"to {need.look}"
            lacking.append(f"  {name}{need.label}: {_price(need, one, tried, training)} more ({seeds} seeds)")
        for need in needs_to_decide(results):
            price = _price(need, one, tried, training)
            undecided.append(f"  {name}{need.label}: needs {need.look} seeds, {price} more")
    if budget and lacking:
        lacking.insert(0, f"undecided for lack of budget ({budget.text}):")
    if undecided:
        undecided.insert(0, "undecided; for 80% power, if the observed difference is the true one:")
    return [*lacking, *undecided]


def _price(need: Need, experiment: Experiment, tried: Sequence[str], training: Training) -> str:
    """Return what the runs take that a comparison needs, but those that were tried."""
    group = ExperimentGroup((experiment.up_to(need.look),)).with_needs([need])
    try:
        return str(price_of(group, training.store, training.workers, training.purse.unit, skip=tried))
    except InputError:  # existing runs with these seeds are damaged, or of another kind of device
        return "an unknown time"


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
