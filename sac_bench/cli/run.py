"""sac-bench run: train the missing runs of experiments, then write their tables, figures and reports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sac_bench.cli.common import (
    LEFT_TO_OTHERS,
    OUT_OF_TIME,
    AddressOption,
    DeviceOption,
    EngineOption,
    GpusOption,
    ImportOption,
    MixDevicesOption,
    QuietOption,
    ResultsOption,
    RetrainOption,
    TrackOption,
    UntilOption,
    WorkersOption,
    app,
    command_line,
    complete_experiment,
    console,
    import_modules,
    say,
    trackers,
    user_errors,
    whole_number,
)
from sac_bench.envs import output
from sac_bench.errors import counted, one_line, redacted

if TYPE_CHECKING:
    import pandas as pd

    from sac_bench.execution.plan import Plan
    from sac_bench.execution.train import Planned
    from sac_bench.report.page import Page
    from sac_bench.results.load import Results
    from sac_bench.spec.experiment import Experiment, ExperimentGroup
    from sac_bench.workflow.training import Reported, Training


@app.command(short_help="Train missing runs, then write tables, figures and a report.")
def run(
    experiments: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|FILE|FOLDER",
            help="Names that sac-bench list shows, files, or folders.",
            autocompletion=complete_experiment,
            show_default=False,
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Use the files' [quick] tables; results are in NAME-quick.")
    ] = False,
    seeds: Annotated[
        Optional[str],
        typer.Option(
            metavar="N|A,B,...|A..B",
            help="N seeds per variant; or a list of seeds, 0,1,2 or 0..2; or A seeds, up to B where undecided.",
        ),
    ] = None,
    steps: Annotated[
        Optional[int], typer.Option(metavar="N", parser=whole_number, help="Transitions per run: 300000, 1e6 or 1M.")
    ] = None,
    env: Annotated[
        list[str], typer.Option(metavar="ID", help="Environment to use instead of the file's. Repeatable.")
    ] = [],
    variant: Annotated[list[str], typer.Option(metavar="NAME", help="Only this variant. Repeatable.")] = [],
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override [base]. Repeatable.")] = [],
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    results: ResultsOption = Path("results"),
    name: Annotated[Optional[str], typer.Option(help="Write to results/NAME instead of the file's name.")] = None,
    import_: ImportOption = [],
    keep_replay: Annotated[
        bool, typer.Option("--keep-replay", help="Keep replays, so that finished runs can be continued to more steps.")
    ] = False,
    retrain: RetrainOption = False,
    mix_devices: MixDevicesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    budget: Annotated[
        Optional[str],
        typer.Option(metavar="TIME|N transitions", help="90min, 8h, 2d or 5M transitions: limits the number of seeds."),
    ] = None,
    until: UntilOption = None,
    plan_for: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Plan for N workers in all commands that share the folder."),
    ] = 0,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for runs that other commands train: end without a report.")
    ] = False,
    shard: Annotated[
        Optional[str],
        typer.Option(metavar="I/N", help="Train only share I of N (fixed by run ids); sac-bench merge joins them."),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Same as --track tensorboard.")] = False,
    track: TrackOption = [],
    quiet: QuietOption = False,
) -> None:
    """Train the missing runs of experiments, then write tables, figures and reports. Identical runs are trained once.

    Exit code: 0 if every run ended (diverged runs have ended, too), 1 if some failed, 2 for bad
    input, 3 if --until leaves runs, 4 if --no-wait leaves runs to other commands, 130 if interrupted.
    """
    with user_errors():
        import_modules(import_)
        from sac_bench.execution.budget import TimeLimit
        from sac_bench.execution.worker_options import WorkerOptions
        from sac_bench.spec.includes import files as experiment_files
        from sac_bench.spec.load import Changes
        from sac_bench.spec.names import find_all
        from sac_bench.spec.seeds import typed
        from sac_bench.store.status import ENDED
        from sac_bench.store.store import Store
        from sac_bench.workflow.prepare import prepare
        from sac_bench.workflow.run import train_and_report

        limit = TimeLimit() if until is None else TimeLimit.parse(until)
        writers = trackers(track, tensorboard)
        changes: Changes = {
            "seeds": None if seeds is None else typed(seeds),
            "steps": steps,
            "envs": env,
            "variants": variant,
            "settings": set_,
            "name": name,
            "quick": quick,
            "mix_devices": mix_devices,
        }
        group, training = prepare(
            experiment_files(find_all(experiments)),
            changes,
            Store(results),
            WorkerOptions(device, workers, gpus, engine, address, import_, limit, not no_wait, plan_for),
            console,
            redacted(command_line()),
            budget=budget,
            shard=shard,
            keep_replay=keep_replay,
            retrain=retrain,
        )
        if dry_run:
            _print_dry_run(group, training)
            return
        output.keep_in(training.store.environment_log)
        with _how_to_continue(group, training, until) as planned:
            training = replace(training, planned=planned, reported=_printer(group, training), trackers=writers)
            group = train_and_report(group, training)
        if not set(training.own_runs(group)["status"]) <= set(ENDED):
            raise typer.Exit(1)


@contextmanager
def _how_to_continue(group: ExperimentGroup, training: Training, until: str | None) -> Iterator[Planned]:
    """Say what is left if training stops before its end, and how to continue; yield what prints each plan."""
    from sac_bench.execution.budget import LeftToOthers, OutOfTime
    from sac_bench.results.collect import runs_of
    from sac_bench.workflow.prepare import trained_first

    trained = trained_first(group)

    def planned(experiments: ExperimentGroup, plan: Plan) -> None:
        nonlocal trained
        trained = experiments
        _print_plan(experiments, plan, training, starts=True)

    def left() -> str:
        return _count(runs_of(training.store, trained))

    try:
        yield planned
    except KeyboardInterrupt:
        print(f"sac-bench: {left()}; continue with: {training.command}", file=sys.stderr)
        raise
    except OutOfTime:
        reached = f"the limit --until {until} has been reached"
        print(f"sac-bench: {reached}: {left()}; continue with: {training.command}", file=sys.stderr)
        raise typer.Exit(OUT_OF_TIME) from None
    except LeftToOthers:
        print(f"sac-bench: {left()}; other commands train the rest{_what_follows(group)}", file=sys.stderr)
        raise typer.Exit(LEFT_TO_OTHERS) from None


def _what_follows(group: ExperimentGroup) -> str:
    """Return who trains what results decide once other commands train the rest; "" if they decide nothing."""
    decided = any(one.seed_range or one.choose for one in group.experiments)
    if not (decided or any(spec.start for _, spec in group.runs())):
        return ""
    return (
        ". What follows from their results (more seeds, chosen options, runs that start from others) is trained by "
        "the one that ends last; start this command again to take part"
    )


def _count(runs: pd.DataFrame) -> str:
    """Return how many runs have which status: "3 finished, 2 interrupted (at 10,000 to 20,000 steps); 1 exploded"."""
    words, runs = [], runs.drop_duplicates("run_id")
    for status, steps in runs.groupby("status", sort=False)["steps"]:
        low, high = steps.min(), steps.max()
        between = f"{low:,} to {high:,}" if low < high else f"{low:,}"
        words.append(f"{len(steps)} {status}" + (f" (at {between} steps)" if high and status != "finished" else ""))
    exploded = runs["exploded"].notna().sum()
    return ", ".join(words) + (f"; {exploded} exploded" if exploded else "")


def _printer(group: ExperimentGroup, training: Training) -> Reported:
    """Return what prints an experiment's report; in a few lines unless it is alone."""
    alone = len(group.experiments) == 1

    def reported(experiment: Experiment, results: Results, page: Page) -> None:
        folder = training.store.experiment(experiment.name)
        if alone:
            say((folder / "tables" / "final.txt").read_text(encoding="utf-8"))
        else:
            say(f"\n{experiment.name}: {page.question}")
        if experiment.claim or experiment.backends or not alone:
            say("\n".join(page.answer.paragraphs))
        console.print(_count(results.runs), highlight=False)
        say(f"report: {folder / 'report.html'}   figures: {folder / 'figures'}")

    return reported


