"""Whether verdicts survive a change of backend, on made-up runs."""

import math

import numpy as np
import pytest
from scipy import stats

from sac_bench.analysis.aggregates import on_one_scale
from sac_bench.analysis.backends import (
    DIFFERS,
    NOT_DECIDED,
    SURVIVES,
    change_of_effect,
    of_claim,
    of_comparisons,
    of_differences,
    outcome,
    pairs,
    table,
)
from sac_bench.analysis.claims import comparisons
from sac_bench.analysis.differences import ALL_ENVIRONMENTS, table_differences
from sac_bench.analysis.scores import scores
from sac_bench.results.schema import columns, described
from sac_bench.spec.claim import Claim, expectation
from tests.analysis.test_claims import NOISE, made_up

HOPPER, OTHER = "Hopper-v5", "gymnasium:Hopper-v5"
BOTH = ("envpool", "gymnasium")


def across(finals, **more):
    """Return the comparisons on both backends of {(variant, env): scores} with the reference "a"."""
    results = made_up(finals, **{"seeds": range(30), "backends": BOTH} | more)
    table = scores(results)
    return of_differences(table_differences(table, results.manifest), table, results.manifest)


def effects(first, second, **more):
    """Return the one comparison of b with a whose effects on the two backends are given, with little noise."""
    noise = NOISE - NOISE.mean()
    finals = {("a", HOPPER): 100 + noise, ("b", HOPPER): 100 + first + noise}
    finals |= {("a", OTHER): 50 + noise[::-1], ("b", OTHER): 50 + second + 2 * noise}
    (one,) = across(finals, **more)
    return one


@pytest.mark.parametrize(
    ("first", "second", "margin", "expected", "words"),
    [
        (-30, -20, None, SURVIVES, ("worse", "worse")),
        (0.1, 0.1, 0.2, SURVIVES, ("equivalent", "equivalent")),
        (-30, 20, None, DIFFERS, ("worse", "better")),
        (-30, 0.1, 0.2, DIFFERS, ("worse", "equivalent")),
        (-30, 0.1, None, NOT_DECIDED, ("worse", "undecided")),
        (0.1, 0.1, None, NOT_DECIDED, ("undecided", "undecided")),
    ],
    ids=["worse-worse", "equivalent-equivalent", "worse-better", "worse-equivalent", "worse-undecided", "undecided"],
)
def test_a_verdict_survives_if_it_is_decided_and_equal_on_both_backends(first, second, margin, expected, words):
    one = effects(first, second, margin=margin)
    assert (one.outcome, one.words) == (expected, words)
    assert one.backends == BOTH
    assert one.change.value == pytest.approx(second - first)
    assert one.change.low < second - first < one.change.high


def test_there_is_no_outcome_without_verdicts():
    few = {("a", HOPPER): NOISE[:3], ("b", HOPPER): NOISE[:3] - 50, ("a", OTHER): NOISE, ("b", OTHER): NOISE - 50}
    (one,) = across(few)
    assert (one.outcome, one.words) == (NOT_DECIDED, ("no verdict", "worse"))
    assert outcome("no word", "no word") == NOT_DECIDED


def test_the_change_of_an_effect_by_hand():
    a, b = (3 + NOISE, NOISE[:5]), (8 + 2 * NOISE, 1 + NOISE)
    samples = (*b, *a)
    shares = [np.var(x, ddof=1) / len(x) for x in samples]
    freedom = sum(shares) ** 2 / sum(share**2 / (len(x) - 1) for share, x in zip(shares, samples, strict=True))
    means = [np.mean(x) for x in samples]
    value = means[0] - means[1] - (means[2] - means[3])
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(shares))
    assert change_of_effect(a, b) == pytest.approx((value, value - half, value + half))
    swapped = change_of_effect(b, a)
    assert swapped == pytest.approx((-value, -value - half, -value + half))


def test_the_interval_of_a_change_covers_the_true_one():
    random, hits, tables = np.random.default_rng(0), 0, 1000
    for _ in range(tables):
        a, b = ((random.normal(5, 3, 6), random.normal(0, 1, 12)) for _ in range(2))
        one = change_of_effect(a, b)
        hits += one.low <= 0 <= one.high
    assert abs(hits / tables - 0.95) < 3.3 * math.sqrt(0.05 * 0.95 / tables)


def test_in_a_range_of_seeds_the_interval_is_of_the_looks_of_both_verdicts_and_wider():
    reference = np.tile(NOISE[:5], 2)
    a, b = (NOISE[:5] - 30, reference), (2 * NOISE[:5] - 20, reference[::-1])
    later = np.full(3, 500.0)  # seeds of later looks, which other comparisons needed
    finals = {("a", HOPPER): a[1], ("b", HOPPER): np.append(a[0], later), ("a", OTHER): b[1], ("b", OTHER): b[0]}
    (one,) = across(finals, seed_range="5..30", reference_factor=2, seeds=range(10))
    assert one.outcome == SURVIVES
    assert one.level == pytest.approx(1 - 0.05 * 0.15**2)
    assert one.change == pytest.approx(change_of_effect(a, b, one.level))


