"""sac-bench run: train the missing runs of experiments, then write their tables, figures and reports."""

from __future__ import annotations

import sys
from collections import Counter
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
    team_of,
    trackers,
    user_errors,
    whole_number,
)
from sac_bench.envs import output
from sac_bench.errors import InputError, counted, one_line, redacted

if TYPE_CHECKING:
    import pandas as pd

    from sac_bench.execution.budget import Budget
    from sac_bench.execution.plan import Plan
    from sac_bench.execution.train import Workers
    from sac_bench.report.page import Page
    from sac_bench.spec.experiment import Experiment, ExperimentGroup
    from sac_bench.store.store import Store


@app.command()
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
            help="N seeds per variant; or a list of seeds; or A seeds, up to B where undecided.",
        ),
    ] = None,
    steps: Annotated[
        Optional[int], typer.Option(metavar="N", parser=whole_number, help="Transitions per run: 300000, 1e6 or 1M.")
    ] = None,
    env: Annotated[
        list[str], typer.Option(metavar="ID", help="Environment to use instead of the file's. Repeatable.")
    ] = [],  # noqa: B006
    variant: Annotated[list[str], typer.Option(metavar="NAME", help="Only this variant. Repeatable.")] = [],  # noqa: B006
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override [base]. Repeatable.")] = [],  # noqa: B006
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    results: ResultsOption = Path("results"),
    name: Annotated[Optional[str], typer.Option(help="Write to results/NAME instead of the file's name.")] = None,
    import_: ImportOption = [],  # noqa: B006
    keep_replay: Annotated[
        bool, typer.Option(help="Keep replays, so that finished runs can be continued to more steps.")
    ] = False,
    retrain: RetrainOption = False,
    mix_devices: MixDevicesOption = False,
    dry_run: Annotated[bool, typer.Option(help="Only print the plan.")] = False,
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
    track: TrackOption = [],  # noqa: B006
    quiet: QuietOption = False,
) -> None:
    """Train the missing runs of experiments, then write tables, figures and reports. Identical runs are trained once.

    Exit code: 0 if every run ended (diverged runs have ended, too), 1 if some failed, 2 for bad
    input, 3 if --until leaves runs, 4 if --no-wait leaves runs to other commands, 130 if interrupted.
    """
    with user_errors():
        import_modules(import_)
        from sac_bench.execution import train as training
        from sac_bench.execution.budget import LeftToOthers, OutOfTime, Purse, TimeLimit
        from sac_bench.report import run as running
        from sac_bench.results.collect import runs_of
        from sac_bench.results.replaced import check_not_replaced
        from sac_bench.spec.experiment import ExperimentGroup
        from sac_bench.spec.includes import files as experiment_files
        from sac_bench.spec.load import load
        from sac_bench.spec.names import find_all
        from sac_bench.spec.seeds import typed
        from sac_bench.spec.shard import Shard
        from sac_bench.store.status import ENDED
        from sac_bench.store.store import Store

        limit = None if until is None else TimeLimit.parse(until)
        share = None if shard is None else Shard.parse(shard)
        writers = trackers(track, tensorboard)
        files = experiment_files(find_all(experiments))
        if name is not None and len(files) > 1:
            raise InputError(f"--name {name}: requires one experiment, not {len(files)}")
        group = ExperimentGroup(
            tuple(
                load(
                    file,
                    seeds=seeds if seeds is None else typed(seeds),
                    steps=steps,
                    envs=env,
                    variants=variant,
                    settings=set_,
                    name=name,
                    quick=quick,
                    mix_devices=mix_devices,
                )
                for file in files
            )
        )
        purse = Purse.of(budget, group)
        if share:
            for one in group.experiments:
                share.check(one)
        selection = group.selection()
        folders = [one.name for one in (*group.experiments, *(selection.experiments if selection else ()))]
        if repeated := [n for n, times in Counter(folders).items() if times > 1]:
            raise InputError(f"{repeated[0]}: the name is duplicated in these files, which would share a folder")
        trained = selection or group
        skip = share.left_out(trained) if share else frozenset[str]()
        own = {spec.id for _, spec in trained.runs()} - skip
        team = team_of(engine, address, device, workers, max(1, len(own)), import_, gpus, limit)
        team = replace(team, waits=not no_wait, of_all=plan_for)
        store = Store(results)
        store.check_layout()
        for folder in folders:
            store.check_writable(folder)
        for one in group.experiments if name is None else ():
            check_not_replaced(one, store)
        if dry_run:
            _print_plan(trained, training.plan(trained, store, team, retrain, tuple(skip)), store, team, keep_replay)
            for one in group.experiments:
                if one.seed_range:
                    say(_most(one))
            if purse.budget:
                say(_bought(trained, store, team, purse.budget, retrain))
            elif selection:
                say("These runs choose options; the comparison is planned after that")
            return
        output.keep_in(store.environment_log)
        command = redacted(command_line())

        def planned(experiments: ExperimentGroup, plan: Plan) -> None:
            nonlocal trained
            trained = experiments
            _print_plan(experiments, plan, store, team, keep_replay, training=True)

        how = running.Training(store, team, console, command, keep_replay, retrain, planned, purse, share)
        try:
            group = running.train_and_collect(running.with_choices(group, how), how)
            pages: running.Pages = {}
            for one in group.experiments:
                try:
                    pages[one.name] = _report(one, store, command, alone=len(files) == 1)
                except InputError as error:
                    if len(files) == 1:
                        raise
                    pages[one.name] = str(error)
            if len(files) > 1:
                from sac_bench.cli.report import write_reports

                others = [other for other in running.reported(store.root) if other not in pages]
                say(running.index(store.root, pages | write_reports(store.root, others)))
            for line in running.outlook(group, how):
                say(line)
            for write in writers:
                for one in group.experiments:
                    say(f"events: {write(store.experiment(one.name))}")
        except KeyboardInterrupt:
            print(f"sac-bench: {_count(runs_of(store, trained))}; continue with: {command}", file=sys.stderr)
            raise
        except OutOfTime:
            left = _count(runs_of(store, trained))
            reached = f"the limit --until {until} has been reached"
            print(f"sac-bench: {reached}: {left}; continue with: {command}", file=sys.stderr)
            raise typer.Exit(OUT_OF_TIME) from None
        except LeftToOthers:
            left = _count(runs_of(store, trained))
            print(f"sac-bench: {left}; other commands train the rest{_what_follows(group)}", file=sys.stderr)
            raise typer.Exit(LEFT_TO_OTHERS) from None
        running.failures(pages)
        runs = runs_of(store, group)
        if not set(runs.loc[~runs["run_id"].isin(skip), "status"]) <= set(ENDED):
            raise typer.Exit(1)


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


