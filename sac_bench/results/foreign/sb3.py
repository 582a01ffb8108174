"""Stable-Baselines3: evaluations.npz of EvalCallback, or the files of Monitor (training returns)."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from sac_bench.errors import InputError
from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, csv_table, files_in

EVALUATIONS = "evaluations.npz"
MONITOR = "*monitor.csv"


def read(path: Path) -> ForeignResult:
    """Read all evaluations.npz of a path; without any, all monitor files: a run is a folder."""
    if path.suffix == ".npz" or (path.is_dir() and any(path.rglob(EVALUATIONS))):
        return ForeignResult([_evaluations(file) for file in files_in(path, EVALUATIONS, "evaluations")], True)
    files = files_in(path, MONITOR, f"{EVALUATIONS} or monitor files")
    return ForeignResult([_monitored(list(own)) for _, own in groupby(files, lambda file: file.parent)], True)


def _evaluations(file: Path) -> ForeignRun:
    """Read timesteps [T], results [T, episodes] and ep_lengths [T, episodes]."""
    try:
        with np.load(file) as arrays:
            steps, results = arrays["timesteps"], arrays["results"]
            lengths = arrays["ep_lengths"] if "ep_lengths" in arrays else np.full(results.shape, np.nan)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file}: is not a file of EvalCallback: {error}") from None
    episodes = results.shape[1]
    rows = {"step": np.repeat(steps, episodes), "return": results.ravel(), "length": lengths.ravel()}
    known = {header.get("env_id") for header in map(_header, sorted(file.parent.glob(MONITOR)))} - {None, "None"}
    card = {"metric": "evaluation", "episodes": episodes}
    return ForeignRun(file, pd.DataFrame(rows), env=known.pop() if len(known) == 1 else None, card=card)


def _header(file: Path) -> dict[str, str]:
    """Return the first line of a monitor file: #{"t_start": ..., "env_id": ...}."""
    with open(file, encoding="utf-8") as lines:
        first = lines.readline()
    try:
        header = json.loads(first.removeprefix("#"))
        return {"env_id": str(header["env_id"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: the first line must be that of Monitor: #{{...}} with env_id") from None


def _monitored(files: list[Path]) -> ForeignRun:
    """Read a run's monitor files, one per parallel environment: these step together."""
    headers = {_header(file)["env_id"] for file in files} - {"None"}
    parts = []
    for file in files:
        table = csv_table(file, ("r", "l"), comment="#")
        parts.append(
            pd.DataFrame({"step": table["l"].cumsum() * len(files), "return": table["r"], "length": table["l"]})
        )
    rows = pd.concat(parts, ignore_index=True).sort_values("step", kind="stable", ignore_index=True)
    card = {"metric": "training return", "actions": "sampled"}
    return ForeignRun(files[0].parent, rows, env=headers.pop() if len(headers) == 1 else None, card=card)
