"""The scoring rule: which evaluations are a run's score. Tables, figures, claims and tuning use it.

A run is scored at the steps `equal_steps` names, by the policy that its algorithm names (`scored_by`), over the
evaluations in the last tenth of these steps, or another share that its file gives (`score_last`). A diverged run gets
the return of a random policy, if that is known. In curves it gets it from where it diverged (`curves_of`,
`return_after`). Where successes are counted, it is a failure (`last_episodes`). A run that failed, is damaged or
unfinished has no score. Reports of a training that is not over score all runs at the last steps that they have in
common (`up_to_common_steps`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sac_bench.analysis.statistics import area_score, is_late, run_score
from sac_bench.evaluations import evaluation_steps
from sac_bench.results.cells import once, rows_of
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.status import ENDED, UNENDED, standing_at

Steps = Mapping[tuple[str, str], int]
"""{(environment, variant): the steps at which its runs are scored}."""


def scores(results: Results, policy: str | None = None, at: Steps | None = None) -> pd.DataFrame:
    """Return one row per run: env, variant, seed, status, score, area (the mean of its curve), exploded.

    `policy`: "mean" or "sample"; by default the one that scores the run. The other one has no score if it was not
    played in that last share of the steps. `at`: the steps to score at; by default equal for all variants of an
    environment. `status` and `exploded` are the run's at these steps. Score and area are NaN for
    a run without.
    Computed once per result: change neither its tables nor this one in place.
    """
    if at is None:
        at = once(results, "equal steps", lambda: equal_steps(results.manifest))
    steps_of = at
    return once(results, ("scores", policy, tuple(steps_of.items())), lambda: _scores(results, policy, steps_of))


def _scores(results: Results, policy: str | None, steps_of: Steps) -> pd.DataFrame:
    manifest, rows = results.manifest, []
    curves = once(results, "curves", lambda: _curves_by_run(results.evaluations))
    for run in results.runs.to_dict("records"):
        score = area = float("nan")
        env, variant = run["env"], run["variant"]
        if (env, variant) not in steps_of:
            continue
        steps = steps_of[env, variant]
        status = standing_when_scored(run, manifest, steps)
        if status == "diverged":
            score = area = manifest.random_return(env)
        elif status == "finished" and (run["run_id"], variant) in curves:
            played, all_steps, returns = curves[run["run_id"], variant]
            kept = (played == (policy or scored_by(manifest, variant))) & (all_steps <= steps)
            curve = all_steps[kept], returns[kept]
            if policy is None or is_late(curve[0], steps, manifest.score_last).any():
                score, area = run_score(*curve, steps, manifest.score_last), area_score(*curve)
        labels = {"env": env, "variant": variant, "seed": run["seed"], "status": status}
        exploded = bool(pd.notna(run["exploded"]) and run["exploded"] <= steps)
        rows.append(labels | {"score": score, "area": area, "exploded": exploded})
    return pd.DataFrame(rows, columns=["env", "variant", "seed", "status", "score", "area", "exploded"])


def _curves_by_run(evaluations: pd.DataFrame) -> dict[Any, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return {(run id, variant): the policies, steps and mean returns of its evaluations}."""
    if not len(evaluations):
        return {}
    columns = (
        evaluations["policy"].to_numpy(dtype=object),
        evaluations["step"].to_numpy(),
        evaluations["return_mean"].to_numpy(dtype=float),
    )
    found = evaluations.groupby(["run_id", "variant"]).indices
    return {run: (columns[0][own], columns[1][own], columns[2][own]) for run, own in found.items()}


def entered(table: pd.DataFrame, env: str, variant: str) -> np.ndarray:
    """Return the scores [seeds] of a variant's runs in an environment, without runs that have none."""
    return rows_of(table, env, variant)["score"].dropna().to_numpy(dtype=float)


def count_exploded(table: pd.DataFrame, env: str, variants: Iterable[str], seeds: Iterable[int] | None = None) -> int:
    """Return how many of the runs of some variants in an environment exploded; of these seeds only, if given.

    table: as `scores` returns it. Every table of results counts them.
    """
    of_seeds = None if seeds is None else list(seeds)
    total = 0
    for variant in set(variants):
        own = rows_of(table, env, variant)
        total += int((own if of_seeds is None else own[own["seed"].isin(of_seeds)])["exploded"].sum())
    return total


