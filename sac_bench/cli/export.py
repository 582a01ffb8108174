"""sac-bench export: an experiment's scores and curves for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import QuietOption, ResultsOption, app, complete_result, result_at, say, user_errors
from sac_bench.errors import InputError, nearest


@app.command(short_help="Write scores and curves in another program's format.")
def export(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="rliable (.npz), marl-eval (.json) or tidy (.csv).")],
    name: Annotated[str, typer.Argument(help="An experiment with results.", autocompletion=complete_result)],
    results: ResultsOption = Path("results"),
    output: Annotated[
        Optional[Path], typer.Option("--output", metavar="FILE", help="By default RESULTS/NAME/export/FORMAT.SUFFIX.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Write an experiment's scores and curves in the format of another program (docs/api.md), without training."""
    with user_errors():
        from sac_bench.report.export import FORMATS, write_export
        from sac_bench.report.results import load_results

        if form not in FORMATS:
            raise InputError(f"export {form}: must be one of {', '.join(FORMATS)}{nearest(form, FORMATS)}")
        name, results = result_at(name, results)
        path = output or results / name / "export" / f"{form}.{FORMATS[form].suffix}"
        for sentence in write_export(load_results(name, results), form, path):
            say(f"left out: {sentence}")
        say(path)
