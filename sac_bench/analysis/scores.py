"""Which evaluations are a run's score: by which policy, and at which steps: for tables, figures and tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.store.store import standing_at

Steps = dict[tuple[str, str], int]
"""{(environment, variant): the steps at which its runs are scored}."""


def scored_by(about: dict[str, Any], variant: str) -> str:
    """The policy whose evaluations score a variant: "mean", or "sample" where an algorithm has no mean action."""
    of = about["variants"][variant]
    known = ALGORITHMS.get(of["algorithm"])
    return str(of.get("scored_by") or (known.scored_by if known else "mean"))


def scoring_rows(table: pd.DataFrame, policy: str) -> pd.DataFrame:
    """Of rows of evaluations or episodes, those of the policy that is scored; an empty table has no columns."""
    return table[table["policy"] == policy] if len(table) else table


def evaluated_at(about: dict[str, Any], env: str, variant: str) -> set[int]:
    """The steps above 0 at which a variant's runs are evaluated."""
    end = about["variants"][variant]["steps"][env]
    every = about["config"].get(variant, {}).get(env, {}).get("eval_every", end)
    return {*range(every, end, every), end}


def common(evaluated: Iterable[set[int]]) -> int:
    """The most steps at which all were evaluated; the fewest that any was trained to, where there are none."""
    found = list(evaluated)
    return max(set.intersection(*found), default=min(map(max, found)))


def equal_steps(about: dict[str, Any]) -> Steps:
    """All variants of an environment are scored at the same steps, however long each was trained."""
    at = {env: common(evaluated_at(about, env, variant) for variant in about["variants"]) for env in about["envs"]}
    return {(env, variant): at[env] for env in about["envs"] for variant in about["variants"]}


def standing_when_scored(run: Mapping[Any, Any], about: dict[str, Any], steps: int) -> str:
    """How a run (a row of Results.runs) stood at the steps at which it is scored."""
    status, env, variant = run["status"], run["env"], run["variant"]
    if steps < run["target_steps"] and status not in ("damaged", "not started"):
        status = standing_at({"status": status, "steps": run["steps"]}, steps)
    if status == "finished" and steps not in evaluated_at(about, env, variant):
        return f"not evaluated at {steps:,} steps"
    return str(status)


def at_words(about: dict[str, Any], env: str) -> str:
    """As " at 30,000 steps", for a title, where an environment's variants were not trained to the same steps."""
    if len({variant["steps"][env] for variant in about["variants"].values()}) == 1:
        return ""
    return f" at {equal_steps(about)[env, about['reference']]:,} steps"


def note(about: dict[str, Any]) -> str:
    """What a reader must know where variants were not trained to the same steps; else empty."""
    sentences = []
    for env in about["envs"]:
        if not at_words(about, env):
            continue
        at = equal_steps(about)[env, about["reference"]]
        everybody = all(at in evaluated_at(about, env, name) for name in about["variants"])
        why = "the most that all were evaluated at" if everybody else "where the shortest trainings end"
        longer = [_longer(about, env, name, at) for name in about["variants"]]
        sentences += [f"On {env} scores are those{at_words(about, env)}, {why}; learning curves go on beyond."]
        sentences += [said for said in longer if said]
    return " ".join(sentences)


def _longer(about: dict[str, Any], env: str, variant: str, at: int) -> str:
    """What became of a variant that was trained beyond the steps of its score; else empty."""
    steps = about["variants"][variant]["steps"][env]
    if steps == at:
        return ""
    if at not in evaluated_at(about, env, variant):
        return f"`{variant}` was trained to {steps:,} steps and not evaluated at {at:,}: it has no score here."
    annealed = about["config"].get(variant, {}).get(env, {}).get("anneal_steps", 0)
    schedule = f", with a learning rate that falls to 0 over {annealed:,}, of which {at:,} are the beginning"
    return f"`{variant}` was trained to {steps:,} steps{schedule if annealed > at else ''}."
