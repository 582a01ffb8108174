"""Lists of experiments, algorithms with their options, environments, and a folder's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.catalogue import HEADER, options
from sac_bench.cli.common import table
from sac_bench.errors import InputError, counted
from sac_bench.results import standings
from sac_bench.results.load import load_results
from sac_bench.results.manifest import FILE
from sac_bench.results.versions import superseded
from sac_bench.spec import names
from sac_bench.spec import presets as spec_presets
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.load import load
from sac_bench.spec.toml import read
from sac_bench.tuning import study as studies

_MUJOCO = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)
Row = dict[str, Any]


def experiments(folder: Path | None) -> list[Row]:
    """Return a row per experiment and study that has a name, or in a folder; of one that is not valid, why."""
    if folder is not None and not folder.is_dir():
        raise InputError(f"--folder {folder}: no such folder")
    files = names.known() if folder is None else names.named(folder)
    ordered = sorted(files.items(), key=lambda one: (one[0].rpartition("/")[0], one[0]))
    return [{"name": name, "file": str(path)} | _contents(path) for name, path in ordered]


def _contents(path: Path) -> Row:
    try:
        if "space" in read(path):
            study = studies.load(path)
            row = {"trials": study.trials, "runs": study.trials * len(study.envs) * len(study.seeds)}
            return _common(study) | row
        experiment = load(path)
    except InputError as error:
        return {"error": str(error)}
    looks = experiment.seed_range
    runs = sum(len(experiment.seeds_of(env, one)) for env in experiment.envs for one in experiment.variants)
    return _common(experiment) | {
        "variants": list(experiment.variants),
        "seed_range": str(looks) if looks else None,
        "runs": runs,
        "runs_at_most": sum(experiment.at_look(looks.last).values()) if looks else runs,
    }


def _common(one: Experiment | studies.Study) -> Row:
    return {"question": one.question, "envs": list(one.envs), "seeds": len(one.seeds), "steps": one.steps}


def _by_folder(rows: Iterable[Row]) -> dict[str, list[Row]]:
    return {folder: list(own) for folder, own in groupby(rows, lambda row: row["name"].rpartition("/")[0])}


def experiment_tables(rows: Iterable[Row]) -> list[Table]:
    """Return a table for each folder of experiments, with numbers of runs and steps."""
    return [_group(folder, own) for folder, own in _by_folder(rows).items()]


def group(name: str) -> list[Row]:
    """Return the rows of `experiments` in the folder of experiments with this name."""
    return [row for row in experiments(None) if row["name"].rpartition("/")[0] == name]


def overview(rows: Iterable[Row]) -> list[Table]:
    """Return the first screen of `list`: experiments by name and question, and what else can be listed."""
    folders = _by_folder(rows)
    first = table("name", "question", title="experiments: sac-bench run NAME")
    for row in folders.pop("", []):
        first.add_row(row["name"], _question(row))
    more = table("command", "what it lists", title="more")
    for folder, own in folders.items():
        if any("trials" in row for row in own):
            text = f"{len(own)} searches: sac-bench tune NAME"
        else:
            text = f"{counted(len(own), 'experiment')}; all: sac-bench run {folder}"
        more.add_row(f"sac-bench list {folder}", text)
    for command, text in MORE:
        more.add_row(f"sac-bench list {command}", text)
    return [*([first] if first.row_count else []), more]


def _question(row: Row) -> str:
    return f"not valid: {row['error']}" if "error" in row else str(row["question"])


MORE = (
    ("NAME", "one experiment's variants, seeds, steps and file"),
    ("experiments", "all experiments, with numbers of runs"),
    ("algorithms", ", ".join(ALGORITHMS)),
    ("sac", "SAC's options; the same for each algorithm"),
    ("environments", "environments to train on"),
    ("presets", "settings of other implementations"),
    ("recipes", "settings of SAC's successors"),
    ("results", "what results/ contains"),
)
"""What `sac-bench list` can list, besides folders of experiments."""


def experiment(path: Path) -> list[Row]:
    """Return the row of one experiment or study. Raises InputError if its file is not valid."""
    row = {"name": names.typed(path), "file": str(path)} | _contents(path)
    if "error" in row:
        raise InputError(row["error"])
    return [row]


def details(rows: Sequence[Row]) -> list[RenderableType]:
    """Return the description of one experiment or study."""
    (row,) = rows
    shown = Table(box=None, show_header=False, padding=(0, 2, 0, 1), pad_edge=False)
    is_study = "trials" in row
    numbers = [f"{row['runs']:,}"] if row["runs"] == row.get("runs_at_most", row["runs"]) else []
    facts = {
        "environments": ", ".join(row["envs"]),
        "variants": ", ".join(row.get("variants", [])),
        "trials": f"{row['trials']:,}" if is_study else "",
        "seeds": row.get("seed_range") or str(row["seeds"]),
        "runs": numbers[0] if numbers else f"{row['runs']:,}; at most {row['runs_at_most']:,}",
        "steps": f"{row['steps']:,} per run",
        "file": row["file"],
    }
    for name, fact in facts.items():
        if fact:
            shown.add_row(name, fact)
    command = f"sac-bench {'tune' if is_study else 'run'} {row['name']} --dry-run"
    return [
        f"{row['name']}: {row['question']}\n",
        shown,
        f"\nWhat would be trained, and how long it takes:\n  {command}",
    ]


def _group(folder: str, rows: Sequence[Row]) -> Table:
    are_studies = any("trials" in row for row in rows)
    command = "tune" if are_studies else "run"
    title = f"{folder or 'experiments'}: sac-bench {command} NAME"
    if folder and not are_studies:
        title += f"; all of them: sac-bench run {folder}"
    shown = table("name", "question", "runs", "steps", numbers=("runs", "steps"), title=title)
    for row in rows:
        name = row["name"].rpartition("/")[2]
        numbers = () if "error" in row else (f"{row['runs']:,}", f"{row['steps']:,}")
        shown.add_row(name, _question(row), *numbers)
    return shown


def results(folder: Path) -> list[Row]:
    """Return a row per experiment and study that a folder holds results of, at any depth; which are superseded."""
    if not folder.is_dir():
        raise InputError(f"--results {folder}: no such folder")
    rows = []
    for path in sorted(folder.rglob(FILE)):
        row: Row = {"name": str(path.parent.relative_to(folder))}
        try:
            loaded = load_results(path.parent.name, path.parent.parent)
            row |= {"runs": standings.of_runs(loaded.runs), "superseded": superseded(loaded.manifest)}
        except InputError as error:
            row |= {"error": f"cannot be read: {error}"}
        rows.append(row)
    return rows


def results_table(rows: Iterable[Row]) -> Table:
    """Return the table of `results`."""
    shown = table("result", "runs", "versions")
    for row in rows:
        shown.add_row(row["name"], row.get("runs", ""), row.get("error") or row["superseded"] or "current")
    return shown


def algorithms() -> dict[str, list[Row]]:
    """Return the options of each algorithm."""
    return {name: algorithm_options(name) for name in ALGORITHMS}


def algorithm_options(name: str) -> list[Row]:
    """Return the options of an algorithm."""
    return [dict(zip(HEADER, row, strict=True)) for row in options(ALGORITHMS[name])]


def algorithms_table(listed: Mapping[str, Sequence[Row]]) -> Table:
    """Return a table of algorithms."""
    shown = table("algorithm", "options", "to see them", numbers=("options",), title="algorithms")
    for name, rows in listed.items():
        shown.add_row(name, str(len(rows)), f"sac-bench list {name}")
    return shown


def options_table(name: str, rows: Iterable[Row]) -> RenderableType:
    """Return a table of an algorithm's options."""
    shown = table("option", "default", "meaning (values; source of the default)", title=name)
    for row in rows:
        notes = "; ".join(part for part in (row["values"], row["default's source"]) if part)
        shown.add_row(row["option"], row["default"], f"{row['meaning']} ({notes})")
    return shown


