"""sac-bench list and status: what there is to run, and the state of an experiment's runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from sac_bench.cli.common import ImportOption, ResultsOption, app, console, import_modules, say, user_errors
from sac_bench.errors import InputError, nearest


@app.command(name="list")
def list_(
    what: Annotated[
        str, typer.Argument(help="experiments, algorithms, environments (by default all three), or results.")
    ] = "all",
    folder: Annotated[Path, typer.Option(help="The folder of experiment files.")] = Path("experiments"),
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],  # noqa: B006
) -> None:
    """List experiments, algorithms with every option, environments, or which results are superseded."""
    with user_errors():
        import_modules(import_)
        from sac_bench.cli import listing

        known = ("experiments", "algorithms", "environments", "results")
        if what not in (*known, "all"):
            raise InputError(f"list {what}: must be one of {', '.join(known)}{nearest(what, known)}")
        if what in ("experiments", "all"):
            console.print(listing.experiments(folder))
        if what in ("algorithms", "all"):
            console.print(*listing.algorithms())
        if what == "results":
            console.print(listing.results(results))
        if what in ("environments", "all"):
            console.print(listing.environments(full=what == "environments"), highlight=False)


class _Run(NamedTuple):
    variant: str
    env: str
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


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="An experiment's name, or its file.")],
    results: ResultsOption = Path("results"),
    import_: ImportOption = [],  # noqa: B006
) -> None:
    """Print the state of an experiment's runs and, with a range of seeds, of its comparisons."""
    with user_errors():
        import_modules(import_)
        import pandas as pd

        from sac_bench.results.manifest import FILE
        from sac_bench.store.status import exploded_at
        from sac_bench.store.store import Store

        if (Path(name) / FILE).exists():  # a result's folder
            results, name = Path(name).parent, Path(name).name
        title, runs, notes = _runs_of(name, results)
        store, recorded = Store(results), 0
        states: dict[tuple[str, str], list[_State]] = {}
        for run in runs:
            known = store.run(run.id).status()
            exploded = exploded_at(known, run.target_steps) is not None
            state = _State(store.standing(known, run.target_steps), known["steps"], run.target_steps, exploded)
            if known["status"] == "new" and run.status != "not started":  # a record has no store beside it
                state = _State(run.status, run.steps, run.target_steps, bool(pd.notna(run.exploded)))
                recorded += 1
            states.setdefault((run.variant, run.env), []).append(state)
        table = Table("variant", "environment", "seeds", "status", "steps", title=title)
        for (variant, env), own in states.items():
            steps = f"{min(state.steps for state in own):,} of {own[0].target_steps:,}"
            table.add_row(variant, env, str(len(own)), _counts(own), steps)
        console.print(table)
        every = [state for own in states.values() for state in own]
        console.print(_counts(every), highlight=False)
        if recorded:
            say(
                f"{recorded} of {len(every)} runs are not in {results / 'runs'}; "
                f"their status is that of {results / name / 'runs.csv'}"
            )
        for note in notes:
            say(note)


def _counts(states: list[_State]) -> str:
    from sac_bench.results.standings import in_words

    return in_words((state.status for state in states), sum(state.exploded for state in states))


def _title(name: str, seed_range: object) -> str:
    """Return an experiment's name, with its range of seeds if it has one."""
    return f"{name}: seeds {seed_range}" if seed_range else name


def _runs_of(name: str, results: Path) -> tuple[str, list[_Run], list[str]]:
    """Return an experiment's title and runs, as last run, or from its file if it never was.

    Then come lines on what is superseded and, with a range of seeds, on where its comparisons stand.
    """
    from sac_bench.results.manifest import FILE
    from sac_bench.spec.includes import find
    from sac_bench.spec.load import load

    if (results / name / FILE).exists():
        from sac_bench.analysis.waves import compared
        from sac_bench.results.load import load_results
        from sac_bench.results.versions import superseded

        loaded = load_results(name, results)
        columns = loaded.runs[["variant", "env", "run_id", "target_steps", "status", "steps", "exploded"]]
        title = _title(name, loaded.manifest.seed_range)
        notes = [note] if (note := superseded(loaded.manifest)) else []
        if loaded.manifest.seed_range:
            notes += [f"{one.label}: {one.in_words()}" for one in compared(loaded)]
        return title, [_Run(*row) for row in columns.itertuples(index=False, name=None)], notes
    known = [path.parent.name for path in results.glob(f"*/{FILE}")]
    file = load(find(name, results, known))
    experiment = file.selection() or file
    title = _title(experiment.name, experiment.seed_range)
    return title, [_Run(v.name, s.env, s.id, v.steps[s.env]) for v, s in experiment.runs()], []
