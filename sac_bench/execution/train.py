"""Trains the missing runs of experiments, for the command line, tuning and Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from sac_bench.errors import InputError
from sac_bench.execution import plan as planning
from sac_bench.execution.budget import Price, Purse, Unit, affordable, price
from sac_bench.execution.calibration import Basis, Calibration, measurements
from sac_bench.execution.display import Display
from sac_bench.execution.engine import Engine, Projected
from sac_bench.execution.plan import Plan
from sac_bench.execution.warm_start import settle
from sac_bench.execution.worker_options import Workers
from sac_bench.spec.experiment import Experiment, ExperimentGroup, Need
from sac_bench.spec.toml import located
from sac_bench.store.store import Store

Planned = Callable[[ExperimentGroup, Plan], None]
"""What is done with each plan, and the experiments it is for."""


def plan(
    experiments: Experiment | ExperimentGroup,
    store: Store,
    workers: Workers,
    retrain: bool = False,
    skip: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> Plan:
    """Plan the missing runs of experiments, except those with ids in `skip`. Raises InputError for what cannot be done.

    labels: {run id: label}; new runs with different labels do not share a cohort.
    """
    with located(experiments.source):
        return planning.make_plan(
            experiments,
            store,
            workers.count,
            workers.memory,
            workers.device,
            retrain,
            labels,
            frozenset(skip),
            workers.of_all,
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
    """Train the missing runs of experiments, except those with ids in `skip`.

    Runs that start from others' weights follow in later plans.

    `planned` is called once each plan is written, before its training starts. `needs` is called when all runs have
    ended or failed; it returns the needs of comparisons for their next looks. Needs that fit into the purse are
    trained, until no other fits. No run is tried twice. Return the experiments as they were last trained. Raises
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
    """Return the price of the missing runs of experiments, except those with ids in `skip`. Write nothing."""
    return _price(plan(experiments, store, workers, retrain, skip), experiments, store, workers, unit)


def prices_of_looks(
    experiments: ExperimentGroup, store: Store, workers: Workers, unit: Unit, retrain: bool = False
) -> Iterator[Price]:
    """Yield the price of each look if nothing is decided before it."""
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
