"""TensorBoard event files of an experiment's runs, made from its CSV tables."""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.results.load import load_results
from sac_bench.store.atomic import BESIDE, file_name

FOLDER = "tensorboard"
LABELS = ["run_id", "variant", "env", "seed", "step", "policy", "wall_seconds"]


def check_installed() -> None:
    """Raise InputError if the package tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard requires the package tensorboard: pip install tensorboard")


def write_events(folder: Path) -> Path:
    """Replace <folder>/tensorboard/ with a folder <variant>/<environment>/seed-<n>/ per run; return its path.

    The tags are the columns of the CSV tables, such as `evaluation/mean/return_mean` and `training/critic_loss`.
    """
    check_installed()
    from torch.utils.tensorboard import SummaryWriter

    results = load_results(folder.name, folder.parent)
    beside = folder / f"{BESIDE}{uuid.uuid4().hex[:8]}-{FOLDER}"
    try:
        envs = results.runs["env"].unique()
        for run in results.runs.to_dict("records"):
            env = file_name(run["env"], envs)
            writer = SummaryWriter(beside / run["variant"] / env / f"seed-{run['seed']}")
            evaluations = _of(results.evaluations, run)
            for policy, rows in evaluations.groupby("policy") if len(evaluations) else []:
                _add(writer, f"evaluation/{policy}", rows)
            _add(writer, "training", _of(results.training, run))
            writer.close()
        written = folder / FOLDER
        shutil.rmtree(written, ignore_errors=True)  # duplicate events would be shown twice
        if beside.exists():
            beside.rename(written)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return written


def _of(table: pd.DataFrame, run: dict[Any, Any]) -> pd.DataFrame:
    if not len(table):
        return table
    return table[(table["run_id"] == run["run_id"]) & (table["variant"] == run["variant"])]


def _add(writer: Any, group: str, rows: pd.DataFrame) -> None:
    """Add every number of the rows at its step; missing values are skipped."""
    for column in rows.columns.difference(LABELS, sort=False):
        for step, value in rows[["step", column]].dropna().itertuples(index=False, name=None):
            writer.add_scalar(f"{group}/{column}", value, step)
