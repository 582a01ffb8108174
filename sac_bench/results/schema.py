"""The CSV tables of an experiment: one row type per table, its columns in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, get_type_hints

import pandas as pd

PACKAGES = ("torch", "envpool", "gymnasium", "mujoco", "numpy", "python")
"""Versions recorded with every run, one column each."""

CONDITIONS = ("device", "device_kind", "compiled", "threads", "products", *PACKAGES, "commit")
"""What a run's bytes depend on beside its spec; see docs/reliability.md."""


class RunLabels(TypedDict):
    """The columns that every table starts with."""

    run_id: str
    variant: str
    env: str
    seed: int


class RunRow(RunLabels):
    """runs.csv: one row per variant and run. Variants may share a run."""

    status: str
    steps: int
    target_steps: int
    wall_seconds: float | None
    cohort_size: int | None
    algorithm: str
    start: str | None
    """The id of the run whose weights it starts from."""
    backend: str
    device: str | None
    device_kind: str | None
    """"cpu" or "cuda"."""
    compiled: str | None
    threads: str | None
    products: str | None
    torch: str | None
    envpool: str | None
    gymnasium: str | None
    mujoco: str | None
    numpy: str | None
    python: str | None
    commit: str | None
    reason: str | None
    """Why the run failed or diverged."""
    exploded: int | None
    """The step at which |Q| was first seen to exceed what rewards allow (training/explosion.py)."""


class EvaluationRow(RunLabels):
    """evaluations.csv: one row per evaluation and policy. Returns are undiscounted."""

    step: int
    policy: str
    return_mean: float
    return_std: float
    length_mean: float
    episodes: int
    wall_seconds: float


class EpisodeRow(RunLabels):
    """episodes.csv: one row per evaluation episode."""

    step: int
    policy: str
    episode: int
    # "return" is a column, too: a Python keyword cannot be a field.
    length: int


class TrainingRow(RunLabels):
    """training.csv: one row per segment; the algorithm's metrics follow, one column each."""

    step: int
    episodes: int | None
    return_mean: float | None


class RobustnessRow(RunLabels):
    """robustness.csv: one row per run and measure of its trained policy (spec/measures.py)."""

    measure: str
    value: float | None
    reason: str | None
    """Why there is no value."""


TABLES: dict[str, type] = {
    "runs": RunRow,
    "evaluations": EvaluationRow,
    "episodes": EpisodeRow,
    "training": TrainingRow,
    "robustness": RobustnessRow,
}
OPTIONAL_TABLES = ("robustness",)
"""Tables without a file if they have no rows."""
LATER_COLUMNS = {"runs": ("device_kind", "exploded")}
"""Columns that results of earlier versions lack."""


def columns(table: str) -> list[str]:
    """Return the columns of a table, in order."""
    return list(get_type_hints(TABLES[table]))


def frame(table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build a table from rows. Missing entries are empty."""
    kept = list(rows)
    return pd.DataFrame(kept, columns=columns(table)) if kept else pd.DataFrame()
