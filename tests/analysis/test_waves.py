"""What is trained next in a range of seeds, given made-up results."""

import numpy as np
import pytest

from sac_bench.analysis.claims import comparisons, verdict
from sac_bench.analysis.waves import needs
from sac_bench.spec.claim import Claim
from tests.analysis.test_claims import made_up

RANDOM = np.random.default_rng(0)
ENV = "Hopper-v5"
NOISE = RANDOM.normal(0, 10, 60)


def results_of(claim=None, env=ENV, statuses=None, **variants):
    """Results in which each variant has the scores given, and so many seeds; "a" is the reference."""
    seeds = {name: {"seeds": {env: len(values)}} for name, values in variants.items()}
    finals = {(name, env): values for name, values in variants.items()}
    most = max(map(len, variants.values()))
    more = {"claim": claim} if claim else {}
    return made_up(finals, statuses=statuses, seeds=range(most), seed_range="5..30", variants=seeds, **more)


def next_seeds(results):
    """Return {cell: seeds} of all comparisons that need more."""
    found = {}
    for need in needs(results):
        found |= {cell: max(n, found.get(cell, 0)) for cell, n in need.seeds.items()}
    return found


def claim(*expect):
    return {"words": "w", "source": "s", "expect": expect, "margin": 0.1}


def test_what_is_undecided_gets_the_next_look_and_twice_as_many_runs_of_the_reference():
    a, plain, close = 100 + NOISE[:10], 20 + NOISE[10:15], 94 + NOISE[20:25]
    assert next_seeds(results_of(a=a, b=plain, c=close)) == {(ENV, "c"): 8, (ENV, "a"): 16}
    assert next_seeds(results_of(a=a, b=plain)) == {}


def test_fixed_seeds_ask_for_nothing():
    close = made_up({("a", ENV): 100 + NOISE[:10], ("b", ENV): 94 + NOISE[20:25]})
    assert next_seeds(close) == {}


def test_the_last_look_is_the_end():
    a, close = 100 + NOISE, 96 + RANDOM.normal(0, 10, 30)
    assert next_seeds(results_of(a=a, b=close)) == {}


def test_a_look_is_repeated_by_nobody_if_its_runs_have_not_ended():
    """The cells have the seeds of the look already, so that they are not asked for again."""
    a, close = 100 + NOISE[:10], 94 + NOISE[20:25]
    assert next_seeds(results_of(a=a, b=close, statuses={("b", 3): "interrupted"})) == {}


def test_both_sides_of_a_claim_get_the_same_number():
    values = {"a": 100 + NOISE[:8], "b": 94 + NOISE[20:28], "c": 20 + NOISE[8:16]}
    results = results_of(claim("b ~ a", "a > c"), **values)
    assert next_seeds(results) == {(ENV, "a"): 12, (ENV, "b"): 12}


@pytest.mark.parametrize("failed", [False, True])
def test_a_run_that_failed_has_no_value_and_is_not_replaced(failed):
    statuses = {("b", 0): "failed"} if failed else None
    results = results_of(claim("b ~ a"), a=100 + NOISE[:8], b=94 + NOISE[20:28], statuses=statuses)
    (one,) = comparisons(Claim.from_plain(results.manifest.claim.model_dump(), results.manifest.variants), results)
    assert one.verdict.look == 8
    assert one.b.seeds == 8
    assert one.a.seeds == (7 if failed else 8)
    assert next_seeds(results) == {(ENV, "a"): 12, (ENV, "b"): 12}
    assert verdict([one]) == "undecided"
