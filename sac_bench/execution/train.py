"""The use case: train what experiments lack. The command line, tuning and Python call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from sac_bench.errors import InputError
from sac_bench.execution import plan as planning
from sac_bench.execution.engine import Engine
from sac_bench.execution.machine import available_memory, cores, resolve_device
from sac_bench.execution.plan import Plan
from sac_bench.execution.progress import Display
from sac_bench.execution.warm_start import settle
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.toml import located
from sac_bench.store.store import Store

MAX_WORKERS = 1024
Planned = Callable[[ExperimentGroup, Plan], None]
"""What is done with each plan, and the experiments it is for."""


@dataclass(frozen=True)
class Workers:
    """The processes that train: their device ("cpu", "cuda"), how many there are, and the modules they import."""

    device: str
    count: int
    imports: Sequence[str] = ()

    @staticmethod
    def on(
        device: str = "auto", count: int | None = None, runs: int | None = None, imports: Sequence[str] = ()
    ) -> Workers:
        """Choose the device and, if `count` is None, one worker per core on a CPU (at most `runs`) and one on a GPU.

        Raises InputError unless the device exists and the count is between 1 and 1024.
        """
        if count is not None and not 1 <= count <= MAX_WORKERS:
            raise InputError(f"workers: must be between 1 and {MAX_WORKERS}, not {count}")
        chosen = resolve_device(device)
        automatic = min(cores(), runs or cores()) if chosen == "cpu" else 1
        return Workers(chosen, count or automatic, tuple(imports))

    @property
    def memory(self) -> float:
        """The bytes that each worker may take."""
        return 0.9 * available_memory(self.device) / self.count


def plan(
    experiments: ExperimentGroup, store: Store, workers: Workers, retrain: bool = False, skip: Sequence[str] = ()
) -> Plan:
    """Plan the runs that experiments lack, but those with ids in `skip`. Raises InputError for what cannot be done."""
    with located(experiments.source):
        return planning.make_plan(
            experiments, store, workers.count, workers.memory, workers.device, retrain, skip=frozenset(skip)
        )


def train(
    experiments: ExperimentGroup,
    store: Store,
    workers: Workers,
    console: Console,
    *,
    keep_replay: bool = False,
    retrain: bool = False,
    planned: Planned = lambda *_: None,
    grow: Callable[[ExperimentGroup], ExperimentGroup | None] = lambda _: None,
) -> ExperimentGroup:
    """Train the runs that experiments lack; runs that start from others' weights follow in later plans.

    `planned` is called once each plan is written, before its training starts. `grow` is called when all runs have ended
    or failed; it returns the experiments with the runs to train next, or None. No run is tried twice. Return the
    experiments as they were trained last. Raises InputError for what cannot be done, before anything is written.
    """
    tried: list[str] = []
    if not store.root.exists():
        plan(experiments, store, workers, retrain)
    with store.planner() as planner:
        while True:
            with store.planning():
                current = plan(experiments, store, workers, retrain, tried)
                planning.write(current, store, planner, keep_replay)
            planned(experiments, current)
            carry_out(current, store, workers, console)
            tried += [spec.id for cohort in current.cohorts for spec in cohort.runs]
            if settle(current.waiting, store):
                continue
            if (grown := grow(experiments)) is None:
                return experiments
            experiments = grown


def carry_out(plan: Plan, store: Store, workers: Workers, console: Console) -> None:
    """Train a plan's cohorts in worker processes, with their progress on the console."""
    if plan.cohorts:
        Engine(
            plan,
            store,
            device=workers.device,
            workers=workers.count,
            imports=workers.imports,
            display=Display(console, workers.count),
        ).run()
