"""A short form of benchmarks/sequential.py: how often tables without differences name one, over all looks."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from sac_bench.analysis.hypotheses import different
from sac_bench.analysis.permutation import Permuted
from sac_bench.analysis.sequential import Contest, Design, Trial, standings

LOOKS = (5, 8, 12)
TABLES, ARMS = 150, 3
DRAWS = 200
ALPHA = 0.6
"""Few draws have no small p-values, so the tables are tested at a high level."""


def scores(shape: str, size: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(0)
    match shape:
        case "two modes":
            return random.choice([-1.0, 1.0], size) + 0.05 * random.normal(size=size)
        case _:
            return np.where(random.random(size) < 0.2, 0.0, 1 + 0.1 * random.normal(size=size))


def trial(arm: np.ndarray, reference: np.ndarray, look: int) -> Trial:
    return Trial((different(),), Permuted((arm[:look],), (reference[: 2 * look],), DRAWS))


@pytest.mark.thorough
@pytest.mark.parametrize("shape", ["two modes", "failures"])
def test_false_differences_are_found_no_more_often_than_the_error_of_the_looks(shape):
    named = 0
    for own in scores(shape, (TABLES, 4 * LOOKS[-1] * ARMS)):
        reference, arms = own[: 2 * LOOKS[-1]], own[2 * LOOKS[-1] :][: ARMS * LOOKS[-1]].reshape(ARMS, -1)
        contests = [Contest(lambda look: True, partial(trial, arm, reference)) for arm in arms]
        named += any(one.state == "decided" for one in standings(contests, Design(LOOKS), ALPHA, futile=0.0))
    expected = ALPHA * sum(map(Design(LOOKS).share, LOOKS))
    assert named / TABLES <= expected + 3 * np.sqrt(expected * (1 - expected) / TABLES)
    assert named / TABLES >= expected / 3, "the tests have become too cautious to find differences"
