"""Shared by all commands: the app, the console, options, errors, imports of user modules."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from sac_bench.envs import output
from sac_bench.errors import InputError, one_line, redacted
from sac_bench.spec import names

COMMANDS = ("list", "init", "run", "status", "report", "compare", "figures", "watch", "tune")
"""The commands that users need first, in the order of --help. The others follow in alphabetical order."""


class _Ordered(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of commands in the order of --help."""
        return [*(name for name in COMMANDS if name in self.commands), *sorted(self.commands.keys() - set(COMMANDS))]


app = typer.Typer(
    cls=_Ordered,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Which part of Soft Actor-Critic matters? Experiments in, answers with error bars out.",
)
MAX_ERRORS = 30
"""The most errors of a file that are shown at once."""
console = Console(markup=False, emoji=False)  # what users write is shown as it is


def _hush(quiet: bool) -> bool:
    console.quiet = console.quiet or quiet
    return quiet


def _print_version(requested: bool) -> None:
    if requested:
        console.print(f"sac-bench {version('sac_bench')}", highlight=False)
        raise typer.Exit()


def complete_experiment(incomplete: str) -> list[str]:
    """Return the names of experiments and groups that begin with what was typed, for shell completion."""
    return [name for name in (*names.known(), *names.groups()) if name.startswith(incomplete)]


def result_name(name: str, results: Path) -> str:
    """Return the name of the folder with an experiment's results: that of "claims/two-qs" is "two-qs"."""
    short = name.rpartition("/")[2]
    return short if not (results / name).exists() and (results / short / "experiment.json").exists() else name


def result_at(name: str, results: Path) -> tuple[str, Path]:
    """Return a result's name and the results folder that it is in; `name` may be the result's own folder."""
    if (Path(name) / "experiment.json").exists() and (Path(name).is_absolute() or not (results / name).exists()):
        folder = Path(name).resolve() if Path(name).name in ("", "..") else Path(name)
        return folder.name, folder.parent
    if (results / name / "experiment.json").exists():
        return Path(name).name, (results / name).parent  # "claims/two-qs-quick", as `list results` names it
    return result_name(name, results), results


def complete_result(incomplete: str) -> list[str]:
    """Return the names of results in results/ that begin with what was typed, for shell completion."""
    return [path.parent.name for path in Path("results").glob(f"{incomplete}*/experiment.json")]


@app.callback()
def _of_all(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options of sac-bench itself."""


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
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="local|ray", help="Train here, or on a Ray cluster (docs/scaling.md).")
]
AddressOption = Annotated[
    Optional[str], typer.Option("--address", metavar="auto|ray://...", help="The Ray cluster; by default auto.")
]
UntilOption = Annotated[
    Optional[str],
    typer.Option(
        metavar="H:MM:SS", help="Time limit from now: 3:50:00 or 8h. A segment starts only if it can end in time."
    ),
]
OUT_OF_TIME, LEFT_TO_OTHERS = 3, 4
"""Exit codes when --until has ended the training, and when --no-wait has. The same command continues."""

QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_hush, expose_value=False, help="Print nothing but errors.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrackOption = Annotated[
    list[str],
    typer.Option("--track", metavar="tensorboard|wandb", help="Also write the numbers for this program. Repeatable."),
]
RetrainOption = Annotated[
    bool,
    typer.Option(
        "--retrain",
        help="Train again the runs that failed, are damaged, cannot continue, or used another kind of device.",
    ),
]
MixDevicesOption = Annotated[
    bool, typer.Option("--mix-devices", help="Accept existing runs of another kind of device (cpu, cuda).")
]


def say(text: object) -> None:
    """Print a line as it is, without wrapping."""
    console.print(str(text), highlight=False, soft_wrap=True)


def table(*columns: str, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table that fits 80 columns: `numbers` are right-aligned and never wrapped."""
    made = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", padding=(0, 1), pad_edge=False
    )
    for column in columns:
        is_number = column in numbers
        made.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return made


def whole_number(text: str) -> int:
    """Return a number as people write it: "300000", "1_000_000", "1,000,000", "1e6", "500k" or "1M".

    Raises typer.BadParameter if it is not a whole number.
    """
    match = re.fullmatch(r"([0-9][0-9_]*(?:,[0-9]{3})*(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)([kKM]?)", str(text).strip())
    number = (
        Decimal(re.sub("[_,]", "", match[1])) * {"": 1, "k": 10**3, "m": 10**6}[match[2].lower()] if match else None
    )
    if number is None or number != int(number):
        raise typer.BadParameter(
            f"{one_line(str(text), 60)!r} must be a whole number, such as 300000, 1_000_000, 1e6 or 1M"
        )
    return int(number)


def say_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn an InputError into a line per error on standard error and exit code 2; a full disk and the like into 1."""
    try:
        with output.logged():
            yield
    except InputError as error:
        for part in error.parts[:MAX_ERRORS]:
            print(f"sac-bench: {redacted(str(part))}", file=sys.stderr)
            if part.shown:
                print(redacted(part.shown), file=sys.stderr)
        if len(error.parts) > 1:
            shown = "" if len(error.parts) <= MAX_ERRORS else f", of which {MAX_ERRORS} are shown"
            print(f"sac-bench: {len(error.parts)} errors{shown}", file=sys.stderr)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # `sac-bench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        print(f"sac-bench: {redacted(one_line(f'{error.filename}: {error.strerror or error}'))}", file=sys.stderr)
        impossible_path = error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR)
        raise typer.Exit(2 if impossible_path else 1) from None


def trackers(names: Sequence[str], tensorboard: bool) -> list[Callable[[Path], Path]]:
    """Return what writes an experiment's numbers for the programs that --track names, or --tensorboard.

    Raises InputError for an unknown program, or one that is not installed.
    """
    from sac_bench.results import tensorboard as of_tensorboard
    from sac_bench.results import wandb

    known = {"tensorboard": of_tensorboard, "wandb": wandb}
    chosen = list(dict.fromkeys([*names, *["tensorboard"] * tensorboard]))
    for name in chosen:
        if name not in known:
            raise InputError(f"--track {name}: must be tensorboard or wandb")
        known[name].check_installed()
    return [known[name].write_events for name in chosen]


def command_line() -> str:
    """Return the command that was typed, to be typed again. A locale without UTF-8 reads file names as bytes."""
    typed = [os.fsencode(argument).decode("utf-8", "backslashreplace") for argument in sys.argv[1:]]
    return "sac-bench " + shlex.join(typed)


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules that register users' environments and algorithms. Raises InputError if one fails."""
    sys.path.insert(0, "")
    if modules:
        import sac_bench.envs.registry  # noqa: F401 - first: later registrations are the user's
    for module in modules:
        try:
            with output.captured(f"--import {module}"):
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise InputError(f"--import {module}: {type(error).__name__}: {error}") from None
