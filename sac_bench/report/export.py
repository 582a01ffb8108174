"""Scores and curves in the formats of other programs: rliable, marl-eval, and tidy CSV.

rliable (Agarwal et al. 2021) reads a dictionary of arrays [runs, tasks] per algorithm. marl-eval (Gorsane et al. 2022)
reads a JSON file of environment, task, algorithm, run and step. Scores are those of all reports (analysis/scores.py).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sac_bench.errors import InputError, counted
from sac_bench.report.results import Results
from sac_bench.store.atomic import write_atomically

MEASURE = "return"
"""What marl-eval calls the returns of evaluations."""


class Exported(NamedTuple):
    """A file's bytes, and sentences on what its format could not hold."""

    data: bytes
    left_out: tuple[str, ...] = ()


def rliable_scores(results: Results) -> dict[str, np.ndarray]:
    """Return {variant: scores [runs, tasks]} as rliable reads them; tasks are in the order of the manifest's `envs`.

    A row is a seed that has a score in every environment. Divide by your own scale first: rliable expects normalised
    scores. Raises InputError if a variant has no such seed.

    Example:
        >>> from rliable import library, metrics
        >>> library.get_interval_estimates(rliable_scores(r), lambda x: np.array([metrics.aggregate_iqm(x)]))
    """
    whole = {name: rows for name, rows in _by_variant(results).items() if len(rows)}
    if missing := [name for name in results.manifest.variants if name not in whole]:
        raise InputError(f"{results.manifest.name}: no seed of {missing[0]!r} has a score in every environment yet")
    return {name: rows.to_numpy(dtype=float) for name, rows in whole.items()}


def _by_variant(results: Results) -> dict[str, pd.DataFrame]:
    """Return {variant: scores [seeds, environments]} of the seeds that have a score in every environment."""
    table, manifest = results.scores(), results.manifest
    wide = table.pivot_table(index=["variant", "seed"], columns="env", values="score", dropna=False)
    wide = wide.reindex(columns=list(manifest.envs)).dropna()
    return {name: wide[wide.index.get_level_values("variant") == name] for name in manifest.variants}


def _rliable(results: Results) -> Exported:
    arrays, scored = rliable_scores(results), results.scores()
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # names of variants are keywords
    lost = len(scored) - sum(map(np.size, arrays.values()))
    return Exported(file.getvalue(), (f"{counted(lost, 'run')} without a score in every environment",) * bool(lost))


def marl_eval(results: Results) -> dict[str, Any]:
    """Return {experiment: {environment: {variant: {seed: steps}}}} as marl-eval reads it.

    A step has "step_count" and "return", a list with the mean return of its evaluation. "absolute_metrics" has the
    score. marl-eval looks up the seeds and steps of the first variant and environment in all others, so these are the
    seeds with a score and the steps with an evaluation everywhere. Raises InputError if there are none, or if variants
    differ only in case, which marl-eval ignores.
    """
    manifest, curves = results.manifest, results.curves()
    _check_case(manifest.name, list(manifest.variants))
    keys = ["env", "variant", "seed"]
    known = results.scores().dropna(subset="score").set_index(keys)["score"]
    curves = curves[curves.set_index(keys).index.isin(known.index)]
    cells: dict[Any, pd.DataFrame] = {
        cell: rows.pivot_table(index="seed", columns="step", values="return")
        for cell, rows in curves.groupby(["env", "variant"])
    }
    if len(cells) < len(manifest.envs) * len(manifest.variants):
        raise InputError(f"{manifest.name}: a variant has no score in an environment yet, which marl-eval requires")
    seeds = sorted(set.intersection(*(set(wide.index) for wide in cells.values())))
    steps = sorted(set.intersection(*(set(wide.columns) for wide in cells.values())))
    if not (seeds and steps):
        what = "step was evaluated" if seeds else "seed has a score"
        raise InputError(f"{manifest.name}: no {what} in all variants and environments yet, which marl-eval requires")
    exported: dict[str, Any] = {}
    for env in manifest.envs:
        for name in manifest.variants:
            exported.setdefault(env, {})[name] = {
                str(seed): _run(cells[env, name].loc[seed, steps], float(known[env, name, seed])) for seed in seeds
            }
    return {manifest.name: exported}


def _check_case(name: str, variants: list[str]) -> None:
    """Raise InputError if two variants differ only in case."""
    for i, variant in enumerate(variants):
        if same := [other for other in variants[:i] if other.lower() == variant.lower()]:
            raise InputError(
                f"{name}: variants {same[0]!r} and {variant!r} differ only in case, which marl-eval ignores"
            )


def _run(curve: pd.Series, score: float) -> dict[str, Any]:
    """Return a run's steps, given its returns indexed by step."""
    steps = {
        f"step_{number}": {"step_count": int(step), MEASURE: [float(value)]}
        for number, (step, value) in enumerate(zip(curve.index.tolist(), curve, strict=True), 1)
    }
    return {**steps, "absolute_metrics": {MEASURE: [score]}}


def _marl_eval(results: Results) -> Exported:
    exported = marl_eval(results)
    kept = sum(len(runs) for of_env in exported[results.manifest.name].values() for runs in of_env.values())
    lost = len(results.scores()) - kept
    why = f"{counted(lost, 'run')}: marl-eval requires seeds that have a score in all variants and environments"
    return Exported((json.dumps(exported, indent=1) + "\n").encode(), (why,) * bool(lost))


def _tidy(results: Results) -> Exported:
    keys = ["variant", "env", "seed"]
    table = results.curves().merge(results.scores()[[*keys, "score"]], "left", keys)
    return Exported(table.to_csv(index=False).encode())


class Format(NamedTuple):
    """A format: its file's suffix and content."""

    suffix: str
    of: Callable[[Results], Exported]


FORMATS = {"rliable": Format("npz", _rliable), "marl-eval": Format("json", _marl_eval), "tidy": Format("csv", _tidy)}


def write_export(results: Results, form: str, path: Path) -> tuple[str, ...]:
    """Write results in one of FORMATS; return sentences on what was left out. Raises InputError if that is all."""
    exported = FORMATS[form].of(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, exported.data)
    return exported.left_out
