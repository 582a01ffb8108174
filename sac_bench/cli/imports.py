"""sac-bench import: results that others trained, beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from sac_bench.cli.common import ResultsOption, app, say, user_errors, whole_number
from sac_bench.errors import InputError


@app.command(name="import", short_help="Import results that others trained.")
def import_(
    format: Annotated[
        str, typer.Argument(metavar="FORMAT", help="sb3, cleanrl, xuance, authors, simbav2, spinningup or tidy.")
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, or a folder with the runs at any depth.")],
    name: Annotated[str, typer.Option("--name", metavar="X", help="The name of the result: results/X.")],
    results: ResultsOption = Path("results"),
    env: Annotated[
        Optional[str], typer.Option(metavar="ID", help="The environment, if the files do not name it.")
    ] = None,
    variant: Annotated[
        Optional[str], typer.Option(metavar="NAME", help="The variant, if the files do not name it.")
    ] = None,
    paths: Annotated[
        Optional[str],
        typer.Option(metavar="TEMPLATE", help="The pattern of the runs' folders, such as '{variant}/{env}_{seed}'."),
    ] = None,
    rename: Annotated[
        list[str], typer.Option(metavar="OLD=NEW", help="Rename a variant or environment. Repeatable.")
    ] = [],
    card: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE|FILE", help="A field of the protocol card, or a TOML file. Repeatable."),
    ] = [],
    every: Annotated[
        Optional[int],
        typer.Option(metavar="N", parser=whole_number, help="Average the returns of each N steps."),
    ] = None,
    steps: Annotated[
        Optional[int],
        typer.Option(metavar="N", parser=whole_number, help="Steps of a whole training; by default the longest run's."),
    ] = None,
    reference: Annotated[
        Optional[str], typer.Option(metavar="NAME", help="The variant to compare with; by default the first.")
    ] = None,
) -> None:
    """Import results that others trained. report and compare then treat them like ours (docs/import.md)."""
    with user_errors():
        from sac_bench.results.importing import ImportOptions, import_results
        from sac_bench.workflow.reports import write_report

        of_all, of_variants = _card(card)
        renamed = dict(_pair(text, "--rename") for text in rename)
        options = ImportOptions(env, variant, paths, renamed, every, steps, reference, of_all, of_variants)
        import_results(format, path, name, results, options)
        say(write_report(name, results))


def _card(given: Sequence[str]) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """Return the fields of all variants, and those of single ones; later ones take precedence."""
    from sac_bench.spec.toml import read

    of_all: dict[str, Any] = {}
    of_variants: dict[str, Any] = {}
    for text in given:
        if text.endswith(".toml") and "=" not in text:
            table = dict(read(Path(text)))
            own = table.pop("variants", {})
            if not isinstance(own, dict) or not all(isinstance(fields, dict) for fields in own.values()):
                raise InputError(f"{text}: variants: must be tables [variants.NAME]")
            of_variants |= own
            of_all |= table
        else:
            of_all |= [_pair(text, "--card")]
    return of_all, of_variants


def _pair(text: str, option: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (sign and key.strip() and value.strip()):
        raise InputError(
            f"{option} {text}: must be {'OLD=NEW' if option == '--rename' else 'KEY=VALUE, or a TOML file'}"
        )
    return key.strip(), value.strip()
