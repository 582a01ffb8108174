"""sac-bench list and status: list experiments and more, and show the state of an experiment's runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional

import typer
from rich.console import RenderableType
from rich.table import Table

from sac_bench.cli.common import (
    ImportOption,
    JsonOption,
    ResultsOption,
    app,
    complete_experiment,
    complete_result,
    console,
    import_modules,
    result_at,
    say,
    say_json,
    table,
    user_errors,
)
from sac_bench.errors import InputError, nearest

if TYPE_CHECKING:
    from sac_bench.store.store import Store


KINDS = ("experiments", "algorithms", "environments", "presets", "recipes", "results")


ALIASES = {"envs": "environments"}


def _complete_listed(incomplete: str) -> list[str]:
    """Return what `list` takes that begins with what was typed: kinds, algorithms and experiments."""
    from sac_bench.algorithms import ALGORITHMS

    known = (*KINDS, *ALGORITHMS, *complete_experiment(""))
    return [name for name in known if name.startswith(incomplete)]


Listing = tuple[Callable[[], Any], Callable[[Any], Iterable[RenderableType]]]
"""A function that returns what is listed, for JSON, and one that shows it."""


@app.command(name="list", short_help="List experiments, environments, or an algorithm's options.")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="An experiment or a group, such as claims; an algorithm, such as sac; experiments, algorithms, "
            "environments, presets, recipes or results.",
            autocompletion=_complete_listed,
        ),
    ] = "all",
    folder: Annotated[
        Optional[Path], typer.Option(help="Folder of experiment files, instead of experiments/ and the package's.")
    ] = None,
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],
    as_json: JsonOption = False,
) -> None:
    """List experiments, one experiment's contents, algorithms, one's options, environments, presets or results."""
    with user_errors():
        import_modules(import_)
        chosen = _listings(ALIASES.get(what, what), folder, results, as_json)
        listings = {kind: (made(), shown) for kind, (made, shown) in chosen.items()}
        if as_json:
            say_json({kind: rows for kind, (rows, _) in listings.items()})
            return
        for rows, shown in listings.values():
            console.print(*shown(rows), highlight=False)


def _listings(what: str, folder: Path | None, results: Path, as_json: bool) -> dict[str, Listing]:
    """Return what is listed for an argument. Raises InputError if it is unknown."""
    from sac_bench.algorithms import ALGORITHMS
    from sac_bench.cli import listing
    from sac_bench.spec import names

    kinds: dict[str, Listing] = {
        "experiments": (lambda: listing.experiments(folder), listing.experiment_tables),
        "algorithms": (listing.algorithms, lambda rows: [listing.algorithms_table(rows)]),
        "environments": (
            lambda: listing.environment_ids(full=what == "environments"),
            lambda ids: [listing.environments(ids)],
        ),
        "presets": (listing.presets, lambda rows: [listing.presets_table(rows)]),
        "recipes": (listing.recipes, lambda rows: [listing.recipes_table(rows)]),
        "results": (lambda: listing.results(results), lambda rows: [listing.results_table(rows)]),
    }
    if what == "all":
        if as_json:
            return {kind: kinds[kind] for kind in ("experiments", "algorithms", "environments")}
        return {"experiments": (kinds["experiments"][0], listing.overview)}
    if what in kinds:
        return {what: kinds[what]}
    if what in ALGORITHMS:
        return {what: (lambda: listing.algorithm_options(what), lambda rows: [listing.options_table(what, rows)])}
    if what in names.groups():
        return {what: (lambda: listing.group(what), listing.experiment_tables)}
    if (file := names.lookup(what)) is None:
        known = [*KINDS, *ALGORITHMS, *names.groups(), *(name.rpartition("/")[2] for name in names.known())]
        raise InputError(
            f"list {what}: unknown{nearest(what, known, places=2)}; sac-bench list shows what can be listed"
        )
    return {what: (lambda: listing.experiment(file), listing.details)}


class _Run(NamedTuple):
    variant: str
    env: str
    seed: int
    id: str
    target_steps: int
    status: str = "not started"
    """As the experiment's table recorded it, like the following."""
    steps: int = 0
    exploded: float | None = None


class _State(NamedTuple):
    status: str
    steps: int
    target_steps: int
    exploded: bool
    is_recorded: bool = False


