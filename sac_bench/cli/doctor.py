"""sac-bench doctor: test whether this machine's devices train correctly, and a results folder keeps results safely."""

from __future__ import annotations

from pathlib import Path

import typer

from sac_bench.cli.common import ResultsOption, app, say, user_errors


@app.command(short_help="Describe this machine; test a results folder and each device.")
def doctor(results: ResultsOption = Path("results")) -> None:
    """Describe this machine; test a results folder, and training on each device against float64 on the CPU.

    --device auto takes CUDA once its test has passed. A test takes some seconds, and one to four minutes if nothing is
    compiled yet. Of the folder: its filesystem, locks between two processes, exclusive creation, atomic replacement.
    Exit code: 0 if everything can be used, also with warnings; 1 if the folder is refused or a device has failed.
    """
    with user_errors():
        from sac_bench.execution.doctor import machine, tested_devices
        from sac_bench.store.doctor import Verdict, examine

        for name, text in machine().items():
            say(f"{'found':<8} {name}: {text}")
        refused = False
        for findings in (examine(results), tested_devices()):
            for one in findings:
                say(f"{one.verdict.value:<8} {one.what}: {one.text}")
                refused |= one.verdict is Verdict.REFUSED
        if refused:
            raise typer.Exit(1)
