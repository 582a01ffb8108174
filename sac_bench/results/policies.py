"""Finds a trained policy by the name of its experiment, variant, environment and seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sac_bench.errors import InputError, nearest
from sac_bench.results.load import load_results

if TYPE_CHECKING:
    from sac_bench.evaluation.policy import Policy

_ID = re.compile(r"[0-9a-f]*")  # also if it is incomplete


def load_policy(run: str, results: str | Path = "results") -> Policy:
    """Return the policy that a run saved last.

    run: EXPERIMENT[/VARIANT[/ENVIRONMENT[/SEED]]], the first such run (by default of the reference), or a run's id
    results: the folder that contains runs/ and the experiments; "results/record/policies" holds committed policies

    Raises InputError if there is no such run, or if it has no policy or a damaged one.
    """
    from sac_bench.evaluation.policy import policy_of_run

    return policy_of_run(find_run(run, results), results)


def find_run(run: str, results: str | Path) -> str:
    """Return a run's id, given it or a name as `load_policy` takes it. Raises InputError if there is no such run."""
    if _ID.fullmatch(run):
        return run
    experiment, _, rest = run.partition("/")
    loaded = load_results(experiment, results)
    rest, runs = rest.rstrip("/") or loaded.manifest.reference, loaded.runs
    names = [f"{r.variant}/{r.env}/{r.seed}" for r in runs.itertuples()]
    for name, run_id in zip(names, runs["run_id"], strict=True):
        if f"{name}/".startswith(f"{rest}/"):
            return str(run_id)
    raise InputError(f"{run}: {experiment} has no such run{nearest(rest, [*names, *runs['variant']])}")
