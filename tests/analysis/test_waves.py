"""What is trained next in a range of seeds, given made-up results."""

from dataclasses import replace

import numpy as np
import pytest

from sac_bench.analysis import differences
from sac_bench.analysis.claim_words import RULES, outcome_text, rules
from sac_bench.analysis.claims import comparisons, verdict
from sac_bench.analysis.hypotheses import different
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.sequential import Contest, Trial
from sac_bench.analysis.verdicts import verdicts
from sac_bench.analysis.waves import beyond_reach, compared, lacks, needs, needs_to_decide
from sac_bench.results.load import ended
from sac_bench.spec.claim import Claim
from tests.analysis.test_claims import made_up

RANDOM = np.random.default_rng(0)
ENV = "Hopper-v5"
NOISE = RANDOM.normal(0, 10, 60)


def results_of(claim=None, env=ENV, statuses=None, **variants):
    """Results in which each variant has the given scores, one per seed; "a" is the reference."""
    seeds = {name: {"seeds": {env: len(values)}} for name, values in variants.items()}
    finals = {(name, env): values for name, values in variants.items()}
    most = max(map(len, variants.values()))
    more = {"claim": claim} if claim else {}
    factor = 1 if more.get("claim") else 2
    about = {"seed_range": "5..30", "reference_factor": factor, "variants": seeds}
    return made_up(finals, statuses=statuses, seeds=range(most), **about, **more)


def claim(*expect):
    return {"words": "w", "source": "s", "expect": expect, "margin": 0.1}


def test_an_undecided_variant_gets_the_next_look_and_twice_the_reference_runs():
    a, plain, close = 100 + NOISE[:10], 20 + NOISE[10:15], 94 + NOISE[20:25]
    results = results_of(a=a, b=plain, c=close)
    (need,) = needs(results)
    assert (need.label, need.had, need.look) == ("c", 5, 8)
    assert need.seeds == {(ENV, "c"): 8, (ENV, "a"): 16}
    assert needs(results_of(a=a, b=plain)) == []
    words = [one.in_words() for one in compared(results)]
    assert words == ["worse at 5 seeds", "waits for 8 seeds (undecided at 5)"]


def test_needs_of_comparisons_have_the_order_of_the_table():
    a, close = 100 + NOISE[:10], [94 + NOISE[start : start + 5] for start in (20, 25)]
    found = needs(results_of(a=a, b=close[0], c=close[1]))
    assert [(need.label, need.seeds) for need in found] == [
        (name, {(ENV, name): 8, (ENV, "a"): 16}) for name in ("b", "c")
    ]


def test_the_seeds_that_would_decide_are_known_after_the_last_look():
    results = results_of(a=100 + NOISE, b=97 + np.roll(NOISE, 7)[:30])
    (one,) = compared(results)
    assert one.in_words() == "undecided at 30 seeds (needs 80)"
    (need,) = needs_to_decide(results)
    assert (need.label, need.had, need.look) == ("b", 30, 80)
    assert need.seeds == {(ENV, "b"): 80, (ENV, "a"): 160}
    assert needs_to_decide(results_of(a=100 + NOISE[:10], b=94 + NOISE[20:25])) == []  # it waits for the next look


def test_comparisons_that_no_suggested_number_of_seeds_would_decide_are_named():
    a, equal = 100 + np.tile([-10.0, 10.0], 30), 100 + np.tile([-10.0, 10.0], 15)
    assert beyond_reach(results_of(a=a, b=equal, c=20 + NOISE[:30])) == {"b": "needs more than 800 seeds"}
    assert beyond_reach(results_of(a=np.full(60, 1.0), b=np.full(30, 1.0))) == {"b": "the same in every seed"}
    assert beyond_reach(results_of(a=100 + NOISE[:10], b=94 + NOISE[20:25])) == {}  # it waits for the next look


def test_fixed_seeds_need_nothing_more():
    close = made_up({("a", ENV): 100 + NOISE[:10], ("b", ENV): 94 + NOISE[20:25]})
    assert needs(close) == []


def test_nothing_is_needed_after_the_last_look():
    a, close = 100 + NOISE, 96 + RANDOM.normal(0, 10, 30)
    assert needs(results_of(a=a, b=close)) == []


def test_a_look_whose_runs_have_not_ended_is_not_requested_again():
    """The cells already have the seeds of the look, so these are not requested again."""
    a, close = 100 + NOISE[:10], 94 + NOISE[20:25]
    assert needs(results_of(a=a, b=close, statuses={("b", 3): "interrupted"})) == []


def test_both_sides_of_a_claim_get_the_same_number_of_seeds():
    values = {"a": 100 + NOISE[:8], "b": 94 + NOISE[20:28], "c": 20 + NOISE[8:16]}
    (need,) = needs(results_of(claim("b ~ a", "a > c"), **values))
    assert (need.label, need.seeds) == ("b ~ a", {(ENV, "a"): 12, (ENV, "b"): 12})


