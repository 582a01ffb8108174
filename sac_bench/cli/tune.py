"""sac-bench tune: search for hyperparameters, then check the best on held-out seeds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import (
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
    UntilOption,
    WorkersOption,
    app,
    command_line,
    complete_experiment,
    console,
    import_modules,
    say,
    user_errors,
    whole_number,
)
from sac_bench.envs import output
from sac_bench.errors import one_line, redacted


@app.command(short_help="Search for hyperparameters, then check the best.")
def tune(
    study: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A study that sac-bench list shows, or a file.",
            autocompletion=complete_experiment,
        ),
    ],
    storage: Annotated[
        Optional[str],
        typer.Option(
            metavar="URL",
            help="sqlite:///, postgresql:// or mysql://; by default a journal beside the results.",
            envvar="SAC_BENCH_STORAGE",
            show_envvar=True,
        ),
    ] = None,
    trials: Annotated[
        Optional[int],
        typer.Option(metavar="N", parser=whole_number, help="Total number of trials, instead of the file's."),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    until: UntilOption = None,
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],
    retrain: RetrainOption = False,
    mix_devices: MixDevicesOption = False,
    dry_run: Annotated[bool, typer.Option(help="Only check the file and print the search.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Search for hyperparameters, then check the best on held-out seeds. Any number of processes share a study.

    Exit code: 0 if every trial ended and the best were checked, 1 if runs failed, 2 for bad input, 3 if --until leaves
    trials, 130 if interrupted. The same command continues.
    """
    with user_errors():
        import_modules(import_)
        from sac_bench.execution.budget import OutOfTime, TimeLimit
        from sac_bench.execution.machine import cannot_compile
        from sac_bench.execution.worker_options import WorkerOptions
        from sac_bench.spec.names import find_all
        from sac_bench.store.store import Store
        from sac_bench.tuning import study as studies

        limit = TimeLimit() if until is None else TimeLimit.parse(until)
        team = WorkerOptions(device, workers, gpus, engine, address, import_, limit).choose()
        if team.note:
            say(team.note)
        loaded = replace(studies.load(find_all([study])[0], trials), mix_devices=mix_devices)
        store = Store(results)
        store.check_layout()
        store.check_writable(loaded.name)
        console.print(
            one_line(f"{loaded.name}: {loaded.question}" if loaded.question else loaded.name), highlight=False
        )
        if dry_run:
            say(studies.in_words(loaded))
            return
        from sac_bench.tuning.storage import hidden_in
        from sac_bench.tuning.tune import tune as carry_out

        if reason := cannot_compile():
            say(reason)
        output.keep_in(store.environment_log)
        command = redacted(hidden_in(command_line(), storage))
        try:
            succeeded = carry_out(
                loaded, store, team, storage=storage, retrain=retrain, console=console, command=command
            )
        except KeyboardInterrupt:
            print(f"sac-bench: continue with: {command}", file=sys.stderr)
            raise
        except OutOfTime:
            print(f"sac-bench: the limit --until {until} has been reached; continue with: {command}", file=sys.stderr)
            raise typer.Exit(OUT_OF_TIME) from None
        if not succeeded:
            raise typer.Exit(1)