def presets() -> list[Row]:
    """Return a row per preset of another implementation, with its options and the source of each."""
    return [asdict(preset) for preset in spec_presets.presets().values() if preset.kind == "peer"]


RECIPE_ENVS = ("HalfCheetah-v5", "Humanoid-v5")
"""The environments for whose sizes `recipes` counts arithmetic."""


def recipes() -> list[Row]:
    """Return a row per recipe: its options, the source of each, and its arithmetic relative to SAC's defaults."""
    from sac_bench.training.flops import flops_per_transition  # torch takes seconds

    rows = [asdict(preset) for preset in spec_presets.presets().values() if preset.kind == "recipe"]
    sac = ALGORITHMS["sac"].config
    for row in rows:
        config = sac.model_validate({name: value for name, value in row["options"].items() if name != "algorithm"})
        row["FLOPs relative to SAC"] = {
            env: flops_per_transition("sac", config, env) / flops_per_transition("sac", sac(), env)
            for env in RECIPE_ENVS
        }
    return rows


def recipes_table(rows: Iterable[Row]) -> Table:
    """Return the table of `recipes`."""
    title = 'recipes: as = "NAME" in a variant; arithmetic per transition, SAC = 1'
    shown = table("recipe", "options that differ from SAC's", *RECIPE_ENVS, title=title)
    sac = ALGORITHMS["sac"].config().model_dump()
    for row in rows:
        changed = {name: value for name, value in row["options"].items() if name in sac and value != sac[name]}
        options = ", ".join(f"{name} = {value}" for name, value in changed.items())
        costs = [f"{cost:.1f}" for cost in row["FLOPs relative to SAC"].values()]
        shown.add_row(row["name"], f"{row['about']} ({row['source']}): {options}. {row['differs']}", *costs)
    return shown


def presets_table(rows: Iterable[Row]) -> Table:
    """Return the table of `presets`."""
    shown = table("preset", "what it is", "what differs here", title='presets: as = "NAME" in [base] or a variant')
    for row in rows:
        shown.add_row(row["name"], f"{row['about']} ({row['source']})", row["differs"])
    return shown


def environment_ids(full: bool) -> list[str]:
    """Return EnvPool's ids: all, or MuJoCo's."""
    if not full:
        return [f"{name}-v5" for name in _MUJOCO]
    from sac_bench.envs.pool import envpool_ids  # EnvPool takes seconds

    return sorted(envpool_ids())


def environments(ids: Sequence[str]) -> str:
    """Return EnvPool's ids in words."""
    return (
        f"Environments: {len(ids)} ids in EnvPool (those with continuous actions and vector observations can be "
        "trained on), and gymnasium:ID for any registered with Gymnasium.\n" + ", ".join(ids)
    )