@pytest.mark.parametrize("expected", ["b ~ c", "b > c"])
def test_a_margin_waits_for_the_references_runs_of_the_look(expected):
    """The margin is a share of the reference's gain, although the claim does not compare the reference."""
    values = {"a": 100 + NOISE[:8], "b": 94 + NOISE[20:28], "c": 94 + NOISE[8:16]}
    assert needs(results_of(claim(expected), **values))[0].seeds == {(ENV, name): 12 for name in "abc"}
    (waiting,) = compared(results_of(claim(expected), **values, statuses={("a", 3): "interrupted"}))
    assert waiting.verdict.awaits == 5
    assert waiting.verdict.look is None
    scaled_by_nothing = {"words": "w", "source": "s", "expect": ["b > c"]}
    (need,) = needs(results_of(scaled_by_nothing, **values))
    assert set(need.seeds) == {(ENV, "b"), (ENV, "c")}


def test_a_claim_without_its_runs_says_that_they_are_missing():
    values = {"a": 100 + NOISE[:8], "b": 94 + NOISE[20:28]}
    for more in ({}, {"seed_range": None}):
        statuses = {("b", seed): "interrupted" for seed in range(4)}
        results = results_of(claim("b ~ a"), **values, statuses=statuses)
        results = replace(results, manifest=results.manifest.model_copy(update=more))
        (one,) = comparisons(Claim.from_plain(results.manifest.claim.model_dump(), results.manifest.variants), results)
        assert verdict([one]) == "no verdict: runs are missing"
        assert outcome_text(one) == "no verdict (runs are missing)"
    failed = replace(results, runs=results.runs.assign(status=results.runs["status"].replace("interrupted", "failed")))
    (one,) = comparisons(Claim.from_plain(failed.manifest.claim.model_dump(), failed.manifest.variants), failed)
    assert verdict([one]) == "no verdict: fewer than 5 seeds"


def test_the_rules_of_a_claim_explain_its_looks():
    values = {"a": 100 + NOISE[:8], "b": 94 + NOISE[20:28]}
    ranged = results_of(claim("b ~ a"), **values).manifest
    assert "the most seeds, 30" in rules(ranged)
    assert "times as many" not in rules(ranged)
    assert rules(ranged.model_copy(update={"seed_range": None})) == RULES


def test_undecided_comparisons_report_missing_runs_and_seconds():
    results = results_of(a=100 + NOISE, b=97 + np.roll(NOISE, 7)[:30])
    runs = results.runs.assign(wall_seconds=80.0, cohort_size=4)
    (lack,) = lacks(compared(results), replace(results, runs=runs))
    assert (lack.label, lack.runs) == ("b", 50 + 100)  # to 80 of b and 160 of the reference
    assert lack.seconds == 150 * 20
    (unknown,) = lacks(compared(results), results)
    assert np.isnan(unknown.seconds)
    assert lacks(compared(results_of(a=100 + NOISE[:10], b=20 + NOISE[10:15])), results) == []
    fixed = made_up({("a", ENV): 100 + NOISE[:5], ("b", ENV): 94 + NOISE[20:25]}, seeds=range(5))
    (one,) = compared(fixed)
    (lack,) = lacks([one], fixed)
    assert lack.runs == 2 * (one.verdict.seeds_needed - 5)


@pytest.mark.parametrize("seed_range", [None, "5..30"])
def test_runs_without_spread_need_no_more_runs(seed_range):
    results = results_of(a=np.full(10, 100.0), b=np.full(5, 100.0))
    results = replace(results, manifest=results.manifest.model_copy(update={"seed_range": seed_range}))
    (one,) = compared(results)
    assert "(the same in every seed)" in one.in_words()
    (lack,) = lacks([one], results)
    assert (lack.runs, lack.runs_in_words()) == (None, "none would: the same in every seed")
    # A difference without spread is not decided by the permutations of few seeds, but by more.
    gap = Contest(lambda _: True, lambda _: Trial((different(),), permuted(np.full(3, 1.0), np.full(3, 2.0))))
    (few,) = verdicts([gap])
    assert (few.is_constant, few.word, few.seeds_needed) == (True, "undecided", 5)
    assert few.in_words() == "undecided (5 seeds per variant would decide)"


def test_ended_seeds_are_computed_once_per_table(monkeypatch):
    found = []
    monkeypatch.setattr(differences, "ended", lambda table: found.append(table) or ended(table))
    compared(results_of(a=100 + NOISE, b=97 + NOISE[:8], c=90 + NOISE[:8]))
    assert len(found) == 1


@pytest.mark.parametrize("failed", [False, True])
def test_a_failed_run_has_no_value_and_is_not_replaced(failed):
    statuses = {("b", 0): "failed"} if failed else None
    results = results_of(claim("b ~ a"), a=100 + NOISE[:8], b=94 + NOISE[20:28], statuses=statuses)
    (one,) = comparisons(Claim.from_plain(results.manifest.claim.model_dump(), results.manifest.variants), results)
    assert one.verdict.look == 8
    assert one.b.seeds == 8
    assert one.a.seeds == (7 if failed else 8)
    assert [need.seeds for need in needs(results)] == [{(ENV, "a"): 12, (ENV, "b"): 12}]
    assert verdict([one]) == "undecided"
