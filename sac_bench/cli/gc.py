"""sac-bench gc: delete unused files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sac_bench.cli.common import ResultsOption, app, console, user_errors
from sac_bench.errors import InputError


@app.command(short_help="List unused files, then delete them.")
def gc(
    results: ResultsOption = Path("results"),
    runs: Annotated[
        bool, typer.Option("--runs", help="Also free runs that no experiment in the folder lists.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """List unused files (leftovers of crashes, replays that no command asked to keep), then delete them."""
    with user_errors():
        from sac_bench.execution import gc as garbage
        from sac_bench.store.store import Store

        if not (results / "runs").is_dir():
            raise InputError(f"--results {results}: no runs there")
        store = Store(results)

        def is_kept(item: garbage.Garbage) -> bool:
            return item.why == garbage.UNLISTED and not runs

        with store.planning():
            items = garbage.find(store)
        table = Table("what", "how many", "size")
        for why in dict.fromkeys(item.why for item in items):
            alike = [item for item in items if item.why == why]
            note = " (kept; --runs frees them)" if is_kept(alike[0]) else ""
            table.add_row(why + note, str(len(alike)), f"{sum(item.bytes for item in alike) / 1e6:,.1f} MB")
        if items:
            console.print(table)
        freed = [item for item in items if not is_kept(item)]
        size = f"{sum(item.bytes for item in freed) / 1e6:,.1f} MB"
        if not freed:
            console.print("nothing to free")
        elif yes or (sys.stdin.isatty() and typer.confirm(f"free {size}?")):
            with store.planning():  # again: only what was listed, if it is still not needed
                garbage.free(store, [item for item in garbage.find(store) if item in freed])
            console.print(f"freed {size}")
        else:
            console.print(f"nothing freed; --yes frees {size}")