def mean_over_backends(scores: Sequence[pd.Series]) -> np.ndarray:
    """Return the values [seeds] of a task: of each seed, the mean over the backends on which it is trained.

    scores: of each backend, indexed by seed. Seeds without a score on one of them have no value. Averages of a seed
    are one value, because a seed's runs share initial weights on all backends.
    """
    if len(scores) == 1:
        return scores[0].to_numpy(dtype=float)
    return pd.concat(scores, axis=1, join="inner").mean(axis=1).to_numpy(dtype=float)


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


def return_after(status: str, manifest: Manifest, env: str) -> list[float]:
    """Return what follows the evaluations of a run that ended so: a random policy's return if it diverged."""
    return [manifest.random_return(env)] if status == "diverged" else []


def curves_of(results: Results, env: str, variant: str) -> pd.DataFrame:
    """Return the returns [seeds, steps] of a variant's runs that count, or of all runs if none counts yet.

    From where it diverged, a run has a random policy's return. Computed once per result: change it not in place.
    """
    return once(results, ("curves of", env, variant), lambda: _curves_of(results, env, variant))


def _curves_of(results: Results, env: str, variant: str) -> pd.DataFrame:
    if not len(results.evaluations):
        return pd.DataFrame(dtype=float)
    rows = policy_rows(rows_of(results.evaluations, env, variant), scored_by(results.manifest, variant))
    runs = rows_of(results.runs, env, variant).set_index("seed")
    curves = rows.pivot_table(index="seed", columns="step", values="return_mean")
    random = results.manifest.random_return(env)
    diverged = curves.index[runs.loc[curves.index, "status"] == "diverged"]
    if len(diverged):
        all_steps = results.evaluations.loc[results.evaluations["env"] == env, "step"].unique()
        curves = curves.reindex(
            columns=sorted(s for s in all_steps if s <= results.manifest.variants[variant].steps[env])
        )
    for seed in diverged:
        curves.loc[seed, curves.columns > runs.loc[seed, "steps"]] = random
    if results.manifest.reached:  # only runs that count have rows
        return curves.dropna(axis=1)
    ended = curves.index[runs.loc[curves.index, "status"].isin(ENDED)]
    return (curves.loc[ended] if len(ended) else curves).dropna(axis=1)


def last_episodes(results: Results, runs: pd.DataFrame, steps: int) -> dict[str, float]:
    """Return the minimum and the share of successes over the episodes of the last evaluation at the scored steps.

    `runs`: those of one variant in one environment, as `scores` returns them. A diverged run counts as a failure.
    Empty if the experiment has no success_return.
    """
    threshold = results.manifest.success_return
    if threshold is None or not len(results.episodes) or not len(runs):
        return {}
    env, variant = runs[["env", "variant"]].iloc[0]
    seeds = runs.loc[runs["status"] == "finished", "seed"]
    e = policy_rows(rows_of(results.episodes, env, variant), scored_by(results.manifest, variant))
    own = e[e["seed"].isin(seeds) & (e["step"] <= steps)]
    last = own[own["step"] == own.groupby("seed")["step"].transform("max")]
    if not len(last):
        return {"worst_episode": float("nan"), "success_share": float("nan")}
    diverged = int((runs["status"] == "diverged").sum())
    shares = [*(last["return"] > threshold).groupby(last["seed"]).mean(), *([0.0] * diverged)]
    return {"worst_episode": float(last["return"].min()), "success_share": float(np.mean(shares))}


def evaluated_at(manifest: Manifest, env: str, variant: str) -> set[int]:
    """Return the steps above 0 at which a variant's runs are evaluated, up to those that are compared."""
    record = manifest.variants[variant]
    end = record.steps[env]
    own = evaluation_steps(end, manifest.option(variant, env, "eval_every", end))
    evaluated = record.imported.evaluated[env] if record.imported else own
    return {steps for steps in evaluated if 0 < steps <= manifest.reached.get(env, math.inf)}


