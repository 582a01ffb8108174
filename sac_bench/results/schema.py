"""The CSV tables of an experiment: one row type per table, its columns in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints

import pandas as pd

from sac_bench.errors import InputError, nearest

PACKAGES = ("torch", "envpool", "gymnasium", "mujoco", "numpy", "python")
"""Versions recorded with every run, one column each."""

CONDITIONS = ("device", "device_kind", "compiled", "threads", "products", *PACKAGES, "commit")
"""What a run's bytes depend on beside its spec; see docs/reliability.md."""


class Column(NamedTuple):
    """What a column means; unit: of its numbers, "" if they have none."""

    description: str
    unit: str = ""


RETURN = "of the environment's own rewards, undiscounted"


class RunLabels(TypedDict):
    """The columns that every table starts with."""

    run_id: Annotated[str, Column("the run: a hash of its settings; variants with the same settings share it")]
    variant: Annotated[str, Column("the variant's name in the experiment")]
    env: Annotated[str, Column("the environment")]
    seed: Annotated[int, Column("the run's seed")]


class RunRow(RunLabels):
    """runs.csv: one row per variant and run. Variants may share a run."""

    status: Annotated[str, Column("finished, diverged, failed, damaged, interrupted, running or not started")]
    steps: Annotated[int, Column("trained so far", "transitions")]
    target_steps: Annotated[int, Column("to be trained", "transitions")]
    wall_seconds: Annotated[float | None, Column("training time so far of its whole cohort", "s")]
    cohort_size: Annotated[int | None, Column("how many runs trained together", "runs")]
    algorithm: Annotated[str, Column("the algorithm")]
    start: Annotated[str | None, Column("the id of the run whose weights it starts from")]
    backend: Annotated[str, Column("the simulator and its version; digests of a user-defined environment or algorithm")]
    device: Annotated[str | None, Column("the model of the CPU or GPU")]
    device_kind: Annotated[str | None, Column('"cpu" or "cuda"')]
    compiled: Annotated[str | None, Column("whether the programs were compiled")]
    threads: Annotated[str | None, Column("threads of its worker")]
    products: Annotated[str | None, Column("the precision of products, and the CPU's vector instructions")]
    torch: Annotated[str | None, Column("version of torch")]
    envpool: Annotated[str | None, Column("version of EnvPool")]
    gymnasium: Annotated[str | None, Column("version of Gymnasium")]
    mujoco: Annotated[str | None, Column("version of MuJoCo")]
    numpy: Annotated[str | None, Column("version of NumPy")]
    python: Annotated[str | None, Column("version of Python")]
    commit: Annotated[str | None, Column("the commit of this project")]
    reason: Annotated[str | None, Column("why the run failed or diverged")]
    exploded: Annotated[int | None, Column("the step at which |Q| was first seen to exceed what rewards allow", "step")]


class EvaluationRow(RunLabels):
    """evaluations.csv: one row per evaluation and policy. Returns are undiscounted."""

    step: Annotated[int, Column("after how many transitions of training", "transitions")]
    policy: Annotated[str, Column('the actions that are played: "mean" or "sample"')]
    return_mean: Annotated[float, Column("mean return of the episodes", RETURN)]
    return_std: Annotated[float, Column("standard deviation of the episodes' returns", RETURN)]
    length_mean: Annotated[float, Column("mean length of the episodes", "steps")]
    episodes: Annotated[int, Column("how many were played", "episodes")]
    wall_seconds: Annotated[float, Column("time of the cohort's training so far", "s")]
    updates: Annotated[int | None, Column("updates of the networks so far", "updates")]
    flops: Annotated[float | None, Column("matrix products of acting and updating so far", "FLOPs")]


class EpisodeRow(RunLabels):
    """episodes.csv: one row per evaluation episode."""

    step: Annotated[int, Column("after how many transitions of training", "transitions")]
    policy: Annotated[str, Column('the actions that are played: "mean" or "sample"')]
    episode: Annotated[int, Column("its number in the evaluation, from 0")]
    # "return" is a column, too: a Python keyword cannot be a field (KEYWORDS).
    length: Annotated[int, Column("its length", "steps")]


class TrainingRow(RunLabels):
    """training.csv: one row per segment; the algorithm's metrics follow, one column each."""

    step: Annotated[int, Column("the end of the segment", "transitions")]
    episodes: Annotated[int | None, Column("training episodes that ended in the segment", "episodes")]
    return_mean: Annotated[float | None, Column("their mean return", RETURN)]


class RobustnessRow(RunLabels):
    """robustness.csv: one row per run and measure of its trained policy (spec/measures.py)."""

    measure: Annotated[str, Column("the measure's name (docs/api.md)")]
    value: Annotated[float | None, Column("the measure of the trained policy", "by measure")]
    reason: Annotated[str | None, Column("why there is no value")]


class BackendRow(TypedDict):
    """tables/backends.csv: one row per comparison and task that is trained on two backends, a and b."""

    task: Annotated[str, Column("the task: the environment without its backend")]
    comparison: Annotated[str, Column("the variant that is compared with the reference, or the claim's expectation")]
    backend_a: Annotated[str, Column("the first backend")]
    env_a: Annotated[str, Column("the environment on it")]
    verdict_a: Annotated[str, Column("the verdict there")]
    difference_a: Annotated[float | None, Column("the difference there", "by measure")]
    exploded_a: Annotated[int, Column("how many of the compared runs exploded there", "runs")]
    backend_b: Annotated[str, Column("the second backend")]
    env_b: Annotated[str, Column("the environment on it")]
    verdict_b: Annotated[str, Column("the verdict there")]
    difference_b: Annotated[float | None, Column("the difference there", "by measure")]
    exploded_b: Annotated[int, Column("how many of the compared runs exploded there", "runs")]
    change: Annotated[float | None, Column("difference b minus difference a", "by measure")]
    change_ci_low: Annotated[float | None, Column("lower end of its 95% interval", "by measure")]
    change_ci_high: Annotated[float | None, Column("upper end of its 95% interval", "by measure")]
    outcome: Annotated[str, Column("whether the verdict survives, differs, or is not decided on both")]


KEYWORDS = {"episodes": {"return": Column("the episode's return", RETURN)}}
"""{table: its columns whose names are keywords of Python}."""
TABLES: dict[str, type] = {
    "runs": RunRow,
    "evaluations": EvaluationRow,
    "episodes": EpisodeRow,
    "training": TrainingRow,
    "robustness": RobustnessRow,
}
DERIVED_TABLES: dict[str, type] = {"backends": BackendRow}
"""Tables that a report computes from the others."""
OPTIONAL_TABLES = ("robustness",)
"""Tables without a file if they have no rows."""


def columns(table: str) -> list[str]:
    """Return the columns of a table, in order."""
    return list(get_type_hints((TABLES | DERIVED_TABLES)[table]))


def described(table: str) -> pd.DataFrame:
    """Return what the columns of a table mean: column, unit, description. Raises InputError for an unknown table."""
    tables = TABLES | DERIVED_TABLES
    if table not in tables:
        raise InputError(f"{table!r} is not a table; must be one of {', '.join(tables)}{nearest(table, tables)}")
    hints = get_type_hints(tables[table], include_extras=True)
    known = {name: hint.__metadata__[0] for name, hint in hints.items()} | KEYWORDS.get(table, {})
    rows = [(name, column.unit, column.description) for name, column in known.items()]
    return pd.DataFrame(rows, columns=["column", "unit", "description"])


def frame(table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build a table from rows. Missing entries are empty."""
    kept = list(rows)
    return pd.DataFrame(kept, columns=columns(table)) if kept else pd.DataFrame()
