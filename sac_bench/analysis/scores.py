"""The scoring rule: which evaluations are a run's score. Tables, figures, claims and tuning use it.

A run is scored at the steps `equal_steps` names, by the policy that its algorithm names (`scored_by`), over the
evaluations in the last tenth of these steps, or another share that its file gives (`score_last`). A diverged run gets
the return of a random policy, if that is known. A run that failed, is damaged or unfinished has no score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from sac_bench.analysis.statistics import area_score, is_late, run_score
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.status import standing_at

Steps = Mapping[tuple[str, str], int]
"""{(environment, variant): the steps at which its runs are scored}."""


def scores(results: Results, policy: str | None = None, at: Steps | None = None) -> pd.DataFrame:
    """Return one row per run: env, variant, seed, status, score, area (the mean of its curve), exploded.

    `policy`: "mean" or "sample"; by default the one that scores the run. The other one has no score if it was not
    played in that last share of the steps. `at`: the steps to score at; by default equal for all variants of an
    environment. `status` and `exploded` are the run's at these steps. Score and area are NaN for
    a run without.
    Computed once per result: change none of its tables in place.
    """
    steps_of = at or equal_steps(results.manifest)
    known, key = _KNOWN.setdefault(results, {}), (policy, tuple(steps_of.items()))
    if key not in known:
        known[key] = _scores(results, policy, steps_of)
    return known[key].copy()


_KNOWN: WeakKeyDictionary[Results, dict[Any, pd.DataFrame]] = WeakKeyDictionary()


def _scores(results: Results, policy: str | None, steps_of: Steps) -> pd.DataFrame:
    manifest, rows = results.manifest, []
    evaluations = results.evaluations
    by_run = dict(list(evaluations.groupby(["run_id", "variant"]))) if len(evaluations) else {}
    for run in results.runs.to_dict("records"):
        score = area = float("nan")
        env, variant = run["env"], run["variant"]
        if (env, variant) not in steps_of:
            continue
        steps = steps_of[env, variant]
        status = standing_when_scored(run, manifest, steps)
        if status == "diverged":
            score = area = manifest.random_return(env)
        elif status == "finished" and (run["run_id"], variant) in by_run:
            rows_of_run = policy_rows(by_run[run["run_id"], variant], policy or scored_by(manifest, variant))
            curve = curve_to(rows_of_run, steps)
            if policy is None or is_late(curve[0], steps, manifest.score_last).any():
                score, area = run_score(*curve, steps, manifest.score_last), area_score(*curve)
        labels = {"env": env, "variant": variant, "seed": run["seed"], "status": status}
        exploded = bool(pd.notna(run["exploded"]) and run["exploded"] <= steps)
        rows.append(labels | {"score": score, "area": area, "exploded": exploded})
    return pd.DataFrame(rows, columns=["env", "variant", "seed", "status", "score", "area", "exploded"])


def entered(table: pd.DataFrame, env: str, variant: str) -> np.ndarray:
    """Return the scores [seeds] of a variant's runs in an environment, without runs that have none."""
    rows = table[(table["env"] == env) & (table["variant"] == variant)]
    return rows["score"].dropna().to_numpy(dtype=float)


def scored_by(manifest: Manifest, variant: str) -> str:
    """Return the policy that scores a variant: "mean", or "sample" if its algorithm has no mean action."""
    return manifest.variants[variant].scored_by


def policy_rows(table: pd.DataFrame, policy: str) -> pd.DataFrame:
    """Return the rows of evaluations or episodes of one policy. An empty table has no columns."""
    return table[table["policy"] == policy] if len(table) else table


def curve_to(evaluations: pd.DataFrame, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps [T] and mean returns [T] of one policy's evaluations up to `steps`."""
    if not len(evaluations):
        return np.empty(0), np.empty(0)
    at, returns = evaluations["step"].to_numpy(), evaluations["return_mean"].to_numpy(dtype=float)
    return at[at <= steps], returns[at <= steps]


def evaluated_at(manifest: Manifest, env: str, variant: str) -> set[int]:
    """Return the steps above 0 at which a variant's runs are evaluated."""
    end = manifest.variants[variant].steps[env]
    every = manifest.option(variant, env, "eval_every", end)
    return {*range(every, end, every), end}


def common(evaluated: Iterable[set[int]]) -> int:
    """Return the most steps at which all were evaluated, or the fewest that any was trained to if there are none."""
    steps = list(evaluated)
    return max(set.intersection(*steps), default=min(map(max, steps)))


def equal_steps(manifest: Manifest) -> dict[tuple[str, str], int]:
    """Return the same steps for all variants of an environment, however long each was trained."""
    at = {env: common(evaluated_at(manifest, env, variant) for variant in manifest.variants) for env in manifest.envs}
    return {(env, variant): at[env] for env in manifest.envs for variant in manifest.variants}


def standing_when_scored(run: Mapping[Any, Any], manifest: Manifest, steps: int) -> str:
    """Return the status of a run (a row of Results.runs) at the steps at which it is scored."""
    status, env, variant = run["status"], run["env"], run["variant"]
    if steps < run["target_steps"] and status not in ("damaged", "not started"):
        status = standing_at({"status": status, "steps": run["steps"]}, steps)
    if status == "finished" and steps not in evaluated_at(manifest, env, variant):
        return f"not evaluated at {steps:,} steps"
    return str(status)


def at_words(manifest: Manifest, env: str) -> str:
    """Return " at 30,000 steps" for a title if an environment's variants were trained to different steps, else ""."""
    if len(manifest.steps_on(env)) == 1:
        return ""
    return f" at {equal_steps(manifest)[env, manifest.reference]:,} steps"


def note(manifest: Manifest) -> str:
    """Return what a reader must know if variants were trained to different steps, else ""."""
    sentences = []
    for env in manifest.envs:
        if not at_words(manifest, env):
            continue
        at = equal_steps(manifest)[env, manifest.reference]
        everybody = all(at in evaluated_at(manifest, env, name) for name in manifest.variants)
        reason = "the last at which all variants were evaluated" if everybody else "where the shortest training ends"
        longer = [_longer(manifest, env, name, at) for name in manifest.variants]
        sentences += [f"On {env}, runs are scored{at_words(manifest, env)}, {reason}. Learning curves continue beyond."]
        sentences += [sentence for sentence in longer if sentence]
    return " ".join(sentences)


def _longer(manifest: Manifest, env: str, variant: str, at: int) -> str:
    """Return a sentence on a variant that was trained beyond the steps of its score, else ""."""
    steps = manifest.variants[variant].steps[env]
    if steps == at:
        return ""
    if at not in evaluated_at(manifest, env, variant):
        return f"`{variant}` was trained to {steps:,} steps and not evaluated at {at:,}: it has no score here."
    annealed = manifest.option(variant, env, "anneal_steps", 0)
    schedule = f" Its learning rate falls to 0 over {annealed:,} steps, so its score is from early in this schedule."
    return f"`{variant}` was trained to {steps:,} steps.{schedule if annealed > at else ''}"