@app.command(short_help="Print the state of an experiment's runs, or of all results.")
def status(
    name: Annotated[
        Optional[str],
        typer.Argument(
            help="An experiment's name, its file, or a result's folder; by default all results.",
            autocompletion=lambda incomplete: [*complete_result(incomplete), *complete_experiment(incomplete)],
            show_default=False,
        ),
    ] = None,
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],
    as_json: JsonOption = False,
) -> None:
    """Print the state of an experiment's runs and, with a range of seeds, of its comparisons."""
    with user_errors():
        import_modules(import_)
        from sac_bench.store.store import Store

        if name is None:
            _print_results(results, as_json)
            return
        name, results = result_at(name, results)
        status = _status_of(name, results)
        runs, notes, store = status.runs, status.notes, Store(results)
        states = [_state(run, store) for run in runs]
        if recorded := sum(state.is_recorded for state in states):
            notes.insert(
                0,
                f"{recorded} of {len(states)} runs are not in {results / 'runs'}; "
                f"their status is from {results / name / 'runs.csv'}",
            )
        if as_json:
            rows = [run._asdict() | state._asdict() for run, state in zip(runs, states, strict=True)]
            say_json({"name": status.name, "seed_range": status.seed_range, "runs": rows, "notes": notes})
            return
        console.print(_table(status.title, runs, states), highlight=False)
        console.print(_counts(states), highlight=False)
        for note in notes:
            say(note)


def _print_results(results: Path, as_json: bool) -> None:
    """Print the state of all results in a folder. Raises InputError if there are none."""
    from sac_bench.cli import listing

    rows = listing.results(results) if results.is_dir() else []
    if as_json:
        say_json({"results": rows})
        return
    if not rows:
        raise InputError(f"{results}: has no results yet; sac-bench status NAME shows what an experiment would train")
    console.print(listing.results_table(rows), highlight=False)


def _state(run: _Run, store: Store) -> _State:
    """Return a run's state in the store, or as its experiment recorded it: a record has no store beside it."""
    import pandas as pd

    from sac_bench.store.status import exploded_at

    known = store.run(run.id).status()
    if known["status"] == "new" and run.status != "not started":
        return _State(run.status, run.steps, run.target_steps, bool(pd.notna(run.exploded)), is_recorded=True)
    exploded = exploded_at(known, run.target_steps) is not None
    return _State(store.standing(known, run.target_steps), known["steps"], run.target_steps, exploded)


def _table(title: str, runs: Sequence[_Run], states: Sequence[_State]) -> Table:
    """Return a row per variant and environment; without the column of environments if there is one."""
    groups: dict[tuple[str, str], list[_State]] = {}
    for run, state in zip(runs, states, strict=True):
        groups.setdefault((run.variant, run.env), []).append(state)
    envs = list(dict.fromkeys(run.env for run in runs))
    several = len(envs) > 1
    columns = ["variant", *(["environment"] if several else []), "seeds", "steps", "of", "status"]
    shown = table(*columns, numbers=("seeds", "steps", "of"), title=title if several else f"{title} on {envs[0]}")
    for (variant, env), own in groups.items():
        steps = (f"{min(state.steps for state in own):,}", f"{own[0].target_steps:,}")
        shown.add_row(variant, *([env] if several else []), str(len(own)), *steps, _counts(own))
    return shown


def _counts(states: Sequence[_State]) -> str:
    from sac_bench.results.standings import in_words

    return in_words((state.status for state in states), sum(state.exploded for state in states))


class _Status(NamedTuple):
    name: str
    seed_range: str | None
    runs: list[_Run]
    notes: list[str]
    """Lines on what is superseded and, with a range of seeds, on the state of its comparisons."""

    @property
    def title(self) -> str:
        return f"{self.name}: seeds {self.seed_range}" if self.seed_range else self.name


def _status_of(name: str, results: Path) -> _Status:
    """Return what an experiment asks for as it was last run, or as its file says if it never was."""
    from sac_bench.results.manifest import FILE
    from sac_bench.spec.load import load
    from sac_bench.spec.names import find

    if (results / name / FILE).exists():
        from sac_bench.analysis.waves import compared
        from sac_bench.results.load import load_results
        from sac_bench.results.versions import superseded

        loaded = load_results(name, results)
        columns = loaded.runs[["variant", "env", "seed", "run_id", "target_steps", "status", "steps", "exploded"]]
        notes = [note] if (note := superseded(loaded.manifest)) else []
        if loaded.manifest.seed_range:
            notes += [f"{one.label}: {one.in_words()}" for one in compared(loaded)]
        runs = [_Run(*row) for row in columns.itertuples(index=False, name=None)]
        return _Status(name, loaded.manifest.seed_range, runs, notes)
    known = [path.parent.name for path in results.glob(f"*/{FILE}")]
    file = load(find(name, results, known))
    experiment = file.selection() or file
    runs = [_Run(v.name, s.env, s.seed, s.id, v.steps[s.env]) for v, s in experiment.runs()]
    seed_range = str(experiment.seed_range) if experiment.seed_range else None
    return _Status(experiment.name, seed_range, runs, [])
