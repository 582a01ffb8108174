"""sac-bench guard: train some runs of record again, and fail if they got worse."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import (
    DeviceOption,
    ImportOption,
    QuietOption,
    WorkersOption,
    app,
    command_line,
    console,
    import_modules,
    say,
    user_errors,
)

GOT_WORSE = 3
"""The exit code if --fail-on names what came out."""


@app.command(short_help="Train recorded results again, in part, and compare.")
def guard(
    record: Annotated[Path, typer.Argument(help="A folder of recorded results: results/record/ablation-quick.")],
    seeds: Annotated[int, typer.Option(metavar="N", help="Number of seeds to train again, from the first.")] = 3,
    fail_on: Annotated[str, typer.Option("--fail-on", help="worse, different (also better) or undecided.")] = "worse",
    results: Annotated[
        Optional[Path],
        typer.Option(
            "--results",
            metavar="DIR",
            help="Keep the runs in this folder and reuse existing ones; by default a new folder.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    import_: ImportOption = [],
    quiet: QuietOption = False,
) -> None:
    """Train the first seeds of recorded results again with the recorded settings, and compare (docs/reliability.md).

    Numbers are compared first. Runs that are not identical are compared by their scores. Exit code: 0; 3 if something
    got worse (or what --fail-on says), with a line on what; 1 if training failed; 2 for bad input.
    """
    with user_errors(), ExitStack() as stack:
        import_modules(import_)
        from sac_bench.execution.worker_options import WorkerOptions
        from sac_bench.report.sides import load_side
        from sac_bench.store.store import Store
        from sac_bench.workflow import guard as guarding
        from sac_bench.workflow.training import Training

        guarding.failing([], fail_on)
        side = load_side(str(record), results or Path("results"))
        store = Store(results or Path(stack.enter_context(TemporaryDirectory(prefix="sac-bench-guard-"))))
        store.check_layout()
        store.check_writable(f"{side.manifest.name}-guard")
        team = WorkerOptions(device, workers, imports=import_).choose(seeds * len(side.manifest.variants))
        outcomes = guarding.guard(side.results, seeds, Training(store, team, console, command_line()))
        for one in outcomes:
            if one.word != "identical":
                say(one.in_words())
        say(", ".join(f"{count} {word}" for word, count in guarding.counts(outcomes).items()))
        if failed := guarding.failing(outcomes, fail_on):
            typer.echo(f"sac-bench: {side.folder}: " + "; ".join(one.in_words() for one in failed), err=True)
            raise typer.Exit(GOT_WORSE)
