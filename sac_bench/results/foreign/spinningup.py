"""Spinning Up: progress.txt (values separated by tabs, a row per epoch) and, beside it, config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, csv_table, files_in, json_object

STEPS, TESTED, TRAINED = "TotalEnvInteracts", "AverageTestEpRet", "AverageEpRet"


def read(path: Path) -> ForeignResult:
    """Read all progress.txt of a path: test returns where there are any, else training returns."""
    return ForeignResult([_run(file) for file in files_in(path, "progress.txt", "logs")], False)


def _run(file: Path) -> ForeignRun:
    table = csv_table(file, (STEPS,), sep="\t")
    measured = TESTED if TESTED in table else TRAINED
    if measured not in table:
        raise InputError(f"{file}: has neither {TESTED} nor {TRAINED}; give the log of a training run")
    # Replay algorithms log the index of an epoch's last step, counted from 0, the others the number of steps.
    steps = table[STEPS] + (measured == TESTED)
    length = table.get("TestEpLen" if measured == TESTED else "EpLen", float("nan"))
    rows = pd.DataFrame({"step": steps, "return": table[measured], "length": length})
    config = json_object(file.parent / "config.json")
    return ForeignRun(file, rows, variant=config.get("exp_name"), seed=config.get("seed"), card=_card(config, measured))


def _card(config: dict[str, Any], measured: str) -> dict[str, Any]:
    """Return what the log and its config say.

    Tests play deterministic actions. Replay algorithms make one update per step. update_every does not change that:
    "the ratio of env steps to gradient steps is locked to 1" (docstring of update_every).
    """
    if measured == TRAINED:
        return {"metric": "training return", "actions": "sampled"}
    card: dict[str, Any] = {"metric": "evaluation", "actions": "deterministic"}
    if "num_test_episodes" in config:
        card["episodes"] = config["num_test_episodes"]
    return card | ({"updates_per_transition": 1.0} if "update_every" in config else {})
