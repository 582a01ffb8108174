"""sac-bench doctor: test whether locks and commits work in a results folder."""

from __future__ import annotations

from pathlib import Path

import typer

from sac_bench.cli.common import ResultsOption, app, say, user_errors


@app.command()
def doctor(results: ResultsOption = Path("results")) -> None:
    """Test a results folder: its filesystem, locks between two processes, exclusive creation, atomic replacement.

    Exit code: 0 if it can be used, also with warnings; 1 if it is refused.
    """
    with user_errors():
        from sac_bench.store.doctor import Verdict, examine

        findings = examine(results)
        for one in findings:
            say(f"{one.verdict.value:<8} {one.what}: {one.text}")
        if any(one.verdict is Verdict.REFUSED for one in findings):
            raise typer.Exit(1)