def _report(experiment: Experiment, store: Store, command: str, alone: bool) -> Page:
    """Write and print an experiment's report; in a few lines unless it is alone."""
    from sac_bench.report.run import report_one

    results, page = report_one(experiment, store, console, command)
    folder = store.experiment(experiment.name)
    if alone:
        say((folder / "tables" / "final.txt").read_text(encoding="utf-8"))
    else:
        say(f"\n{experiment.name}: {page.question}")
    if experiment.claim or not alone:
        say("\n".join(page.answer.paragraphs))
    console.print(_count(results.runs), highlight=False)
    say(f"report: {folder / 'report.html'}   figures: {folder / 'figures'}")
    return page


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


def _bought(experiments: ExperimentGroup, store: Store, workers: Workers, budget: Budget, retrain: bool) -> str:
    """Return what a budget buys of experiments, or of the candidates of [choose]."""
    from sac_bench.cli.plan import bought
    from sac_bench.execution.train import price_of, prices_of_looks

    looks = [one.seed_range.looks for one in experiments.experiments if one.seed_range]
    if looks:
        return bought(budget, prices_of_looks(experiments, store, workers, budget.unit, retrain), looks)
    return bought(budget, iter([price_of(experiments, store, workers, budget.unit, retrain)]), ())


def _print_plan(
    group: ExperimentGroup, plan: Plan, store: Store, workers: Workers, keep_replay: bool, training: bool = False
) -> None:
    """Print what is trained, reused and left for later, how long it takes and what it needs."""
    from sac_bench.cli import plan as summary
    from sac_bench.envs.checking import objection
    from sac_bench.execution.calibration import Calibration, measurements
    from sac_bench.execution.checkpoint import CohortDirectory
    from sac_bench.execution.cost import evaluation_share
    from sac_bench.execution.machine import cannot_compile
    from sac_bench.execution.plan import superseded

    envs = list(dict.fromkeys(cohort.runs[0].env for cohort in plan.cohorts))
    calibration = Calibration(measurements(store, envs, workers.launcher.machine(workers.device)).values())
    titles = [one_line(f"{one.name}: {one.question}" if one.question else one.name) for one in group.experiments]
    totals = [summary.total(plan, calibration, workers), f"runs: {', '.join(summary.standings(plan))}"]
    for line in [*titles, *totals] if len(titles) == 1 else [*totals, *titles]:
        console.print(line, highlight=False)
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
    for line in [*lines, *summary.resources(plan, workers.count, on_disk, keep_replay)]:
        say(line)
    of_steps, of_time = evaluation_share(c.cost for c in plan.cohorts)
    say(f"evaluations: up to {of_steps:.0%} of the environment steps, roughly {of_time:.0%} of the time")
    if training and (reason := cannot_compile()):
        say(reason)
