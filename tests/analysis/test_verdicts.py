"""Verdicts on differences: words, error rates, and the seeds that would decide."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sac_bench.analysis.claims import families
from sac_bench.analysis.differences import ALL_ENVIRONMENTS, table_differences
from sac_bench.analysis.hypotheses import different, equivalent
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.sequential import Contest, Design, Standing, Trial
from sac_bench.analysis.statistics import Difference, Estimate
from sac_bench.analysis.verdicts import MAX_SUGGESTED_SEEDS, Verdict, contest, in_words, least_seeds, verdict, verdicts
from sac_bench.spec.seeds import SeedRange
from tests.made_up import manifest_of

numbers = st.integers(-1000, 1000).map(lambda k: k / 8)
sides = st.lists(numbers, min_size=5, max_size=7)
OPPOSITE = {"better": "worse", "worse": "better", "equivalent": "equivalent", "undecided": "undecided"}
NOISE = np.array([-1.0, 0.5, -0.5, 1.0, 0.0, 0.25])


def of(value, deviation=1.0, n=5):
    """Return a difference of two sides with equal spread and seeds."""
    return Difference(value, (deviation**2, deviation**2), (n, n))


def word(a, b, margin=None):
    (verdict,) = verdicts([contest(a, b, margin)])
    return verdict.word


def test_verdicts_by_hand():
    assert word(2 + NOISE, NOISE) == "better"
    assert word(NOISE, 2 + NOISE) == "worse"
    assert word(NOISE, NOISE[::-1]) == "undecided"
    assert word(NOISE, NOISE[::-1], margin=2.0) == "equivalent"
    assert word(2 + NOISE, NOISE, margin=9.0) == "equivalent"  # shown not to be 0, and shown not to matter
    assert word(2 + NOISE, NOISE[:4]) == word(NOISE[:4], 2 + NOISE) == ""  # below five seeds


@given(sides, sides, st.integers(1, 400))
@settings(max_examples=20, deadline=None)
def test_swapping_the_sides_reverses_the_verdict(a, b, margin):
    assume(np.ptp(a) > 0 and np.ptp(b) > 0)
    (ahead,), (behind,) = verdicts([contest(a, b, margin)]), verdicts([contest(b, a, margin)])
    assert behind.word == OPPOSITE[ahead.word]
    assert behind.seeds_needed == ahead.seeds_needed
    assert word(np.multiply(4, a), np.multiply(4, b), 4 * margin) == ahead.word


@pytest.mark.parametrize("margin", [None, 3.0])
def test_a_corrected_interval_excludes_0_if_and_only_if_the_difference_is_shown(margin):
    random = np.random.default_rng(0)
    words = set()
    for _ in range(12):
        shifts = random.uniform(-3, 3, size=4)
        table = verdicts([contest(random.normal(shift, size=6), random.normal(size=6), margin) for shift in shifts])
        for one in table:
            value, low, high = one.corrected
            is_shown = one.p_values[0] <= 0.05
            assert low <= value <= high
            assert (low > 0 or high < 0 or (is_shown and 0 in (low, high))) == is_shown
            assert low <= one.interval.low + 0.1  # wider, but for the precision of a bound
            words.add(one.word)
    assert words >= {"better", "worse", "undecided"} if margin is None else "equivalent" in words


def test_the_interval_of_a_shown_difference_does_not_cross_0():
    """The tests use more labellings than intervals do, and bounds are bisected outwards."""
    standing = Standing(
        "decided", "better", ((None, Trial((different(),), Reaching())),), p_values=(0.046,), nearest=different()[:1]
    )
    assert verdict(standing, Design()).interval == Estimate(0.3, 0.0, 0.68)
    undecided = replace(standing, state="open", word="", p_values=(0.06,))
    assert standing.intervals(Design())[-1] == Estimate(0.3, -0.01, 0.68)
    assert undecided.corrected(Design(), 0).low < 0


class Reaching:
    """Evidence with an interval that reaches beyond 0."""

    def interval(self, level):
        return Estimate(0.3, -0.01, 0.68)


def test_without_correction_the_corrected_interval_is_that_of_one_test():
    (alone,) = verdicts([contest(2 + NOISE, NOISE)])
    assert alone.corrected == alone.interval
    beside = verdicts([contest(2 + NOISE, NOISE), contest(0.1 + NOISE, NOISE)])[0]
    assert beside.corrected.low < alone.interval.low


def of_claim(*shifts, relation, margin):
    """Comparisons of a claim: scores are higher by a shift on one side."""
    trials = [Trial(families(relation, margin), permuted(NOISE + shift, NOISE)) for shift in shifts]
    return verdicts([Contest(lambda look: True, lambda look, trial=trial: trial) for trial in trials])


@pytest.mark.parametrize("margin", [0.5, pytest.param(2.0, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("relation", [">", ">=", "~"])
def test_the_corrected_interval_of_a_claim_shows_its_outcome(relation, margin):
    of_outcome = {
        (">", "as claimed"): lambda low, high: low >= 0,
        (">", "against the claim"): lambda low, high: high <= 0 or (low >= -margin and high <= margin),
        (">=", "as claimed"): lambda low, high: low >= -margin,
        (">=", "against the claim"): lambda low, high: high <= -margin,
        ("~", "as claimed"): lambda low, high: low >= -margin and high <= margin,
        ("~", "against the claim"): lambda low, high: low >= margin or high <= -margin,
    }
    words = set()
    first = [(-4.0, -2.0, -0.3, 0.1), (0.0, 1.0, 2.0, 4.0), (0.0, 0.0, 0.0, 0.0)]
    clear = 3.0 if relation != "~" else 0.0
    for shifts in [*first, *((clear, clear, clear, last) for last in (-1.9, -1.6, -1.3, -2.5, 2.5, 3.0))]:
        for one in of_claim(*shifts, relation=relation, margin=margin):
            value, low, high = one.corrected
            assert low <= value <= high
            words.add(one.word)
            if one.word == "undecided":
                shown = [true(low, high) for (of, _), true in of_outcome.items() if of == relation]
                assert not any(shown), (low, high)
            else:
                assert of_outcome[relation, one.word](low, high), (one.word, low, high)
    assert len(words) > 1


def test_the_corrected_interval_of_one_comparison_is_not_corrected():
    (better,) = of_claim(3.0, relation=">", margin=0.5)
    assert better.corrected == better.interval
    (no_worse,) = of_claim(0.0, relation=">=", margin=2.0)
    assert no_worse.word == "as claimed"
    assert no_worse.corrected.low > no_worse.interval.low  # one-sided at 5%: 90%
    (first, *_) = of_claim(3.0, 0.1, 0.1, relation=">", margin=0.5)
    assert first.corrected.low < better.corrected.low


def test_verdicts_of_a_table_use_holm_without_comparisons_of_few_seeds():
    clear, less, few = contest(3 + NOISE, NOISE), contest(1.3 + NOISE, NOISE), contest(NOISE[:4], NOISE)
    alone = [verdicts([one])[0].p_values[0] for one in (clear, less)]
    table = verdicts([clear, few, less])
    assert [v.word for v in table] == ["better", "", "better"]
    assert [v.p_values for v in table] == [(2 * alone[0],), (), (max(alone[1], 2 * alone[0]),)]
    enough = verdicts([clear, contest(NOISE, NOISE[::-1]), less])
    assert enough[2].p_values[0] == pytest.approx(2 * alone[1])


def test_only_comparisons_with_a_margin_are_tested_for_equivalence():
    tight, loose = verdicts([contest(NOISE, NOISE[::-1]), contest(NOISE, NOISE[::-1], 3.0)])
    assert (tight.word, loose.word) == ("undecided", "equivalent")
    assert len(tight.p_values) == 1
    # It is the only one in its family.
    assert loose.p_values[1] == equivalent(3.0).p_value(permuted(NOISE, NOISE[::-1]))


def test_an_undecided_verdict_says_how_many_seeds_would_decide():
    a, b = NOISE + 0.3, NOISE[::-1]
    (alone,) = verdicts([contest(a, b)])
    spread = permuted(a, b).spread
    expected = least_seeds(spread, lambda planned: different()[0].power(planned, 0.05))
    assert alone.seeds_needed == expected > len(NOISE)
    assert alone.in_words() == f"undecided ({expected} seeds per variant would decide)"
    assert verdicts([contest(a, b)] * 3)[0].seeds_needed > expected  # Holm's strictest step
    (never,) = verdicts([contest(NOISE, NOISE[::-1])])
    assert never.in_words() == f"undecided (more than {MAX_SUGGESTED_SEEDS} seeds per variant would decide)"
    assert never.in_words(short=True) == f"undecided (needs more than {MAX_SUGGESTED_SEEDS} seeds)"
    assert Verdict("").in_words() == ""


def test_seeds_that_would_decide_keep_the_factor_of_the_reference():
    reference = np.tile(NOISE, 4)[: 4 * len(NOISE)]
    (found,) = verdicts([contest(NOISE[::-1] + 0.4, reference)])
    planned = permuted(NOISE[::-1] + 0.4, reference).spread.grown(found.seeds_needed / len(NOISE))
    assert planned.seeds == (found.seeds_needed, 4 * found.seeds_needed)
    assert different()[0].power(planned, 0.05) >= 0.8
    fewer = permuted(NOISE[::-1] + 0.4, reference).spread.grown((found.seeds_needed - 1) / len(NOISE))
    assert different()[0].power(fewer, 0.05) < 0.8


def test_seeds_that_would_decide_allow_enough_permutations():
    """Nine comparisons of 5 against 5 seeds cannot be decided, however large the differences: 2 / 252 * 9 > 0.05."""
    table = verdicts([contest(1000 * (k + 1) + NOISE[:5], NOISE[:5]) for k in range(9)])
    assert {one.word for one in table} == {"undecided"}
    assert {one.seeds_needed for one in table} == {6}  # 2 / 924 * 9 < 0.05


def test_verdicts_of_a_range_name_their_look():
    assert in_words("better", "decided", 12, None) == "better at 12 seeds"
    assert in_words("undecided", "open", 30, 80) == "undecided at 30 seeds (80 seeds per variant would decide)"
    assert in_words("undecided", "open", None, 9, True) == "undecided (needs 9 seeds)"
    assert in_words("undecided", "open", 30, 80, True) == "undecided at 30 seeds (needs 80)"
    stopped = "undecided, stopped at 8 seeds (needs more than 800)"  # the last look there is
    assert in_words("undecided", "futile", 8, None, True) == stopped


def test_the_seeds_that_a_range_needs_are_a_later_look():
    random = np.random.default_rng(0)
    a, b = random.normal(0.5, 1, 30), random.normal(0, 1, 60)
    one = Contest(lambda look: True, lambda look: Trial((different(),), permuted(a[:look], b[: 2 * look])))
    (verdict,) = verdicts([one], Design(SeedRange(5, 8).looks))
    assert verdict.word == "undecided"
    assert verdict.seeds_needed in (12, 20, 30, 50, 80, 120, 200)
    assert [look for look, _ in verdict.intervals][-1] == verdict.look


def test_least_seeds_equal_textbook_values():
    better = different()[0]
    found = [least_seeds(of(d), lambda planned: better.power(planned, 0.05)) for d in (0.2, 0.5, 0.8, 1.0, 9.0)]
    assert found == [394, 64, 26, 17, 5]  # Cohen 1988; no verdict below five
    assert least_seeds(of(0.0, 0.0), lambda planned: better.power(planned, 0.05)) is None
    assert least_seeds(of(1.0, 0.0), lambda planned: better.power(planned, 0.05)) == 5
    assert least_seeds(of(0.1), lambda planned: better.power(planned, 0.05), most=1569) is None
    assert least_seeds(of(0.1), lambda planned: better.power(planned, 0.05), most=1571) == 1571


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "differences"), [(5, 1), pytest.param(8, 4, marks=pytest.mark.soak)])
def test_at_most_5_of_100_tables_without_differences_report_one(n, differences):
    """Scores have two modes, as those of runs that may fail: t tests of these are wrong more often."""
    random, hits, tables = np.random.default_rng(n), 0, 200

    def drawn(size):
        return 10.0 * random.integers(2, size=size) + 0.1 * random.normal(size=size)

    for _ in range(tables):
        reference = drawn(2 * n)
        hits += any(v.word != "undecided" for v in verdicts([contest(drawn(n), reference) for _ in range(differences)]))
    assert hits / tables < 0.05 + 3.3 * math.sqrt(0.05 * 0.95 / tables)


def scores_of(**variants):
    """A table of scores of finished runs: {variant: {environment: scores}}."""
    rows = [
        {"env": env, "variant": variant, "seed": seed, "status": "finished", "score": score}
        for variant, of in variants.items()
        for env, values in of.items()
        for seed, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


def judge(table, **about):
    """Return {(env, variant): its difference} in an experiment against "a", where a random policy gets 0."""
    envs = list(dict.fromkeys(table["env"]))
    names = list(dict.fromkeys(table["variant"]))
    random = {env: {"return_mean": 0.0} for env in envs}
    fields = {"envs": envs, "reference": "a", "seeds": range(60), "random": random, "variants": {n: {} for n in names}}
    return {(one.env, one.variant): one for one in table_differences(table, manifest_of(fields | about))}


def test_a_margin_is_a_share_of_the_references_gain():
    table = scores_of(a={"Hopper-v5": 100 + NOISE}, b={"Hopper-v5": 99 + NOISE})
    assert judge(table)["Hopper-v5", "b"].verdict.word == "undecided"
    assert judge(table, margin=0.1)["Hopper-v5", "b"].verdict.word == "equivalent"
    assert judge(table, margin=0.01)["Hopper-v5", "b"].verdict.word == "undecided"
    assert judge(table, margin=0.1, random={})["Hopper-v5", "b"].verdict.word == "undecided"  # the gain is not known


def test_several_environments_have_a_joint_verdict_in_gains():
    """A difference too small to be shown in one environment can be shown over all."""
    envs = {"Hopper-v5": 100.0, "Ant-v5": 1000.0, "Walker2d-v5": 10.0}
    a = {env: gain * (1 + NOISE / 10) for env, gain in envs.items()}
    b = {env: gain * (0.9 + NOISE[::-1] / 10) for env, gain in envs.items()}
    rows = judge(scores_of(a=a, b=b))
    assert [rows[env, "b"].verdict.word for env in envs] == ["undecided"] * 3
    together = rows[ALL_ENVIRONMENTS, "b"]
    assert together.verdict.word == "worse"
    assert together.verdict.interval.value == pytest.approx(-0.1, rel=0.05)
    unknown = judge(scores_of(a=a, b=b), random={})[ALL_ENVIRONMENTS, "b"]
    assert (unknown.verdict.word, unknown.row()["no_verdict"]) == ("", "the gain is not known")


ABOUT_RANGE = {"reference": "a", "variants": {"a": {}, "b": {}}, "seed_range": "5..30", "reference_factor": 2}


def test_in_a_range_a_variant_waits_for_its_next_look_with_twice_the_reference_seeds():
    values = np.tile(NOISE, 10)
    table = scores_of(a={"Hopper-v5": values[:10]}, b={"Hopper-v5": values[:5] + 0.3}, c={"Hopper-v5": values[:5] - 90})
    rows = judge(table, seed_range="5..30", reference_factor=2, seeds=range(10))
    b, c = rows["Hopper-v5", "b"], rows["Hopper-v5", "c"]
    assert (c.verdict.word, c.verdict.look, c.verdict.awaits) == ("worse", 5, None)
    assert (b.verdict.word, b.verdict.look, b.verdict.awaits) == ("undecided", 5, 8)
    assert b.cells(manifest_of(ABOUT_RANGE), 8) == {("Hopper-v5", "b"): 8, ("Hopper-v5", "a"): 16}


def test_the_example_in_the_documents_shows_its_real_output():
    text = (Path(__file__).parents[2] / "docs/api.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "verdicts(" in block]
    setup, shown, answer = re.fullmatch(r"(.*)\n(\[.*\])\n# (.*)\n", example, re.DOTALL).groups()
    names = {}
    exec(setup, names)
    assert eval(shown, names) == eval(answer)
