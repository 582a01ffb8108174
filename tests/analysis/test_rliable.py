"""Aggregates, profiles and probabilities of improvement against rliable's numbers, written by oracle_rliable.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from sac_bench.analysis.statistics import (
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    bootstrap,
    performance_profile,
    probability_of_improvement,
)

ORACLE = json.loads(Path(__file__).with_name("rliable.json").read_text())
# rliable has seeds first, then environments; ours is an array an environment.
A, B, CURVES = (list(np.moveaxis(np.array(ORACLE["scores"][name]), 1, 0)) for name in ("a", "b", "curves"))
RESAMPLES = ORACLE["resamples"]
OURS = {
    "mean": lambda: bootstrap(A, aggregate_mean, RESAMPLES),
    "median": lambda: bootstrap(A, aggregate_median, RESAMPLES),
    "iqm": lambda: bootstrap(A, aggregate_iqm, RESAMPLES),
    "optimality_gap": lambda: bootstrap(A, aggregate_optimality_gap, RESAMPLES),
    "iqm_of_curves": lambda: bootstrap(CURVES, aggregate_iqm, RESAMPLES),
    "profile": lambda: performance_profile(A, ORACLE["thresholds"], RESAMPLES),
    "improvement": lambda: probability_of_improvement(A, B, RESAMPLES),
}


def test_every_result_of_rliable_is_compared():
    assert set(OURS) == set(ORACLE["rliable"])
    assert all(len(np.unique(np.concatenate([a, b]))) < len(a) + len(b) for a, b in zip(A, B, strict=True)), "no ties"


@pytest.mark.parametrize("name", OURS)
def test_numbers_agree_with_rliables(name):
    ours, theirs = OURS[name](), {key: np.array(values) for key, values in ORACLE["rliable"][name].items()}
    np.testing.assert_allclose(np.ravel(ours.value), theirs["value"], rtol=1e-12, atol=1e-12)
    # A quantile of 10,000 draws of a normal variable errs by 0.7% of the interval's width; of the two, 1%. A share of
    # 50 runs moves by 0.02.
    apart = 0.05 * (theirs["high"] - theirs["low"]) + (0.0201 if name == "profile" else 0)
    assert (np.abs(ours.low - theirs["low"]) <= apart).all()
    assert (np.abs(ours.high - theirs["high"]) <= apart).all()
