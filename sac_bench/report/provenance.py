"""How an experiment's runs were made: settings, machine, versions, and the runs that did not finish."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sac_bench.report.labels import labelled
from sac_bench.report.page import Block, Grid, text
from sac_bench.results.manifest import Manifest
from sac_bench.results.schema import PACKAGES


def absent(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return a table of the runs that diverged, failed or are not finished, with reasons."""
    absent = labelled(runs[runs["status"] != "finished"], manifest)
    columns = ["variant", "env", "seed", "status", "steps", "target_steps", "run_id", "reason"]
    return [Grid(absent.reindex(columns=columns).astype({"reason": object}).fillna({"reason": ""}))] * bool(len(absent))


def exploded(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return a table of the runs that exploded, and since which steps."""
    own = labelled(runs[runs["exploded"].notna()], manifest)
    return [Grid(own[["variant", "env", "seed", "status", "exploded", "run_id"]])] * bool(len(own))


def settings(manifest: Manifest) -> list[Block]:
    """Return all options of the reference, and what the other variants change."""
    configs = [manifest.variants[manifest.reference].configs[env] for env in manifest.envs]
    values = [[json.dumps(config.get(option)) for config in configs] for option in configs[0]]
    settings = {"option": list(configs[0]), "value": [_everywhere(manifest.envs, row) for row in values]}
    variants = manifest.variants
    changed = {
        "variant": list(variants),
        "algorithm": [v.algorithm for v in variants.values()],
        "changes": [_changes(v.overrides) for v in variants.values()],
        "steps": [_steps(v.steps) for v in variants.values()],
    }
    return [
        text("What each variant changes:"),
        Grid(pd.DataFrame(changed)),
        text(f"All options of the reference, `{manifest.reference}` ({variants[manifest.reference].algorithm}):"),
        Grid(pd.DataFrame(settings)),
    ]


def made(runs: pd.DataFrame, manifest: Manifest) -> list[Block]:
    """Return the command, the machine, the versions and the training time."""
    # Each member's row has the whole cohort's time: count it once.
    seconds = (runs["wall_seconds"] / runs["cohort_size"]).sum()
    random = "; ".join(
        f"{env} {of.return_mean:.1f} (std {of.return_std:.1f}, {of.episodes} episodes)"
        if math.isfinite(of.return_mean)
        else f"{env} not finite"
        for env, of in manifest.random.items()
    )
    facts = {
        "command": manifest.command,
        "machine": _distinct(runs, "device"),
        "versions": ", ".join(f"{name} {_distinct(runs, name)}" for name in PACKAGES),
        "code": _distinct(runs, "commit"),
        "compiled": _distinct(runs, "compiled"),
        "threads of a worker": _distinct(runs, "threads"),
        "matrix products": _distinct(runs, "products"),
        "seeds": manifest.seeds_in_words(),
        "transitions": f"{runs['steps'].sum():,}",
        "time": f"{hours(seconds)} in total over cohorts, which may have run in parallel on one machine",
        "random policy's return": random or "not measured",
    }
    return [Grid(pd.DataFrame({"what": list(facts), "value": list(facts.values())}))]


def hours(seconds: float) -> str:
    """Return a duration in words: "12.5 min", "3.1 h"."""
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _everywhere(envs: Sequence[str], values: list[str]) -> str:
    """Return the value of each environment, or a single one if all are equal."""
    if len(set(values)) == 1:
        return values[0]
    return "; ".join(f"{env}: {value}" for env, value in zip(envs, values, strict=True))


def _changes(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in overrides.items()) or "nothing"


def _steps(steps: dict[str, int]) -> str:
    if len(set(steps.values())) == 1:
        return f"{next(iter(steps.values())):,}"
    return ", ".join(f"{env} {count:,}" for env, count in steps.items())


def _distinct(runs: pd.DataFrame, column: str) -> str:
    return "; ".join(sorted({str(v) for v in runs.get(column, pd.Series(dtype=object)).dropna()})) or "unknown"
