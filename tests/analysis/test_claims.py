"""Outcomes and verdicts of claims on made-up runs: every relation, pairs, spread and growth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sac_bench.analysis.claim_words import grid, headline, outcome_name, outcome_text, sentences, table
from sac_bench.analysis.claims import AGAINST_CLAIM, AS_CLAIMED, comparisons, families, verdict
from sac_bench.analysis.measures import measured, without_value
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.sequential import Contest, Trial
from sac_bench.analysis.statistics import unpaired
from sac_bench.analysis.verdicts import verdicts
from sac_bench.spec.choose import Choice
from sac_bench.spec.claim import Claim, Side, expectation
from sac_bench.spec.measures import MEASURES, Measure
from tests.made_up import results_of

NOISE = np.array([-1.0, 0.5, -0.5, 1.0, 0.0, 0.25])
ENVS = ("Hopper-v5", "Ant-v5")


def made_up(finals, sampled=None, statuses=None, **more):
    """Results of {(variant, env): final returns [S]}; a random policy gets 0. `more`: fields of the manifest."""
    runs, evaluations, training = [], [], []
    for (variant, env), values in finals.items():
        for seed, value in enumerate(values):
            labels = {"run_id": f"{variant}{env}{seed}", "variant": variant, "env": env, "seed": seed}
            status = (statuses or {}).get((variant, seed), "finished")
            runs.append(labels | {"status": status, "steps": 100, "target_steps": 100})
            other = (sampled or finals)[variant, env][seed]
            for step, share in ((0, 0.0), (50, 0.5), (100, 1.0)):
                evaluations.append(labels | {"step": step, "policy": "mean", "return_mean": share * value})
                evaluations.append(labels | {"step": step, "policy": "sample", "return_mean": share * other})
                variances = {
                    "gradient_variance_reparameterised": 10.0**seed,
                    "gradient_variance_likelihood_ratio": 10.0 ** (seed + 2),
                }
                training.append(labels | {"step": step} | variances)
    variants = list(dict.fromkeys(variant for variant, _ in finals))
    envs = list(dict.fromkeys(env for _, env in finals))
    about = {
        "envs": envs,
        "reference": variants[0],
        "random": {env: {"return_mean": 0.0} for env in envs},
        "variants": {name: {} for name in variants},
    }
    return results_of(about | more, runs, evaluations, training=training)


def compared(expect, a, b, margin=0.1, **more):
    finals = {("a", "Hopper-v5"): a, ("b", "Hopper-v5"): b}
    expected = tuple(expectation(text, "ab") for text in expect)
    return comparisons(Claim("", "", expected, margin), made_up(finals, **more))


@pytest.mark.parametrize(
    ("relation", "shift", "outcome"),
    [
        (">", -50, "as claimed"),
        (">", 50, "against the claim"),
        (">", -5, "as claimed, within the margin"),  # which is 10
        (">", 0.1, "against the claim"),
        ("~", 0.1, "as claimed"),
        ("~", 5, "as claimed"),
        ("~", -50, "against the claim"),
        (">=", 5, "as claimed"),
        (">=", -50, "as claimed"),
        (">=", 50, "against the claim"),
    ],
)
def test_clear_differences_are_decided(relation, shift, outcome):
    (one,) = compared([f"a {relation} b"], 100 + NOISE, 100 + shift + NOISE[::-1])
    assert outcome_text(one) == outcome
    assert one.p < 0.05


@pytest.mark.parametrize("relation", ["~", ">="])
def test_a_difference_that_may_lie_within_the_margin_is_undecided(relation):
    (one,) = compared([f"a {relation} b"], 100 + 3 * NOISE, 109 + 3 * NOISE[::-1])
    assert one.interval.high < 0
    assert one.outcome == "undecided"


def test_seeds_needed_may_be_those_that_decide_against_a_claim():
    (one,) = compared(["a >= b"], 100 + 30 * NOISE, 130 + 30 * NOISE[::-1])
    assert one.outcome == "undecided"
    assert len(NOISE) < one.seeds_needed < 30


@pytest.mark.parametrize("relation", [">", "~", ">="])
def test_a_noisy_difference_is_undecided_with_the_seeds_that_would_decide(relation):
    (one,) = compared([f"a {relation} b"], 100 + 40 * NOISE, 95 + 40 * NOISE[::-1])
    assert one.outcome == "undecided"
    assert one.seeds_needed > len(NOISE)


def test_if_every_seed_is_the_same_more_seeds_would_decide_nothing():
    (one,) = compared(["a > b"], np.full(6, 4.0), np.full(6, 4.0), margin=None)
    assert (outcome_text(one), one.seeds_needed) == ("undecided (the same in every seed)", None)


def test_four_seeds_have_no_verdict():
    (one,) = compared(["a > b"], 100 + NOISE[:4], NOISE[:4])
    assert outcome_text(one) == "no verdict"
    assert verdict([one]) == "no verdict: fewer than 5 seeds"


def test_a_comparison_has_a_difference_an_interval_a_margin_and_a_gain():
    (one,) = compared(["a > b"], 200 + NOISE, 150 + 2 * NOISE)
    expected = permuted(200 + NOISE, 150 + 2 * NOISE)
    assert one.interval == expected.interval()
    assert one.gain == pytest.approx(200 + NOISE.mean())
    assert one.margin == pytest.approx(0.1 * one.gain)
    assert one.normalised.value == pytest.approx(one.difference.value / one.gain)
    assert one.p == pytest.approx(2 * expected.above())
    assert (one.a.worst, one.b.worst) == (199, 148)


def test_no_worse_is_a_one_sided_test_against_the_margin():
    a, b = 100 + 5 * NOISE, 101 + 5 * NOISE[::-1]
    (one,) = compared(["a >= b"], a, b)
    assert one.p == pytest.approx(permuted(a + one.margin, b).above())


def test_holm_covers_all_comparisons_of_a_claim():
    finals = {(v, e): 10 * NOISE + shift for v, shift in (("a", 20), ("b", 0)) for e in ENVS}
    expected = (expectation("a > b", "ab"),)
    both = comparisons(Claim("", "", expected), made_up(finals))
    alone = comparisons(Claim("", "", expected), made_up(finals, envs=["Ant-v5"]))
    assert both[1].p == pytest.approx(2 * alone[0].p)


def test_two_measures_of_one_variant_are_paired_by_run():
    of = np.array([100.0, 200.0, 300.0, 400.0, 500.0, 600.0])
    sampled = {("a", "Hopper-v5"): of - 10 + NOISE, ("b", "Hopper-v5"): of}
    (one,) = compared(["a > a:sampled"], of, of, margin=None, sampled=sampled)
    assert one.paired
    assert one.p == 2 / 2**6  # all six signs are equal
    assert one.outcome == "as claimed"


def test_relative_spread_is_brown_and_forsythes_in_units_of_each_variants_gain():
    a, b = 1000 + 10 * NOISE, 200 + 30 * NOISE
    (one,) = compared(["b:relative_spread > a:relative_spread"], a, b)
    away = [np.abs(x - np.median(x)) / x.mean() for x in (b, a)]
    assert one.p == pytest.approx(2 * permuted(*away).above())
    assert one.difference.value == pytest.approx(away[0].mean() - away[1].mean())


def test_a_variant_that_learns_nothing_has_no_relative_spread():
    """In units of return b has less spread; in units of its gain it has more."""
    a, b = 2000 + 100 * NOISE, 100 + 60 * NOISE
    (one,) = compared(["b:relative_spread > a:relative_spread"], a, b)
    assert one.outcome == "as claimed"
    (one,) = compared(["b:relative_spread > a:relative_spread"], a, NOISE - 1)
    assert outcome_text(one) == "no verdict (b gains nothing over a random policy)"
    beginning = "`b:relative_spread > a:relative_spread` on Hopper-v5: **no verdict** (b gains nothing"
    assert beginning in sentences([one])[0]
    assert grid([one])["a"].item() == "no values"
    (one,) = compared(["b:relative_spread > a:relative_spread"], a, b, random={})
    assert outcome_text(one).startswith("no verdict (a random policy's return is not known")


def standing_still(seeds=6, final=(), **more):
    """Results of "a", which learns, and "b", whose returns stay near 0, or end at `final`. Random actions get -287."""
    finals = {("a", "Hopper-v5"): 1000 + 100 * NOISE[:seeds], ("b", "Hopper-v5"): final or NOISE[:seeds]}
    results = made_up(finals, **{"random": {"Hopper-v5": {"return_mean": -287.0}}} | more)
    first = 5.0 - np.arange(seeds)  # of b, before the first step: 2.5 on average
    of_b = (results.evaluations["variant"] == "b") & (results.evaluations["step"] == 0)
    evaluations = results.evaluations.copy()
    evaluations.loc[of_b, "return_mean"] = first[evaluations.loc[of_b, "seed"]]
    return replace(results, evaluations=evaluations)


RELATIVE = ("relative_spread", "largest_fall", "weak_seed")


@pytest.mark.parametrize("measure", RELATIVE)
def test_a_policy_that_stands_still_has_no_gain_of_its_own(measure):
    """Standing still is better than random actions, but no learning."""
    results = standing_still()
    claim = Claim("", "", (expectation(f"a:{measure} > b:{measure}", "ab"),), 0.1)
    (one,) = comparisons(claim, results)
    assert "b gains nothing over its own policy before training" in outcome_text(one)
    assert not len(measured(results, Side("b", measure), "Hopper-v5"))
    assert len(measured(results, Side("a", measure), "Hopper-v5")) == 6


@pytest.mark.parametrize("measure", RELATIVE)
def test_a_small_gain_by_chance_gives_no_values(measure):
    """The final returns of b are 7 higher than its first, on average, but vary by 40."""
    results = standing_still(final=(50.0, -40, 30, -20, 45, -10))
    claim = Claim("", "", (expectation(f"b:{measure} > a:{measure}", "ab"),), 0.1)
    (one,) = comparisons(claim, results)
    assert "no gain of b over its own policy before training is shown" in outcome_text(one)
    assert not len(measured(results, Side("b", measure), "Hopper-v5"))


def test_the_own_gain_is_over_the_better_of_random_actions_and_the_first_policy():
    final = np.array([100.0, 110, 90, 120, 100, 100])
    away = np.abs(final - np.median(final))
    spread = measured(standing_still(final=tuple(final)), Side("b", "relative_spread"), "Hopper-v5")
    np.testing.assert_allclose(spread, away / (final.mean() - 2.5))
    below = {"random": {"Hopper-v5": {"return_mean": 40.0}}}  # above b's first policy
    spread = measured(standing_still(final=tuple(final), **below), Side("b", "relative_spread"), "Hopper-v5")
    np.testing.assert_allclose(spread, away / (final.mean() - 40))
    results = standing_still(final=tuple(final))
    later = replace(results, evaluations=results.evaluations[results.evaluations["step"] > 0])
    spread = measured(later, Side("b", "relative_spread"), "Hopper-v5")
    np.testing.assert_allclose(spread, away / (final.mean() + 287))


def test_the_first_policy_of_a_run_without_a_score_does_not_count():
    final = np.array([100.0, 110, 90, 120, 100, 100])
    results = standing_still(final=tuple(final), statuses={("b", 0): "failed"})
    spread = measured(results, Side("b", "relative_spread"), "Hopper-v5")
    counting = final[1:]
    expected = np.abs(counting - np.median(counting)) / (counting.mean() - 2)  # the others begin with 4, 3, 2, 1, 0
    np.testing.assert_allclose(spread, expected)


def test_margins_stay_shares_of_the_references_gain_over_a_random_policy():
    claim = Claim("", "", (expectation("b ~ a", "ab"),), 0.1)
    about = standing_still()
    swapped = replace(about, manifest=about.manifest.model_copy(update={"reference": "b"}))
    (one,) = comparisons(claim, swapped)
    assert one.gain == pytest.approx(287 + NOISE.mean())


def with_curves(curves, **more):
    """Results of {variant: curves [S, 4]} on Hopper, evaluated at 25, 50, 75 and 100 steps."""
    results = made_up({(variant, "Hopper-v5"): [curve[-1] for curve in of] for variant, of in curves.items()}, **more)
    rows = [
        {"run_id": f"{variant}Hopper-v5{seed}", "variant": variant, "env": "Hopper-v5", "seed": seed, "step": step}
        | {"policy": policy, "return_mean": value}
        for variant, of in curves.items()
        for seed, curve in enumerate(of)
        for step, value in zip((100, 75, 50, 25), curve[::-1], strict=True)  # in any order
        for policy in ("mean", "sample")
    ]
    return replace(results, evaluations=pd.DataFrame(rows))


def test_the_largest_fall_is_from_the_best_evaluation_to_a_later_one():
    results = with_curves({"a": [[10, 80, 30, 100], [50, 20, 60, 100], [0, 10, 20, 100]]})
    assert list(measured(results, Side("a", "largest_fall"), "Hopper-v5")) == pytest.approx([0.5, 0.3, 0])


def test_a_diverged_run_falls_to_a_random_policys_return_and_is_weak():
    curves = {"a": [*[[0, 50, 60, 100]] * 5, [0, 90, 80, 70], [0, 50, 60, 100]]}
    results = with_curves(curves, statuses={("a", 5): "diverged", ("a", 6): "failed"})
    gain = (5 * 100 + 0) / 6
    others = [0] * 5
    assert list(measured(results, Side("a", "largest_fall"), "Hopper-v5")) == pytest.approx([*others, 90 / gain])
    assert list(measured(results, Side("a", "weak_seed"), "Hopper-v5")) == [*others, 1]
    assert list(measured(results, Side("a", "relative_spread"), "Hopper-v5")) == pytest.approx([*others, 100 / gain])


def test_weak_seeds_gain_less_than_half_of_the_median_seeds_gain():
    results = made_up({("a", "Hopper-v5"): [100, 110, 53, 54, 120, 111]}, random={"Hopper-v5": {"return_mean": 2.0}})
    assert list(measured(results, Side("a", "weak_seed"), "Hopper-v5")) == [0, 0, 1, 0, 0, 0]  # half is 51.5 above 2
    (one,) = compared(["b:weak_seed > a:weak_seed"], 100 + NOISE, [-5, -4, -3, -2, 50, 60])
    assert outcome_text(one) == "no verdict (the median seed of b gains nothing over a random policy)"


def test_ten_seeds_without_a_weak_one_do_not_prove_that_none_exist():
    strong = np.full(10, 100.0)
    (one,) = compared(["b:weak_seed > a:weak_seed"], strong, strong)
    assert one.difference.error == pytest.approx(np.sqrt(2 * (1 / 12) * (11 / 12) / 10))
    (one,) = compared(["b:weak_seed ~ a:weak_seed"], strong[:5], strong[:5])
    assert one.outcome == "undecided"


@pytest.mark.parametrize(
    ("expect", "margin"),
    [
        ("a:goals ~ b:goals", 0.5),
        ("a:goal-entropy >= b:goal-entropy", 0.2),
        ("a:gradient_variance_reparameterised ~ b:gradient_variance_reparameterised", 0.3),
        ("a:largest_fall ~ b:largest_fall", 0.1),
        ("a:lost-to-mass > b:lost-to-mass", 0.1),
    ],
)
def test_measures_other_than_returns_have_their_own_margins(expect, margin):
    for share in (0.1, None):
        (one,) = compared([expect], 100 + NOISE, 100 + NOISE, margin=share)
        assert one.margin == margin


def test_equal_numbers_of_goals_contradict_a_claim_of_more():
    counts = {"a": [2, 2, 3, 2, 2, 2, 2, 2, 2, 2], "b": [2, 2, 2, 2, 3, 2, 2, 2, 2, 2]}
    rows = [
        {"run_id": "", "variant": v, "env": "Hopper-v5", "seed": seed, "measure": "goals", "value": value}
        for v, of in counts.items()
        for seed, value in enumerate(of)
    ]
    results = replace(made_up({(v, "Hopper-v5"): range(100, 110) for v in "ab"}), robustness=pd.DataFrame(rows))
    for relation, outcome in ((">", "against the claim"), ("~", "as claimed"), (">=", "as claimed")):
        claim = Claim("", "", (expectation(f"a:goals {relation} b:goals", "ab"),))
        assert comparisons(claim, results)[0].outcome == outcome


def test_gradient_variances_are_compared_by_their_order_of_magnitude():
    (one,) = compared(["a:gradient_variance_likelihood_ratio > a:gradient_variance_reparameterised"], NOISE, NOISE)
    assert one.difference.value == pytest.approx(2)
    assert (one.margin, one.outcome) == (0.3, "as claimed")


def test_a_metric_is_compared_if_the_table_of_measures_says_so(monkeypatch):
    monkeypatch.setitem(MEASURES, "step", Measure("log10 of steps", "log10 steps", is_log_of_metric=True))
    assert measured(made_up({("a", "Hopper-v5"): NOISE}), Side("a", "step"), "Hopper-v5").tolist() == [2.0] * 6


def test_an_area_counts_a_diverged_run_as_random_and_omits_a_failed_one():
    results = made_up({("a", "Hopper-v5"): 100 + NOISE}, statuses={("a", 2): "diverged", ("a", 3): "failed"})
    area = measured(results, Side("a", "area"), "Hopper-v5")
    assert area[0] == pytest.approx((100 + NOISE[0]) / 2)
    assert area[2] == 0  # as a random policy
    assert 3 not in area.index
    assert 2 not in measured(results, Side("a", "gradient_variance_likelihood_ratio"), "Hopper-v5").index


def test_an_expectation_on_one_environment_is_compared_only_there():
    finals = {("a", env): 100 + NOISE for env in ("Hopper-v5", "Ant-v5")} | {
        ("b", env): NOISE for env in ("Hopper-v5", "Ant-v5")
    }
    claim = Claim("", "", (expectation("a > b on Ant-v5", "ab"),), 0.1)
    (one,) = comparisons(claim, made_up(finals, envs=("Hopper-v5", "Ant-v5")))
    assert (one.env, one.expected, one.outcome) == ("Ant-v5", "a > b", "as claimed")


def test_early_is_the_first_quarter_of_the_curve():
    results = made_up({("a", "Hopper-v5"): 100 + NOISE}, statuses={("a", 2): "diverged", ("a", 3): "failed"})
    early = measured(results, Side("a", "early"), "Hopper-v5")
    assert set(early.index) == {0, 1, 2, 4, 5}
    assert early[0] == 0  # the evaluation before training is the only one


def test_a_side_that_chose_the_edge_of_its_grid_has_no_outcome():
    results = made_up({("a", "Hopper-v5"): 100 + NOISE, ("b", "Hopper-v5"): NOISE})
    at_edge = Choice(variant="b", env="Hopper-v5", options={"tau": 0.1}, at_edge=("tau",), candidates=(), seeds=(9,))
    claim = Claim("", "", (expectation("a > b", "ab"),), 0.1)
    assert verdict(comparisons(claim, results)) == "supported"
    chosen = replace(results, manifest=results.manifest.model_copy(update={"choices": (at_edge,)}))
    assert verdict(comparisons(claim, chosen)) == "no verdict: tau = 0.1 of `b` is at the edge of its grid"


def test_a_better_start_alone_does_not_improve_adaptation():
    finals, statuses = {("a", "Hopper-v5"): 100 + NOISE}, {("a", 2): "diverged", ("a", 3): "failed"}
    results = made_up(finals, statuses=statuses)
    adaptation = measured(results, Side("a", "adaptation"), "Hopper-v5")
    assert list(adaptation.index) == [0, 1, 4, 5]
    assert adaptation[0] == pytest.approx((100 + NOISE[0]) / 2)
    higher = replace(results, evaluations=results.evaluations.assign(return_mean=results.evaluations.return_mean + 900))
    np.testing.assert_allclose(measured(higher, Side("a", "adaptation"), "Hopper-v5"), adaptation)
    assert measured(higher, Side("a", "area"), "Hopper-v5")[0] == pytest.approx(adaptation[0] + 900)
    later = replace(results, evaluations=results.evaluations[results.evaluations.step > 0])
    assert not len(measured(later, Side("a", "adaptation"), "Hopper-v5"))


def test_measures_without_a_value_are_reported_with_the_reason():
    rows = [
        {"run_id": "0", "variant": "a", "env": "Hopper-v5", "seed": seed, "measure": "lost-to-mass", **measured}
        for seed, measured in enumerate(({"value": 0.5, "reason": None}, {"value": None, "reason": "no gain"}))
    ]
    results = replace(made_up({("a", "Hopper-v5"): NOISE}), robustness=pd.DataFrame(rows))
    assert without_value(results) == ["`a:lost-to-mass` on Hopper-v5, seed 1: no gain"]
    assert dict(measured(results, Side("a", "lost-to-mass"), "Hopper-v5")) == {0: 0.5}
    assert without_value(made_up({("a", "Hopper-v5"): NOISE})) == []


def test_growth_is_a_difference_of_differences_in_gains():
    finals = {
        ("a", "Hopper-v5"): 100 + NOISE,
        ("b", "Hopper-v5"): 90 + NOISE[::-1],
        ("a", "Ant-v5"): 1000 + NOISE,
        ("b", "Ant-v5"): 500 + NOISE[::-1],
    }
    claim = Claim("", "", (expectation("a > b", "ab"),), 0.05, ENVS)
    *_, growth = comparisons(claim, made_up(finals))
    assert growth.difference.value == pytest.approx(0.5 - 0.1, abs=0.01)
    parts = [NOISE.var(ddof=1) / 6 / gain**2 for gain in (1000, 1000, 100, 100)]
    assert growth.difference.error == pytest.approx(np.sqrt(sum(parts)), rel=0.01)
    assert growth.outcome == "as claimed"
    assert growth.margin == 0.05


def test_without_a_random_policys_return_there_is_no_margin():
    results = made_up({(v, "Hopper-v5"): 100 + NOISE for v in "ab"}, random={})
    (one,) = comparisons(Claim("", "", (expectation("a ~ b", "ab"),), 0.1), results)
    assert (one.margin, outcome_text(one)) == (None, "no verdict (the gain is not known)")
    assert len(grid([one])) == 1


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        (["as claimed"] * 2, "supported"),
        (["as claimed", "undecided"], "supported in part"),
        (["undecided"] * 2, "undecided"),
        (["against the claim", "undecided"], "contradicted"),
        (["as claimed", "against the claim", "undecided"], "mixed"),
        (["as claimed", "no word"], "supported in part"),
        (["against the claim", "no word"], "contradicted"),
        (["no word"], "no verdict"),
    ],
)
def test_a_claims_verdict_combines_all_its_comparisons(outcomes, words):
    shifts = {"as claimed": -50, "against the claim": 50, "undecided": 0}
    decided = []
    for outcome in outcomes:
        seeds, width = (4, 1) if outcome == "no word" else (6, 60 if outcome == "undecided" else 1)
        values = 100 + width * NOISE[:seeds], 100 + shifts.get(outcome, 0) + width * NOISE[:seeds][::-1]
        decided += compared(["a > b"], *values)
    assert [one.outcome for one in decided] == outcomes
    assert verdict(decided).startswith(words)
    assert headline(decided).startswith(f"The claim: **{words}")
    (sentence,) = sentences(decided)
    assert sentence.startswith("`a > b` on Hopper-v5: ")
    assert all(f"on Hopper-v5: **{outcome_name(outcome)}**" in sentence for outcome in outcomes)
    assert list(table(decided)["outcome"]) == outcomes


@pytest.mark.parametrize("relation", [">", ">=", "~"])
def test_claims_at_the_boundary_of_an_outcome_rarely_get_a_wrong_one(relation):
    """Where a - b is at the boundary of the outcomes, each wrong outcome has a probability of about 5%."""
    random, count = np.random.default_rng(0), {AS_CLAIMED: 0, AGAINST_CLAIM: 0}
    edge = {">": 0.0, ">=": -10.0, "~": 10.0}[relation]
    for _ in range(200):
        a, b = 100 + edge + 5 * random.standard_normal(10), 100 + 5 * random.standard_normal(10)
        (verdict,) = verdicts([Contest(lambda look: True, lambda look, a=a, b=b: trial(relation, a, b))])
        count[verdict.word] = count.get(verdict.word, 0) + 1
    assert count[AS_CLAIMED] <= 0.1 * 200
    if relation != ">":  # equal sides of a > b are rightly shown to be equivalent
        assert count[AGAINST_CLAIM] <= 0.1 * 200


def trial(relation, a, b):
    return Trial(families(relation, 10.0), unpaired(a, b))


def test_comparisons_have_the_correlation_of_sides_and_a_paired_interval():
    a = np.array([1.0, 2.0, 3.0, 5.0, 4.0, 6.0])
    (one,) = compared(["a > b"], 100 + a, 90 + a + NOISE)
    assert one.correlation == pytest.approx(np.corrcoef(a, a + NOISE)[0, 1])
    by_pairs = stats.ttest_rel(100 + a, 90 + a + NOISE).confidence_interval()
    assert one.by_pairs[1:] == pytest.approx(tuple(by_pairs))
    assert not one.paired
