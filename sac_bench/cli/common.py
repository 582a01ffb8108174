"""What all commands share: the app, the console, options, errors, modules to import."""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from sac_bench.envs import output
from sac_bench.errors import InputError, one_line, redacted

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Which part of Soft Actor-Critic matters? Experiments in, answers with error bars out.",
)
console = Console(markup=False, emoji=False)  # what users write is shown as it is

ImportOption = Annotated[
    list[str],
    typer.Option(
        "--import", metavar="MODULE", help="Import a module that registers environments or algorithms. Repeatable."
    ),
]
ResultsOption = Annotated[Path, typer.Option("--results", metavar="DIR", help="The results folder.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
WorkersOption = Annotated[
    Optional[int], typer.Option(metavar="N", help="Worker processes; by default one per core, or per GPU.")
]
GpusOption = Annotated[
    Optional[str], typer.Option(metavar="all|0,1", help="GPUs, each for its own workers; by default all.")
]
UntilOption = Annotated[
    Optional[str],
    typer.Option(metavar="H:MM:SS", help="3:50:00 or 8h from now on: no segment starts that would not end by then."),
]
OUT_OF_TIME, LEFT_TO_OTHERS = 3, 4
"""Exit codes when --until has ended the training, and when --no-wait has. The same command continues."""

RetrainOption = Annotated[
    bool, typer.Option("--retrain", help="Train runs again that cannot be continued, or that another device trained.")
]
MixDevicesOption = Annotated[
    bool, typer.Option("--mix-devices", help="Accept existing runs that another kind of device (cpu, cuda) trained.")
]


def say(text: object) -> None:
    """Print a line as it is, without wrapping."""
    console.print(str(text), highlight=False, soft_wrap=True)


def counted(number: int, thing: str) -> str:
    """Return "1 run" or "3 runs"."""
    return f"{number} {thing}{'s' if number != 1 else ''}"


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn an InputError into one line on standard error and exit code 2; a full disk and the like into 1."""
    try:
        with output.logged():
            yield
    except InputError as error:
        print(f"sac-bench: {redacted(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as error:
        print(f"sac-bench: {redacted(one_line(f'{error.filename}: {error.strerror or error}'))}", file=sys.stderr)
        impossible_path = error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR)
        raise typer.Exit(2 if impossible_path else 1) from None


def command_line() -> str:
    """Return the command that was typed, to be typed again. A locale without UTF-8 reads file names as bytes."""
    typed = [os.fsencode(argument).decode("utf-8", "backslashreplace") for argument in sys.argv[1:]]
    return "sac-bench " + shlex.join(typed)


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules that register users' environments and algorithms. Raises InputError if one fails."""
    sys.path.insert(0, "")
    if modules:
        import sac_bench.envs.sources  # noqa: F401 - first: later registrations are the user's
    for module in modules:
        try:
            with output.captured(f"--import {module}"):
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise InputError(f"--import {module}: {type(error).__name__}: {error}") from None