def _most(experiment: Experiment) -> str:
    """Return how many seeds an experiment with a range has first, and how many it may get."""

    def of_reference(look: int) -> str:
        seeds = experiment.at_look(look)[experiment.envs[0], experiment.reference]
        return f" (reference: {seeds})" if seeds > look else ""

    assert experiment.seed_range
    first, last = experiment.seed_range.first, experiment.seed_range.last
    return (
        f"{experiment.name}: {first} seeds per variant at first{of_reference(first)}; at most {last} seeds"
        f"{of_reference(last)} and {sum(experiment.at_look(last).values()):,} runs in total"
    )


def _print_dry_run(group: ExperimentGroup, training: Training) -> None:
    """Print what would be trained next, and what may follow.

    This is the first of these that lacks runs: the candidates of [choose], the first look, and the later looks that
    existing results require.
    """
    from sac_bench.cli import plan as summary
    from sac_bench.execution.train import plan, price_of, prices_of_looks
    from sac_bench.workflow.prepare import trained_first
    from sac_bench.workflow.training import at_next_look, expected, lacks_runs

    first, comparison, budget = trained_first(group), expected(group, training), training.purse.budget
    chooses = first is not group and lacks_runs(first, training)
    shown = first if chooses else at_next_look(comparison, training)
    left_out = tuple(training.left_out(shown))
    current = plan(shown, training.store, training.workers, training.retrain, left_out)
    _print_plan(shown, current, training)
    for one in group.experiments:
        if one.seed_range:
            say(_most(one))
    how = (training.store, training.workers, budget.unit if budget else "seconds", training.retrain)
    price = price_of(shown, *how, left_out)
    if budget and (chooses or (current.cohorts and shown is comparison)):
        looks = [one.seed_range.looks for one in group.experiments if one.seed_range]
        say(summary.bought(budget, prices_of_looks(comparison, *how), looks, price if chooses else None))
    elif budget and current.cohorts:
        say(summary.next_look(budget, price))
    elif chooses:
        say(f"These runs choose options. The comparison follows: its first runs take {price_of(comparison, *how)}")


