"""XuanCe: a folder per seed with learning_curve.csv and, beside it, config.json and meta_data.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sac_bench.results.foreign.runs import ForeignResult, ForeignRun, csv_table, files_in, json_object


def read(path: Path) -> ForeignResult:
    """Read all learning curves of a path."""
    return ForeignResult([_run(file) for file in files_in(path, "learning_curve.csv", "learning curves")], False)


def _run(file: Path) -> ForeignRun:
    table = csv_table(file, ("step", "avg_return")).rename(columns={"avg_return": "return"})
    config, meta = json_object(file.parent / "config.json"), json_object(file.parent / "meta_data.json")
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
