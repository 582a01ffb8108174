"""Loads experiments and makes all checks that are possible before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sac_bench.errors import InputError
from sac_bench.execution.budget import Purse
from sac_bench.execution.worker_options import WorkerOptions
from sac_bench.results.replaced import check_not_replaced
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.load import Changes, load
from sac_bench.spec.shard import Shard
from sac_bench.store.store import Store
from sac_bench.workflow.training import Training


def prepare(
    files: Sequence[Path],
    changes: Changes,
    store: Store,
    workers: WorkerOptions,
    console: Console,
    command: str,
    *,
    budget: str | None = None,
    shard: str | None = None,
    keep_replay: bool = False,
    retrain: bool = False,
) -> tuple[ExperimentGroup, Training]:
    """Return the experiments in files with a command's changes, and how they are trained. Write nothing.

    Raises InputError for what cannot be done.
    """
    name = changes.get("name")
    if name is not None and len(files) > 1:
        raise InputError(f"--name {name}: requires one experiment, not {len(files)}")
    share = None if shard is None else Shard.parse(shard)
    group = ExperimentGroup(tuple(load(file, **changes) for file in files))
    purse = Purse.of(budget, group)
    first = trained_first(group)
    own = {spec.id for _, spec in first.runs()}
    if share:
        for one in group.experiments:
            share.check(one)
        own -= share.left_out(first)
    _check_folders(group, store, is_named=name is not None)
    team = workers.choose(max(1, len(own)))
    if team.note:
        console.print(team.note, highlight=False, soft_wrap=True)
    return group, Training(store, team, console, command, keep_replay, retrain, purse=purse, shard=share)


def trained_first(experiments: ExperimentGroup) -> ExperimentGroup:
    """Return what is trained first: the candidates of [choose], or the experiments if they choose nothing."""
    return experiments.selection() or experiments


def _check_folders(experiments: ExperimentGroup, store: Store, is_named: bool) -> None:
    """Raise InputError if results of experiments would share a folder, or replace others that --name does not name."""
    selection = experiments.selection()
    folders = [one.name for one in (*experiments.experiments, *(selection.experiments if selection else ()))]
    if repeated := [name for name, times in Counter(folders).items() if times > 1]:
        raise InputError(f"{repeated[0]}: the name is duplicated in these files, which would share a folder")
    store.check_layout()
    for folder in folders:
        store.check_writable(folder)
    for one in () if is_named else experiments.experiments:
        check_not_replaced(one, store)