def _print_plan(group: ExperimentGroup, plan: Plan, training: Training, starts: bool = False) -> None:
    """Print what is trained, reused and left for later, how long it takes and what it needs.

    starts: whether training follows.
    """
    from sac_bench.cli import plan as summary
    from sac_bench.envs.checking import objection
    from sac_bench.execution.calibration import Calibration, measurements
    from sac_bench.execution.checkpoint import CohortDirectory
    from sac_bench.execution.cost import evaluation_share
    from sac_bench.execution.machine import cannot_compile
    from sac_bench.execution.plan import superseded
    from sac_bench.spec import backends

    store, workers = training.store, training.workers
    envs = list(dict.fromkeys(cohort.runs[0].env for cohort in plan.cohorts))
    calibration = Calibration(measurements(store, envs, workers.launcher.machine(workers.device)).values())
    titles = [one_line(f"{one.name}: {one.question}" if one.question else one.name) for one in group.experiments]
    totals = [summary.total(plan, calibration, workers), f"runs: {', '.join(summary.standings(plan))}"]
    for line in [*titles, *totals] if len(titles) == 1 else [*totals, *titles]:
        console.print(line, highlight=False)
    for one in group.experiments:
        if one.backends:
            say(f"{f'{one.name}: ' if len(titles) > 1 else ''}backends: {backends.shown(one.backends, one.envs)}")
    for (on, difference), count in superseded(group, store).items():
        were, they = ("were", "they are") if count > 1 else ("was", "it is")
        say(f"{counted(count, 'run')} of {on} {were} trained with {difference}; {they} kept and not used")
    if not plan.cohorts:
        return
    for env in envs:
        if objected := objection(env):
            say(one_line(f"{env}: is used, although Gymnasium's check_env warns: {objected}"))
    on_disk = {one.id: CohortDirectory(store.cohort(one.id)).size() for one in plan.cohorts if not one.is_new}
    lines = summary.shapes(plan, calibration, {spec.id: variant.name for variant, spec in reversed(group.runs())})
    for line in [*lines, *summary.resources(plan, workers.count, on_disk, training.keep_replay)]:
        say(line)
    of_steps, of_time = evaluation_share(c.cost for c in plan.cohorts)
    say(f"evaluations: up to {of_steps:.0%} of the environment steps, roughly {of_time:.0%} of the time")
    if starts and (reason := cannot_compile()):
        say(reason)
