"""Published scores, and which of them may be shown beside an experiment's. Sources: docs/published.md."""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

METRICS = {
    "final_eval": "final evaluation",
    "max_over_curve": "maximum over the curve",
    "training_return": "training return",
    "curve_reading": "read off a graph",
}
UNCHANGED_TASKS = ("HalfCheetah", "Swimmer")
"""Tasks that are the same in v4 and v5; Gymnasium's version history lists changes to the others."""
STEPS_TOLERANCE = 0.02
"""The largest relative difference in steps at which a published score counts as one at an experiment's steps."""


@functools.cache
def _read() -> tuple[pd.DataFrame, dict[str, str]]:
    here = Path(__file__).parent
    scores = pd.read_csv(here / "published.csv", dtype={"seeds": "Int64"}).fillna({"note": ""})
    return scores, dict(pd.read_csv(here / "published_sources.csv").itertuples(index=False))


def published() -> pd.DataFrame:
    """Return all published scores: one row per algorithm, environment, number of steps, metric and source."""
    return _read()[0].copy()


def citations() -> dict[str, str]:
    """Return {source: where its scores were published}."""
    return dict(_read()[1])


def comparable(env: str) -> tuple[str, ...]:
    """Return the ids whose published scores are comparable: the environment's and, if v4 and v5 are the same, both."""
    own = env.removeprefix("gymnasium:")
    task, _, version = own.rpartition("-v")
    if task in UNCHANGED_TASKS and version in ("4", "5"):
        return own, f"{task}-v{9 - int(version)}"
    return (own,)


def family(algorithm: str) -> str:
    """Return the name of a published algorithm in experiments: "sac" for SAC-v1, that of 2018."""
    return algorithm.lower().partition("-v")[0]


def for_env(env: str, *steps: int) -> pd.DataFrame:
    """Return the published scores comparable to an environment's; `near`: at about one of these numbers of steps."""
    rows = published()
    rows = rows[rows["env"].isin(comparable(env))].reset_index(drop=True)
    return rows.assign(near=[any(abs(at - n) <= STEPS_TOLERANCE * n for n in steps) for at in rows["steps"]])


def of_algorithm(rows: pd.DataFrame, algorithm: str) -> pd.DataFrame:
    """Return the published scores of an algorithm, named as in experiments."""
    return rows[rows["algorithm"].map(family) == algorithm]


def in_words(steps: int) -> str:
    """Return steps as 1M, 300k, 3.072M."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if steps >= size:
            return f"{steps / size:.4g}{unit}"
    return str(steps)
