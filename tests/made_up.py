"""Made-up manifests and results, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest, write_manifest
from sac_bench.results.schema import OPTIONAL_TABLES, TABLES, columns

Rows = Iterable[Mapping[str, Any]]


def manifest_of(about: Mapping[str, Any]) -> Manifest:
    """Return the manifest of {field: value}, with {variant: {environment: config}} as "config".

    Fills in what is missing: variants are of "sac" in its present version, and train for 100 steps.
    """
    given = {"name": "made-up", "question": "", "envs": ["Hopper-v5"], "seeds": [0, 1, 2], "config": {}} | dict(about)
    configs = given.pop("config")
    random = given.pop("random", {})
    variants = given.pop("variants")
    return Manifest.model_validate(
        given
        | {
            "variants": {name: _variant(given, variant, configs.get(name, {})) for name, variant in variants.items()},
            "random": {env: {"episodes": 10, "return_std": 1.0} | measured for env, measured in random.items()},
        }
    )


def _variant(given: Mapping[str, Any], variant: Mapping[str, Any], configs: Mapping[str, Any]) -> dict[str, Any]:
    filled = {"algorithm": "sac", "steps": dict.fromkeys(given["envs"], 100), "configs": configs} | dict(variant)
    if algorithm := ALGORITHMS.get(filled["algorithm"]):
        filled = {"version": algorithm.version, "scored_by": algorithm.scored_by} | filled
    return filled


def results_of(
    about: Mapping[str, Any] | Manifest,
    runs: Rows,
    evaluations: Rows = (),
    episodes: Rows = (),
    training: Rows = (),
    robustness: Rows = (),
) -> Results:
    """Return results of rows; a table's missing columns are empty, and a table without rows has none."""
    manifest = about if isinstance(about, Manifest) else manifest_of(about)
    tables = dict(zip(TABLES, (runs, evaluations, episodes, training, robustness), strict=True))
    return Results(manifest, **{name: _filled(name, pd.DataFrame(list(rows))) for name, rows in tables.items()})


def _filled(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.reindex(columns=list(dict.fromkeys([*columns(name), *table]))) if len(table) else pd.DataFrame()


def write_results(folder: Path, results: Results) -> None:
    """Write an experiment's folder as a run leaves it."""
    folder.mkdir(parents=True)
    for name in TABLES:
        table = getattr(results, name)
        if len(table) or name not in OPTIONAL_TABLES:
            _filled(name, table).to_csv(folder / f"{name}.csv", index=False)
    write_manifest(folder, results.manifest)
