"""Writes the numbers of an experiment's runs for other programs: TensorBoard (tensorboard.py) and wandb (wandb.py)."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from sac_bench.results.load import Results
from sac_bench.store.atomic import TEMPORARY_PREFIX

LABELS = ["run_id", "variant", "env", "seed", "step", "policy", "wall_seconds"]


NOTHING = pd.DataFrame()


class Writer(Protocol):
    """What takes the numbers of one run."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number, such as "evaluation/mean/return_mean", after so many steps."""

    def close(self) -> None:
        """End the run."""


def write_runs(results: Results, writer_of: Callable[[Mapping[Any, Any]], Writer]) -> None:
    """Write every row of `runs` to a writer of its own.

    The tags are the columns of the CSV tables, such as `evaluation/mean/return_mean` and `training/critic_loss`.
    """
    evaluations_of, training_of = _by_run(results.evaluations), _by_run(results.training)
    for run in results.runs.to_dict("records"):
        writer, key = writer_of(run), (run["run_id"], run["variant"])
        evaluations = evaluations_of.get(key, NOTHING)
        for policy, rows in evaluations.groupby("policy") if len(evaluations) else []:
            _add(writer, f"evaluation/{policy}", rows)
        _add(writer, "training", training_of.get(key, NOTHING))
        writer.close()


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a path for a new folder, which then replaces `folder`: numbers that are written twice are shown twice."""
    beside = folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{folder.name}"
    try:
        yield beside
        shutil.rmtree(folder, ignore_errors=True)
        if beside.exists():
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _by_run(table: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    return dict(list(table.groupby(["run_id", "variant"]))) if len(table) else {}


def _add(writer: Writer, group: str, rows: pd.DataFrame) -> None:
    """Add every number of the rows at its step; missing values are skipped."""
    for column in rows.columns.difference(LABELS, sort=False):
        for step, value in rows[["step", column]].dropna().itertuples(index=False, name=None):
            writer.add_scalar(f"{group}/{column}", value, step)
