"""Run experiments: train what they lack, collect their tables, and write their reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from sac_bench.analysis.choice import choose
from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.plan import Plan
from sac_bench.execution.train import Workers, train
from sac_bench.report.experiment import write_report as write_experiment_report
from sac_bench.report.index import write_index
from sac_bench.report.page import Page
from sac_bench.results.collect import collect
from sac_bench.results.load import Results, load_results
from sac_bench.results.manifest import FILE
from sac_bench.spec.experiment import Experiment, ExperimentGroup
from sac_bench.spec.includes import find
from sac_bench.spec.load import load
from sac_bench.store.store import Store

Pages = dict[str, Page | str]
"""{experiment: its page, or why it could not be written}."""


def run(
    experiment: str | Path,
    *,
    seeds: int | None = None,
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

    `experiment` is a file, or the name of one in experiments/. The other arguments are the command's options --seeds,
    --steps, --env, --variant, --set and so on. Runs that the results folder contains already are reused. For
    user-defined environments and algorithms use the command line, whose --import loads them in the workers, too. Raises
    InputError for what cannot be done.
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
    options = {"command": command, "keep_replay": keep_replay, "retrain": retrain}
    group = with_choices(group, store, team, console, **options)  # type: ignore[arg-type]
    train_and_collect(group, store, team, console, **options)  # type: ignore[arg-type]
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


def with_choices(
    experiments: ExperimentGroup,
    store: Store,
    workers: Workers,
    console: Console,
    *,
    command: str,
    keep_replay: bool = False,
    retrain: bool = False,
    planned: Callable[[Plan], None] = lambda _: None,
) -> ExperimentGroup:
    """Train and report the candidates of experiments with [choose]; return the experiments with the best ones.

    Raises InputError if nothing can be chosen.
    """
    if selections := experiments.selection():
        train_and_collect(
            selections,
            store,
            workers,
            console,
            command=command,
            keep_replay=keep_replay,
            retrain=retrain,
            planned=planned,
        )
    chosen = []
    for one in experiments.experiments:
        if selection := one.selection():
            results, _ = report_one(selection, store, console, command)
            one = one.with_choices(choose(one, results))
        chosen.append(one)
    return ExperimentGroup(tuple(chosen))


def train_and_collect(
    experiments: ExperimentGroup,
    store: Store,
    workers: Workers,
    console: Console,
    *,
    command: str,
    keep_replay: bool = False,
    retrain: bool = False,
    planned: Callable[[Plan], None] = lambda _: None,
) -> None:
    """Train what experiments lack. Their folders list their runs from the start, so that nothing frees them."""

    def list_runs(plan: Plan) -> None:
        planned(plan)
        if plan.cohorts:
            for experiment in experiments.experiments:
                collect(store, experiment, command, measured=False)

    train(experiments, store, workers, console, keep_replay=keep_replay, retrain=retrain, planned=list_runs)


def report_one(experiment: Experiment, store: Store, console: Console, command: str) -> tuple[Results, Page]:
    """Collect an experiment's tables and write its report; return both."""
    started = {spec.env for _, spec in experiment.runs() if store.run(spec.id).status()["steps"]}
    for failure in measure_random_policies(store, sorted(started)):
        console.print(failure, highlight=False, soft_wrap=True)
    results = collect(store, experiment, command)
    return results, write_experiment_report(store.experiment(experiment.name))


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
