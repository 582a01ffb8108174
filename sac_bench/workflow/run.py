"""Runs experiments from their files to their reports, for the command line and Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sac_bench.errors import InputError
from sac_bench.execution.worker_options import WorkerOptions
from sac_bench.report.page import Page
from sac_bench.report.results import Results, load_results
from sac_bench.spec.experiment import Experiment, ExperimentGroup
from sac_bench.spec.load import Changes
from sac_bench.spec.names import find
from sac_bench.spec.seeds import Seeds
from sac_bench.store.store import Store
from sac_bench.workflow.prepare import prepare
from sac_bench.workflow.reports import Pages, index, reported, write_reports
from sac_bench.workflow.training import Training, collect_and_report, outlook, train_and_collect, with_choices


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
    gpus: str | None = None,
    engine: str = "local",
    address: str | None = None,
    keep_replay: bool = False,
    retrain: bool = False,
    mix_devices: bool = False,
    budget: str | None = None,
    results: str | Path = "results",
) -> Results:
    """Run an experiment as `sac-bench run` does, with progress on the terminal or in the notebook; return its results.

    `experiment` is a file or a name that `sac-bench list` shows. The other arguments are the command's options --seeds
    (5, [3, 4] or "5..30"), --steps, --env, --variant, --set, --budget ("8h"), --engine ("ray") and so on. Runs that the
    results folder contains already are reused. For user-defined environments and algorithms use the command line, whose
    --import loads them in the workers, too. Raises InputError for what cannot be done.
    """
    changes: Changes = {
        "seeds": seeds,
        "steps": steps,
        "envs": _listed(envs),
        "variants": _listed(variants),
        "settings": _listed(settings),
        "name": name,
        "quick": quick,
        "mix_devices": mix_devices,
    }
    arguments = "".join(f", {key}={value!r}" for key, value in (dict(changes) | {"budget": budget}).items() if value)
    group, training = prepare(
        [find(experiment)],
        changes,
        Store(results),
        WorkerOptions(device, workers, gpus, engine, address),
        Console(markup=False, emoji=False),
        f"sac_bench.run({str(experiment)!r}{arguments})",
        budget=budget,
        keep_replay=keep_replay,
        retrain=retrain,
    )
    train_and_report(group, training)
    return load_results(group.experiments[0].name, training.store.root)


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def train_and_report(experiments: ExperimentGroup, training: Training) -> ExperimentGroup:
    """Train the missing runs of experiments, write their reports, and print undecided comparisons and written files.

    Several experiments also get an index of all experiments in the folder. Return the experiments with their final
    options and seeds. Raises InputError if a report could not be written, after writing all others.
    """
    group = train_and_collect(with_choices(experiments, training), training)
    alone, folder = len(group.experiments) == 1, training.store.root
    pages: Pages = {one.name: _page(one, training, alone) for one in group.experiments}
    if not alone:
        others = [name for name in reported(folder) if name not in pages]
        training.say(index(folder, pages | write_reports(folder, others, training.say)))
    for line in outlook(group, training):
        training.say(line)
    for write in training.trackers:
        for one in group.experiments:
            training.say(f"events: {write(training.store.experiment(one.name))}")
    if broken := [f"{name}: {page}" for name, page in pages.items() if isinstance(page, str)]:
        raise InputError("; ".join(broken))
    return group


def _page(experiment: Experiment, training: Training, alone: bool) -> Page | str:
    """Write an experiment's report; return its page. If this fails, return the reason, or raise if it is alone."""
    try:
        results, page = collect_and_report(experiment, training)
        training.reported(experiment, results, page)
    except InputError as error:
        if alone:
            raise
        return str(error)
    return page
