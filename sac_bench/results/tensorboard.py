"""TensorBoard event files of an experiment's runs, made from its CSV tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError
from sac_bench.results.load import load_results
from sac_bench.results.tracking import Writer, replacing, write_runs
from sac_bench.store.atomic import file_name

FOLDER = "tensorboard"


def check_installed() -> None:
    """Raise InputError if the package tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard requires the package tensorboard: pip install tensorboard")


def write_events(folder: Path) -> Path:
    """Replace <folder>/tensorboard/ with a folder <variant>/<environment>/seed-<n>/ per run; return its path."""
    check_installed()
    from torch.utils.tensorboard import SummaryWriter

    results = load_results(folder.name, folder.parent)
    envs: list[str] = sorted(set(results.runs["env"])) if len(results.runs) else []
    with replacing(folder / FOLDER) as beside:

        def writer_of(run: Mapping[Any, Any]) -> Writer:
            env = file_name(run["env"], envs)
            made: Writer = SummaryWriter(beside / run["variant"] / env / f"seed-{run['seed']}")
            return made

        write_runs(results, writer_of)
    return folder / FOLDER
