"""sac-bench report and compare: pages from results that exist, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sac_bench.cli.common import (
    QuietOption,
    ResultsOption,
    app,
    complete_result,
    console,
    result_name,
    say,
    user_errors,
)
from sac_bench.errors import InputError

if TYPE_CHECKING:
    from sac_bench.report.run import Pages


@app.command()
def report(
    names: Annotated[
        Optional[list[str]],
        typer.Argument(help="Experiments; by default all in the folder.", autocompletion=complete_result),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All in the folder, as without names.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard event files, too.")] = False,
    results: ResultsOption = Path("results"),
    quiet: QuietOption = False,
) -> None:
    """Write tables, figures and reports again from CSV files, without training. Without names, write the index, too."""
    with user_errors():
        from sac_bench.report.run import index, reported
        from sac_bench.results.tensorboard import check_installed

        if tensorboard:
            check_installed()
        if names and all_:
            raise InputError(f"report {names[0]} --all: give names or --all, not both")
        known, names = reported(results), [result_name(name, results) for name in names or []]
        for name in names:
            if name not in known:
                raise no_results(name, results, known)
        if not known:
            raise InputError(f"{results}: no results there yet; sac-bench run makes them")
        pages = write_reports(results, names or known, tensorboard)
        if not names:
            say(index(results, pages))
        if broken := [page for page in pages.values() if isinstance(page, str)]:
            raise InputError("; ".join(broken))


def no_results(name: str, results: Path, known: Sequence[str]) -> InputError:
    """Return the error for a name without results: if it is an experiment's, it has not been run."""
    from sac_bench.spec.names import find

    find(name, results, known)
    return InputError(f"{name}: not in {results} yet; sac-bench run {name} trains it")


def write_reports(results: Path, names: Sequence[str], tensorboard: bool = False) -> Pages:
    """Write reports, and event files; return {name: its page, or why it could not be written}."""
    from sac_bench.report.experiment import write_report
    from sac_bench.results.tensorboard import write_events
    from sac_bench.tuning import report as study_report

    pages: Pages = {}
    for name in names:
        try:
            is_study = (results / name / study_report.FILE).exists()
            pages[name] = (study_report.write_report if is_study else write_report)(results / name)
            say(results / name / "report.html")
            if tensorboard and not is_study:
                say(write_events(results / name))
        except InputError as error:
            pages[name] = str(error)
    return pages


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A result's folder, as results/record/ablation-quick, or its name.")],
    b: Annotated[str, typer.Argument(help="The other result, in the same way.")],
    results: ResultsOption = Path("results"),
    out: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Write a page: .html or .md.")] = None,
) -> None:
    """Compare two results: scores, differences with verdicts, which runs are the same, what else differs."""
    with user_errors():
        from sac_bench.report.compare import in_text, load_side, write_page

        page = write_page(load_side(a, results), load_side(b, results), out)
        say(in_text(page, console.width))
        if out is not None:
            say(f"\n{out}")
