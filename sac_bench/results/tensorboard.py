"""An experiment's runs as TensorBoard's event files, made from its CSV tables."""

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
    """InputError without the package tensorboard."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard: wants the package tensorboard; pip install tensorboard")


def write_events(folder: Path) -> Path:
    """Write <folder>/tensorboard/<variant>/<environment>/seed-<n>/ for every run anew; the folder of all.

    `evaluation/mean/return_mean`, `training/critic_loss` and so on: the columns of the CSV tables against steps.
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
            mine = [_of(table, run) for table in (results.evaluations, results.training)]
            for policy, rows in mine[0].groupby("policy") if len(mine[0]) else []:
                _add(writer, f"evaluation/{policy}", rows)
            _add(writer, "training", mine[1])
            writer.close()
        written = folder / FOLDER
        shutil.rmtree(written, ignore_errors=True)  # events that are written twice would be shown twice
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
    """Every number of the rows at its step; what was not measured is left out."""
    for column in rows.columns.difference(LABELS, sort=False):
        for step, value in rows[["step", column]].dropna().itertuples(index=False, name=None):
            writer.add_scalar(f"{group}/{column}", value, step)