def common(evaluated: Iterable[set[int]]) -> int:
    """Return the most steps at which all were evaluated, or the fewest that any was trained to if there are none."""
    steps = list(evaluated)
    return max(set.intersection(*steps), default=min(map(max, steps)))


def equal_steps(manifest: Manifest) -> dict[tuple[str, str], int]:
    """Return the same steps for all variants of an environment, however long each was trained."""
    at = {env: common(evaluated_at(manifest, env, variant) for variant in manifest.variants) for env in manifest.envs}
    return {(env, variant): at[env] for env in manifest.envs for variant in manifest.variants}


def up_to_common_steps(results: Results) -> Results:
    """Return the results to compare: the same if training is over, else those up to the last common steps.

    These are, per environment, the last steps at which all variants are evaluated and that every unfinished run has
    reached. A run that has not reached the first such steps is left out, and so is one that failed before. The tables
    of runs and robustness keep all rows.
    """
    manifest, runs = results.manifest, results.runs
    if not (len(runs) and runs["status"].isin(UNENDED).any()):
        return results
    manifest = manifest.model_copy(update={"reached": {env: _reached(results, env) for env in manifest.envs}})
    ended = {
        (run["run_id"], run["variant"])
        for run in runs.to_dict("records")
        if standing_when_scored(run, manifest, manifest.reached[run["env"]]) in ENDED
    }

    def cut(table: pd.DataFrame) -> pd.DataFrame:
        if not len(table):
            return table
        counts = np.array([run in ended for run in zip(table["run_id"], table["variant"], strict=True)])
        return table[counts & (table["step"] <= table["env"].map(manifest.reached))]

    tables = {name: cut(getattr(results, name)) for name in ("evaluations", "episodes", "training")}
    return replace(results, manifest=manifest, **tables)


def _reached(results: Results, env: str) -> int:
    """Return the last steps at which all variants are evaluated and that every unfinished run that counts has."""
    manifest, runs = results.manifest, results.runs
    evaluated = set.intersection(*(evaluated_at(manifest, env, variant) for variant in manifest.variants))
    own = runs[(runs["env"] == env) & runs["status"].isin(UNENDED)]
    counting = own.loc[own["steps"] >= min(evaluated, default=math.inf), "steps"]
    least = min(counting, default=math.inf)
    return max((steps for steps in evaluated if steps <= least), default=equal_steps(manifest)[env, manifest.reference])


def standing_when_scored(run: Mapping[Any, Any], manifest: Manifest, steps: int) -> str:
    """Return the status of a run (a row of Results.runs) at the steps at which it is scored."""
    status, env, variant = run["status"], run["env"], run["variant"]
    if steps < run["target_steps"] and status not in ("damaged", "not started"):
        status = standing_at({"status": status, "steps": run["steps"]}, steps)
    if status == "finished" and steps not in evaluated_at(manifest, env, variant):
        return f"not evaluated at {steps:,} steps"
    return str(status)


def at_words(manifest: Manifest, env: str) -> str:
    """Return " at 30,000 steps" for a title if that is not the end of every training in an environment, else ""."""
    if manifest.steps_on(env) == [equal_steps(manifest)[env, manifest.reference]]:
        return ""
    return f" at {equal_steps(manifest)[env, manifest.reference]:,} steps"


def note(manifest: Manifest) -> str:
    """Return what a reader must know if training is not over or variants were trained to different steps, else ""."""
    if manifest.reached:
        return " ".join(["Training is not over, so there are no verdicts yet.", *_cut_at(manifest)])
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


def _cut_at(manifest: Manifest) -> list[str]:
    """Return a sentence per environment in which unfinished runs are compared, on the steps."""
    whole = equal_steps(manifest.model_copy(update={"reached": {}}))
    return [
        f"On {env}, tables and figures have all runs up to {steps:,} of {whole[env, manifest.reference]:,} steps, the "
        "last that every run in training has reached."
        for env, steps in manifest.reached.items()
        if steps < whole[env, manifest.reference]
    ]


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
