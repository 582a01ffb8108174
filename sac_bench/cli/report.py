"""sac-bench report and compare: write pages from existing results, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import (
    MixDevicesOption,
    QuietOption,
    ResultsOption,
    TrackOption,
    app,
    complete_result,
    console,
    result_at,
    say,
    trackers,
    user_errors,
)
from sac_bench.errors import InputError


@app.command(short_help="Write tables, figures and reports again, without training.")
def report(
    names: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Experiments, or folders of results; by default all in --results.", autocompletion=complete_result
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Use all experiments in the folder (the default).")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Same as --track tensorboard.")] = False,
    track: TrackOption = [],
    results: ResultsOption = Path("results"),
    quiet: QuietOption = False,
) -> None:
    """Write tables, figures and reports again, without training. Without names, also write the index.

    During training, they show the steps so far that the runs have in common.
    """
    with user_errors():
        from sac_bench.workflow.reports import index, reported, write_reports

        writers = trackers(track, tensorboard)
        if names and all_:
            raise InputError(f"report {names[0]} --all: give names or --all, not both")
        found = [result_at(name, results) for name in names or []]
        if len({folder for _, folder in found}) > 1:
            raise InputError(f"report {' '.join(names or [])}: must be in one results folder")
        names, results = [name for name, _ in found], found[0][1] if found else results
        known = reported(results)
        for name in names:
            if name not in known:
                raise no_results(name, results, known)
        if not known:
            raise InputError(f"{results}: has no results yet; sac-bench run writes them")
        pages = write_reports(results, names or known, say, writers)
        if not names:
            say(index(results, pages))
        if broken := [page for page in pages.values() if isinstance(page, str)]:
            raise InputError("; ".join(broken))


def no_results(name: str, results: Path, known: Sequence[str]) -> InputError:
    """Return the error for a name without results: if it is an experiment's, it has not been run."""
    from sac_bench.spec.names import find, groups

    if name in groups():
        return InputError(f"{name}: is a group of experiments; give the name of one, as sac-bench list shows them")
    find(name, results, known)
    return InputError(f"{name}: not in {results} yet; sac-bench run {name} trains it")


@app.command(short_help="Compare two results: scores, and differences with verdicts.")
def compare(
    a: Annotated[str, typer.Argument(help="Folder of a result, such as results/record/ablation-quick, or its name.")],
    b: Annotated[str, typer.Argument(help="Folder or name of the other result.")],
    results: ResultsOption = Path("results"),
    out: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Write a page: .html or .md.")] = None,
    mix_devices: MixDevicesOption = False,
) -> None:
    """Compare two results: scores, differences with verdicts, identical runs, and what else differs."""
    with user_errors():
        from sac_bench.report.compare import in_text, write_page
        from sac_bench.report.sides import load_side

        page = write_page(load_side(a, results), load_side(b, results), out, mix_devices)
        say(in_text(page, console.width))
        if out is not None:
            say(f"\n{out}")
