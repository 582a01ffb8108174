"""What there is to run: experiments in a folder, algorithms with their options, environments."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.catalogue import HEADER, options
from sac_bench.envs.pool import envpool_ids
from sac_bench.errors import InputError
from sac_bench.results import standings
from sac_bench.results.load import load_results
from sac_bench.results.manifest import FILE
from sac_bench.results.versions import superseded
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


def experiments(folder: Path) -> Table:
    """Experiments and studies in a folder's files; of one that is not valid, why."""
    if not folder.is_dir():
        raise InputError(f"--folder {folder}: no such folder")
    table = Table("experiment", "question", "environments", "variants", "seeds", "steps", title="Experiments")
    for path in sorted(path for path in folder.rglob("*.toml") if not path.name.startswith("_")):
        try:
            if "space" in read(path):
                s = studies.load(path)
                table.add_row(
                    str(path), s.question, ", ".join(s.envs), f"{s.trials} trials", str(len(s.seeds)), f"{s.steps:,}"
                )
                continue
            e = load(path)
        except InputError as error:
            table.add_row(str(path), f"not valid: {error}")
            continue
        seeds = str(e.seed_range or len(e.seeds))
        table.add_row(str(path), e.question, ", ".join(e.envs), str(len(e.variants)), seeds, f"{e.steps:,}")
    return table


def results(folder: Path) -> Table:
    """Experiments and studies that a folder holds results of, at any depth; which of them are superseded."""
    if not folder.is_dir():
        raise InputError(f"--results {folder}: no such folder")
    table = Table("result", "runs", "versions", title="Results")
    for path in sorted(folder.rglob(FILE)):
        try:
            loaded = load_results(path.parent.name, path.parent.parent)
            counts = standings.of_runs(loaded.runs)
            versions = superseded(loaded.manifest) or "those of this code"
        except InputError as error:
            counts, versions = "", f"cannot be read: {error}"
        table.add_row(str(path.parent.relative_to(folder)), counts, versions)
    return table


def algorithms() -> list[Table]:
    """Return a table of options for each algorithm."""
    tables = []
    for algorithm in ALGORITHMS.values():
        table = Table(*HEADER, title=algorithm.name)
        for row in options(algorithm):
            table.add_row(*row)
        tables.append(table)
    return tables


def environments(full: bool) -> str:
    """EnvPool's ids: all, or MuJoCo's."""
    ids = sorted(envpool_ids())
    shown = ids if full else [i for i in ids if i.endswith("-v5") and i.split("-")[0] in _MUJOCO]
    return (
        f"Environments: {len(ids)} ids in EnvPool (those with continuous actions and vector observations can be "
        "trained on), and gymnasium:ID for any registered with Gymnasium.\n"
        + ", ".join(shown)
        + ("" if full else ", ... (all: sac-bench list environments)")
    )
