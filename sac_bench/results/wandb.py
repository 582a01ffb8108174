"""An experiment's runs for Weights & Biases, made from its CSV tables: offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError
from sac_bench.results.load import load_results
from sac_bench.results.tracking import Writer, replacing, write_runs

FOLDER = "wandb"


def check_installed() -> None:
    """Raise InputError if the package wandb is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise InputError("--track wandb requires the package wandb: pip install 'sac_bench[wandb]'")


class _Run:
    """One run of wandb. It takes steps in ascending order only, so numbers wait for the end."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._rows: dict[int, dict[str, float]] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number."""
        self._rows.setdefault(step, {})[tag] = value

    def close(self) -> None:
        """Log all numbers and end the run."""
        for step in sorted(self._rows):
            self._run.log(self._rows[step], step=step)
        self._run.finish()


def write_events(folder: Path) -> Path:
    """Replace <folder>/wandb/ with a run of wandb per run id, with its config and numbers; return its path.

    WANDB_MODE=online sends them at once, WANDB_PROJECT names the project. Variants that share a run have one, under
    the name of the first.
    """
    check_installed()
    import wandb

    results = load_results(folder.name, folder.parent)
    if len(results.runs):
        results = replace(results, runs=results.runs.drop_duplicates("run_id"))
    with replacing(folder / FOLDER) as beside:
        beside.mkdir()

        def writer_of(run: Mapping[Any, Any]) -> Writer:
            labels = {name: run[name] for name in ("variant", "env", "seed", "algorithm")}
            options = results.manifest.variants[run["variant"]].configs.get(run["env"], {})
            return _Run(
                wandb.init(
                    project=os.environ.get("WANDB_PROJECT", "sac_bench"),
                    group=results.manifest.name,
                    id=run["run_id"],
                    name=f"{run['variant']} on {run['env']}, seed {run['seed']}",
                    config=options | labels,
                    dir=str(beside),
                    mode=os.environ.get("WANDB_MODE", "offline"),
                )
            )

        write_runs(results, writer_of)
    return folder / FOLDER
