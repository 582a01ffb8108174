"""Trains the missing runs of experiments, for the command line, tuning and Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console

from sac_bench.errors import InputError
from sac_bench.execution import plan as planning
from sac_bench.execution.budget import Price, Purse, TimeLimit, Unit, affordable, price
from sac_bench.execution.calibration import Basis, Calibration, measurements
from sac_bench.execution.display import Display
from sac_bench.execution.engine import Engine, Projected
from sac_bench.execution.launch import HERE, Launcher
from sac_bench.execution.machine import available_memory, choose_gpus, cores, resolve_device, visible_gpus
from sac_bench.execution.plan import Plan
from sac_bench.execution.warm_start import settle
from sac_bench.spec.experiment import Experiment, ExperimentGroup, Need
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
    gpus: Sequence[str] = ()
    """GPUs as CUDA_VISIBLE_DEVICES names them. Each worker sees one of them."""
    limit: TimeLimit = field(default_factory=TimeLimit)
    waits: bool = True
    """Whether to wait for cohorts that other processes train."""
    of_all: int = 0
    """The workers of all commands that share the folder, if they are more: a plan has cohorts for all of them."""
    launcher: Launcher = HERE
    """What starts them."""

    @staticmethod
    def on(
        device: str = "auto",
        count: int | None = None,
        runs: int | None = None,
        imports: Sequence[str] = (),
        gpus: str | None = None,
        limit: TimeLimit | None = None,
    ) -> Workers:
        """Choose the device and, if `count` is None, one worker per core or GPU, at most `runs`.

        gpus: "all", the default, or places such as "0,1". Raises InputError unless the device and the GPUs exist and
        the count is between 1 and 1024.
        """
        _check_count(count)
        chosen = resolve_device(device)
        if gpus is not None and chosen == "cpu":
            raise InputError(f"--gpus {gpus}: this command trains on the CPU; use --device cuda, or leave out --gpus")
        seen = choose_gpus(gpus or "all", visible_gpus()) if chosen == "cuda" else ()
        places = len(seen) if chosen == "cuda" else cores()
        return Workers(chosen, count or min(places, runs or places), tuple(imports), seen, limit or TimeLimit())

    @staticmethod
    def on_ray(
        address: str = "auto",
        device: str = "auto",
        count: int | None = None,
        runs: int | None = None,
        imports: Sequence[str] = (),
        limit: TimeLimit | None = None,
    ) -> Workers:
        """Connect to a Ray cluster and choose the device and, if `count` is None, a worker per place, at most `runs`.

        Raises InputError if Ray is not installed, there is no cluster, or it has no place for a worker.
        """
        _check_count(count)
        try:
            from sac_bench.execution.on_ray import Cluster
        except ImportError as error:
            if error.name != "ray":
                raise
            raise InputError("--engine ray: Ray is not installed: pip install 'sac_bench[ray]'") from None
        cluster = Cluster.at(address, device, count)
        places = cluster.places() or 1
        return Workers(
            cluster.device,
            count or min(places, runs or places),
            tuple(imports),
            limit=limit or TimeLimit(),
            launcher=cluster,
        )

    @property
    def memory(self) -> float:
        """The bytes that each worker may take."""
        if (elsewhere := self.launcher.memory) is not None:
            return elsewhere
        return 0.9 * available_memory(self.device, self.gpus) / math.ceil(self.count / max(1, len(self.gpus)))


def _check_count(count: int | None) -> None:
    if count is not None and not 1 <= count <= MAX_WORKERS:
        raise InputError(f"workers: must be between 1 and {MAX_WORKERS}, not {count}")


def plan(
    experiments: ExperimentGroup, store: Store, workers: Workers, retrain: bool = False, skip: Sequence[str] = ()
) -> Plan:
    """Plan the runs that experiments lack, but those with ids in `skip`. Raises InputError for what cannot be done."""
    with located(experiments.source):
        return planning.make_plan(
            experiments,
            store,
            workers.count,
            workers.memory,
            workers.device,
            retrain,
            skip=frozenset(skip),
            of_all=workers.of_all,
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
    needs: Callable[[ExperimentGroup], Sequence[Need]] = lambda _: (),
    purse: Purse | None = None,
    skip: Collection[str] = (),
) -> ExperimentGroup:
    """Train the runs that experiments lack, but those with ids in `skip`.

    Runs that start from others' weights follow in later plans.

    `planned` is called once each plan is written, before its training starts. `needs` is called when all runs have
    ended or failed; it returns what comparisons need for their next looks. Those that fit into the purse are trained,
    until none is left that does. No run is tried twice. Return the experiments as they were trained last. Raises
    InputError for what cannot be done, before anything is written, OverBudget if the first look does not fit, and
    OutOfTime or LeftToOthers if the workers leave cohorts. If a later look cannot be trained, the console says why.
    """
    purse, tried, is_first, trained = purse or Purse(), list(skip), True, experiments

    def amount(some: Sequence[Need]) -> float:
        return price_of(experiments.with_needs(some), store, workers, purse.unit, retrain, tried).amount

    if not store.root.exists():
        plan(experiments, store, workers, retrain, tried)
    with store.planner() as planner:
        while True:
            with store.planning():
                try:
                    current = plan(experiments, store, workers, retrain, tried)
                except InputError as error:
                    if is_first:
                        raise
                    console.print(f"no further look: {error}", highlight=False)
                    return trained
                if is_first and purse.budget:
                    takes = _price(current, experiments, store, workers, purse.unit)
                    if takes.basis is Basis.MEASURED:  # otherwise rates are measured first
                        purse.require(takes)
                planning.write(current, store, planner, keep_replay)
            planned(experiments, current)
            current = replace(current, names=experiments.names())
            carry_out(current, store, workers, console, purse.watch if is_first else _ignore)
            purse.pay(current)
            trained = experiments
            tried += [spec.id for cohort in current.cohorts for spec in cohort.runs]
            if settle(current.waiting, store):
                continue
            try:
                wave = affordable(needs(experiments), amount, purse.left())
            except InputError as error:
                wave = []
                console.print(f"no further look: {error}", highlight=False)
            if not wave:
                return experiments
            grown, is_first = experiments.with_needs(wave), False
            for before, after in zip(experiments.experiments, grown.experiments, strict=True):
                if more := _more_seeds(before, after):
                    console.print(f"{after.name}: more seeds for {more}", highlight=False)
            experiments = grown


def price_of(
    experiments: ExperimentGroup,
    store: Store,
    workers: Workers,
    unit: Unit,
    retrain: bool = False,
    skip: Sequence[str] = (),
) -> Price:
    """Return what it takes to train the runs that experiments lack, but those with ids in `skip`. Writes nothing."""
    return _price(plan(experiments, store, workers, retrain, skip), experiments, store, workers, unit)


def prices_of_looks(
    experiments: ExperimentGroup, store: Store, workers: Workers, unit: Unit, retrain: bool = False
) -> Iterator[Price]:
    """Yield what each look takes if nothing is decided before."""
    seen: list[str] = []
    for at_look in experiments.at_looks():
        yield price_of(at_look, store, workers, unit, retrain, seen)
        seen = [spec.id for _, spec in at_look.runs()]


def _price(plan: Plan, experiments: ExperimentGroup, store: Store, workers: Workers, unit: Unit) -> Price:
    envs = {cohort.runs[0].env for cohort in plan.cohorts} | {spec.env for spec in plan.waiting}
    known = measurements(store, envs, workers.launcher.machine(workers.device)) if envs else {}
    return price(plan, experiments, unit, Calibration(known.values()), workers.count)


def _more_seeds(before: Experiment, after: Experiment) -> str:
    """Return "sac (to 16), one-q (to 8) on Hopper-v5": the seeds that variants have next; "" if no more."""
    of_env: dict[str, list[str]] = {}
    for (env, variant), seeds in after.allotment.items():
        if seeds > before.allotment[env, variant]:
            of_env.setdefault(env, []).append(f"{variant} (to {seeds})")
    return "; ".join(f"{', '.join(variants)} on {env}" for env, variants in of_env.items())


def _ignore(_: object) -> None:
    """Do nothing."""


def carry_out(plan: Plan, store: Store, workers: Workers, console: Console, projected: Projected = _ignore) -> None:
    """Train a plan's cohorts in worker processes, with their progress on the console.

    `projected` is called as in Engine. Raises OutOfTime and LeftToOthers as Engine does.
    """
    if plan.cohorts:
        Engine(
            plan,
            store,
            device=workers.device,
            workers=workers.count,
            imports=workers.imports,
            display=Display(console),
            projected=projected,
            gpus=workers.gpus,
            limit=workers.limit,
            waits=workers.waits,
            launcher=workers.launcher,
        ).run()
