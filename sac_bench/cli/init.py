"""sac-bench init: copy an experiment of this package, to be edited."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

import typer

from sac_bench.cli.common import app, complete_experiment, say, user_errors
from sac_bench.errors import InputError


@app.command(short_help="Copy an experiment to experiments/, to edit it.")
def init(
    name: Annotated[
        str,
        typer.Argument(help="An experiment or study that sac-bench list shows.", autocompletion=complete_experiment),
    ],
    new: Annotated[Optional[str], typer.Argument(help="The copy's name; by default the same.")] = None,
) -> None:
    """Copy an experiment to experiments/, with the files that it includes, so that you can edit it."""
    with user_errors():
        for path in copy(name, new):
            say(f"wrote {path}")
        say(f"edit it, then check it with: sac-bench run {new or name} --dry-run")


def copy(name: str, new: str | None = None) -> list[Path]:
    """Copy an experiment and the files it includes to experiments/, where names are looked up first.

    Return the new files, that of the experiment first. Included files that are there already stay as they are. Raises
    InputError if there is no such experiment, or if the experiment's new file exists.
    """
    from sac_bench.spec.includes import needed
    from sac_bench.spec.load import NAME
    from sac_bench.spec.names import LOCAL_FOLDER, SHIPPED_FOLDER, find
    from sac_bench.store.atomic import write_text

    if new is not None and not NAME.fullmatch(new):
        raise InputError(f"{new}: is not a plain name (letters, digits, '.', '_', '=', '+', '-')")
    source = find(name)
    root = next(
        (
            folder.resolve()
            for folder in (LOCAL_FOLDER, SHIPPED_FOLDER)
            if source.resolve().is_relative_to(folder.resolve())
        ),
        None,
    )
    if root is None:
        raise InputError(f"{source}: is a file of yours; init copies experiments that sac-bench list shows")
    target = LOCAL_FOLDER / source.resolve().relative_to(root)
    if new is not None:
        target = target.with_stem(new)
    if target.exists():
        raise InputError(f"{target}: exists; give the copy another name: sac-bench init {name} NEW")
    text = source.read_text(encoding="utf-8")
    if new is not None:
        text, renamed = re.subn(r"""(?m)^name\s*=\s*(".*?"|'.*?')""", f'name = "{new}"', text, count=1)
        if not renamed:
            raise InputError(f"{source}: has no line name = ...; copy it without a new name")
    others = {}
    for path in needed(source):
        if not path.resolve().is_relative_to(root):
            raise InputError(f"{source}: includes {path}, which is outside {root}; copy both by hand")
        others[LOCAL_FOLDER / path.resolve().relative_to(root)] = path
    copies = {target: text} | {at: path.read_text(encoding="utf-8") for at, path in others.items() if not at.exists()}
    for at, content in copies.items():
        at.parent.mkdir(parents=True, exist_ok=True)
        write_text(at, content)
    return list(copies)
