"""The command `sac-bench`: its commands, signals and exit codes. Modules that take long to import are imported late."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from sac_bench.cli import (
    doctor,
    export,
    figures,
    gc,
    guard,
    imports,
    init,
    inspect,
    merge,
    report,
    run,
    slurm,
    tune,
    video,
)
from sac_bench.cli.common import app
from sac_bench.errors import one_line, redacted
from sac_bench.execution.guardian import no_child_left

COMMANDS = (doctor, export, figures, gc, guard, imports, init, inspect, merge, report, run, slurm, tune, video)
"""The modules that register the commands."""
USAGE_ERROR = typer.BadParameter.__mro__[1]
INTERRUPTED = 130  # what typer returns for a KeyboardInterrupt


def main() -> None:
    """Run the command line. Usage errors and interruptions are reported in one line, too."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be any bytes
    signals: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    try:
        with no_child_left():  # of environments that are made here
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except USAGE_ERROR as error:  # type: ignore[misc]  # mypy does not know this class of a class
        print(f"sac-bench: {redacted(one_line(error.format_message()))}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("sac-bench: stopped", file=sys.stderr)
        code = 128 + (signals or [signal.SIGINT])[0]
    sys.exit(code)


if __name__ == "__main__":
    main()
