"""sac-bench merge: join results of machines that were never connected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sac_bench.cli.common import ResultsOption, app, say, user_errors
from sac_bench.errors import counted

MAX_NAMED_RUNS = 20
"""The most runs that are named of each kind."""


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Results folders to read.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Copy ended runs from results folders into --results. Runs in both are compared, and no training is overwritten.

    Exit code: 0; 1 if a run has other bytes in two folders, or is damaged or unfinished here; 2 for bad input. The same
    `sac-bench run` commands then write tables and reports, and train only what is still missing.
    """
    with user_errors():
        from sac_bench.store.merge import merge as join
        from sac_bench.store.store import Store

        into, differ = Store(results), False
        into.check_layout()
        into.check_writable("")
        for folder in folders:
            merged = join(Store(folder), into)
            say(
                f"{folder}: {counted(len(merged.copied), 'run')} copied, {len(merged.equal)} equal, "
                f"{len(merged.different)} different, {len(merged.kept) + len(merged.damaged)} kept as they are here, "
                f"{len(merged.left)} not ended there"
            )
            away, different = f"move {results}/runs/ID away and merge again", merged.different
            _name("different", {run: ", ".join(files) for run, files in different.items()}, f"to take theirs, {away}")
            _name("exists here and has not ended", merged.kept, f"finish it here, or {away}")
            _name("exists here and is damaged", merged.damaged, f"to take theirs, {away}")
            _name("not copied", merged.left)
            for name in merged.environments:
                say(f"  environments/{name}: a random policy has different numbers; those here are kept")
            differ = differ or bool(merged.different or merged.kept or merged.damaged)
        if differ:
            raise typer.Exit(1)


def _name(what: str, runs: Mapping[str, str], remedy: str = "") -> None:
    """Print some of these runs, each with its reason, and what to do about them."""
    for run, reason in list(runs.items())[:MAX_NAMED_RUNS]:
        say(f"  {what}: run {run} ({reason})")
    if len(runs) > MAX_NAMED_RUNS:
        say(f"  {what}: {len(runs) - MAX_NAMED_RUNS} more")
    if runs and remedy:
        say(f"    {remedy}")
