"""CleanRL: TensorBoard event files with charts/episodic_return, one folder ENV__NAME__SEED__TIME per run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, files_in

RETURN, LENGTH = "charts/episodic_return", "charts/episodic_length"
HYPERPARAMETERS = "hyperparameters/text_summary"
RUN_NAME = re.compile(r"(?P<env_id>.+?)__(?P<exp_name>.+?)__(?P<seed>[0-9]+)(__.*)?")


def read(path: Path) -> ForeignResult:
    """Read all event files of a path; those of one folder are one run. Raises InputError without tensorboard."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("import cleanrl: requires the package tensorboard: pip install 'sac_bench[tensorboard]'")
    files = files_in(path, "*tfevents*", "event files")
    folders = dict.fromkeys(file if path.is_file() else file.parent for file in files)
    return ForeignResult([_run(one) for one in folders], True)


def _run(where: Path) -> ForeignRun:
    """Read the events of a run: its folder, or its only file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(where), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    if RETURN not in events.Tags()["scalars"]:
        raise InputError(f"{where}: has no scalar {RETURN}; give the folder of CleanRL's runs")
    rows = pd.DataFrame([(one.step, one.value) for one in events.Scalars(RETURN)], columns=["step", "return"])
    if LENGTH in events.Tags()["scalars"] and len(lengths := events.Scalars(LENGTH)) == len(rows):
        rows["length"] = [one.value for one in lengths]
    match = RUN_NAME.fullmatch((where.parent if where.is_file() else where).name)
    stated = (match.groupdict() if match else {}) | _hyperparameters(events)
    seed = stated.get("seed")
    return ForeignRun(
        where,
        rows,
        variant=stated.get("exp_name"),
        env=stated.get("env_id"),
        seed=int(seed) if seed and seed.isdecimal() else None,
        card={"metric": "training return", "actions": "sampled"},
    )


def _hyperparameters(events: Any) -> dict[str, str]:
    """Return {parameter: value} of the table |param|value| that CleanRL writes, if it is there."""
    if HYPERPARAMETERS not in events.Tags()["tensors"]:
        return {}
    text = b"".join(events.Tensors(HYPERPARAMETERS)[0].tensor_proto.string_val).decode("utf-8", "replace")
    return dict(re.findall(r"^\|([^|\n]+)\|([^|\n]*)\|$", text, re.MULTILINE))
