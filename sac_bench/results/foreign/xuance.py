"""XuanCe: a folder per seed with learning_curve.csv and, beside it, config.json and meta_data.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError
from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, csv_table, files_in


def read(path: Path) -> ForeignResult:
    """Read all learning curves of a path."""
    return ForeignResult([_run(file) for file in files_in(path, "learning_curve.csv", "learning curves")], False)


def _run(file: Path) -> ForeignRun:
    table = csv_table(file, ("step", "avg_return")).rename(columns={"avg_return": "return"})
    config, meta = _json(file.parent / "config.json"), _json(file.parent / "meta_data.json")
    variant, seed = config.get("agent") or meta.get("algo"), config.get("seed", meta.get("seed"))
    return ForeignRun(
        file,
        table[["step", "return"]],
        variant=variant,
        env=config.get("env_id") or meta.get("env_id"),
        seed=seed if isinstance(seed, int) else None,
        card=_card(config),
    )


def _card(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says. Agents with a replay make one update per step of all parallel environments."""
    card: dict[str, Any] = {"metric": "evaluation"}
    if "test_episode" in config:
        card["episodes"] = config["test_episode"]
    has_replay = {"parallels", "start_training", "training_frequency"} <= config.keys()
    if has_replay and config["training_frequency"] == 1:
        card["updates_per_transition"] = 1 / config["parallels"]
    return card


def _json(file: Path) -> dict[str, Any]:
    """Return a JSON object, {} if there is no such file. Raises InputError if it is no JSON object."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{file}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: is not a JSON object; XuanCe writes its settings there")
    return found