def test_tasks_with_one_backend_and_experiments_without_the_key_are_not_compared():
    finals = {(name, env): 100 + NOISE for name in "ab" for env in (HOPPER, OTHER, "Ant-v5")}
    assert [one.task for one in across(finals)] == [HOPPER]
    assert across(finals, backends=()) == []
    assert pairs(made_up(finals, backends=BOTH[::-1]).manifest) == {HOPPER: (OTHER, HOPPER)}


def pooled(finals, **more):
    """Return the environments of a table's verdicts, and the verdict on all of them together, if there is one."""
    results = made_up(finals, **{"seeds": range(30)} | more)
    found = {one.env: one for one in table_differences(scores(results), results.manifest)}
    return list(found), found.get(ALL_ENVIRONMENTS)


def test_two_backends_of_a_task_are_one_value_per_seed_in_the_verdict_on_all_tasks():
    """Backends that give the same numbers add nothing: the joint verdict is that of one of them."""
    one = {(name, env): 100 - 0.4 * (name == "b") + NOISE for name in "ab" for env in (HOPPER, "Ant-v5")}
    twice = one | {(name, f"gymnasium:{env}"): values for (name, env), values in one.items()}
    _, alone = pooled(one)
    _, joint = pooled(twice, backends=BOTH)
    _, independent = pooled(twice)  # without the key: four environments
    assert joint.verdict.interval == pytest.approx(alone.verdict.interval)
    assert joint.verdict.word == "undecided"
    width = [of.verdict.interval.high - of.verdict.interval.low for of in (joint, independent)]
    assert width[1] < 0.8 * width[0]


def test_one_task_has_no_verdict_on_all_tasks():
    finals = {(name, env): 100 + NOISE for name in "ab" for env in (HOPPER, OTHER)}
    assert pooled(finals, backends=BOTH) == ([HOPPER, OTHER], None)


def test_a_seed_without_a_score_on_one_backend_has_no_value_in_the_task():
    finals = {(name, env): 100 + NOISE for name in "ab" for env in (HOPPER, OTHER)}
    finals["b", OTHER] = finals["b", OTHER][:4]
    results = made_up(finals, backends=BOTH, seeds=range(6))
    scaled = on_one_scale(scores(results), results.manifest)
    assert {name: len(values) for name, values in scaled[HOPPER].items()} == {"a": 6, "b": 4}
    assert list(scaled) == [HOPPER]


def claimed(b, other, expect="a > b"):
    """Return the results of a claim on two backends, with b's scores on both; a has 100."""
    finals = {("a", HOPPER): 100 + NOISE, ("b", HOPPER): b + NOISE, ("a", OTHER): 100 + NOISE, ("b", OTHER): other}
    results = made_up(finals, backends=BOTH, seeds=range(6))
    made = comparisons(Claim("", "", tuple(expectation(text, "ab") for text in [expect]), 0.1), results)
    return made, of_comparisons(made, results.manifest)


@pytest.mark.parametrize(
    ("b", "other", "words", "expected"),
    [
        (50, 60 + NOISE, ("supported", "supported"), SURVIVES),
        (150, 60 + NOISE, ("contradicted", "supported"), DIFFERS),
        (150, 140 + NOISE, ("contradicted", "contradicted"), SURVIVES),
        (50, 100 + 30 * NOISE, ("supported", "undecided"), NOT_DECIDED),
    ],
)
def test_a_claims_verdict_on_each_backend(b, other, words, expected):
    made, both = claimed(b, other)
    found, together = of_claim(made, both)
    assert (found, together) == (dict(zip(BOTH, words, strict=True)), expected)
    assert [(one.name, one.task, one.outcome) for one in both] == [("a > b", HOPPER, expected)]


def test_an_expectation_on_one_backend_is_not_compared():
    assert claimed(50, 60 + NOISE, "a > b on gymnasium:Hopper-v5")[1] == []


def test_the_table_has_the_columns_of_its_schema():
    (row,) = table([effects(-30, 20)]).to_dict("records")
    assert list(row) == columns("backends") == list(described("backends")["column"])
    assert (row["task"], row["comparison"], row["outcome"]) == (HOPPER, "b", DIFFERS)
    assert (row["backend_a"], row["env_a"], row["verdict_a"]) == ("envpool", HOPPER, "worse")
    assert (row["backend_b"], row["env_b"], row["verdict_b"]) == ("gymnasium", OTHER, "better")
    assert row["difference_b"] - row["difference_a"] == pytest.approx(row["change"])
