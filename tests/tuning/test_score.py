"""Scores of trials, with numbers that can be checked by hand."""

import math

import numpy as np
import pytest

from sac_bench.tuning.held_out import Verdict, best, seed_values, verdict
from sac_bench.tuning.pruning import bracket, continues
from sac_bench.tuning.score import RunScore, objective_value, run_value, scored, worst_seen
from sac_bench.tuning.study import load
from sac_bench.tuning.trials import Trial

ENV = "InvertedPendulum-v5"


def test_a_final_score_covers_the_last_tenth_and_an_area_all_steps():
    steps, returns = [0, 50, 95, 100], [0.0, 10.0, 20.0, 40.0]
    assert run_value(steps, returns, 100, "final") == 30
    # Trapezia: 50 * 5 + 45 * 15 + 5 * 30 = 250 + 675 + 150, over 100 steps.
    assert run_value(steps, returns, 100, "area") == pytest.approx(10.75)
    assert run_value(steps[::-1], returns[::-1], 100, "area") == pytest.approx(10.75)


def test_scores_of_diverged_runs_are_marked_as_diverged():
    assert scored([0, 10], [1.0, 2.0], 10, "final", diverged=False) == RunScore(2.0)
    assert scored([0, 10], [5.0, 2.0], 20, "final", diverged=True) == RunScore(2.0, diverged=True)
    assert scored([0, 10], [5.0, math.nan], 10, "final", diverged=False) == RunScore(5.0, diverged=True)
    nothing = scored([], [], 10, "final", diverged=True)
    assert nothing.diverged
    assert math.isnan(nothing.value)


def test_diverged_runs_enter_with_the_worst_score_seen():
    trials = [
        {"a": [RunScore(10.0), RunScore(4.0)], "b": [RunScore(-3.0), RunScore(7.0, diverged=True)]},
        {"a": [RunScore(1.0, diverged=True), RunScore(8.0)], "b": [RunScore(5.0), RunScore(6.0)]},
    ]
    worst = worst_seen(trials, {})
    assert worst == {"a": 4.0, "b": -3.0}  # not 1, the score of a run that diverged
    assert objective_value(trials[1], worst, {}, "iqm", 0.25) == np.mean([5.0, 6.0])  # of 4, 8, 5, 6 the middle two
    assert objective_value(trials[0], worst, {}, "lower-quantile", 0.25) == np.quantile([10, 4, -3, -3], 0.25)


def test_a_diverged_run_is_never_worth_more_than_a_random_policy():
    assert worst_seen([{"a": [RunScore(5.0), RunScore(2.0, diverged=True)]}], {"a": -9.0}) == {"a": -9.0}
    assert worst_seen([{"a": [RunScore(-20.0), RunScore(2.0, diverged=True)]}], {"a": -9.0}) == {"a": -20.0}
    all_of_them = [{"a": [RunScore(2.0, diverged=True), RunScore(3.0, diverged=True)]}]
    assert worst_seen(all_of_them, {}) == {"a": 2.0}
    assert worst_seen([{"a": [RunScore(math.nan, diverged=True)]}], {"a": -9.0}) == {"a": -9.0}


def test_few_runs_are_averaged_and_several_environments_are_normalised():
    assert objective_value({"a": [RunScore(1.0), RunScore(2.0)]}, {}, {}, "iqm", 0.25) == 1.5
    scores = {"a": [RunScore(50.0)], "b": [RunScore(-5.0)]}
    assert objective_value(scores, {}, {"a": (0.0, 100.0), "b": (-10.0, 0.0)}, "iqm", 0.25) == 0.5


def test_the_best_share_of_trials_continues_and_the_best_trial_always_does():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert [continues(v, values, 3) for v in values] == [False] * 5 + [True] * 2
    assert continues(1.0, [1.0], 3)
    assert [continues(v, [1.0, 2.0], 3) for v in (1.0, 2.0)] == [False, True]
    assert continues(2.0, [2.0, 2.0, 2.0], 3)  # equal ones all continue


def test_hyperband_assigns_trials_to_brackets_by_their_shares():
    assert {bracket(n, "none", 2, 3) for n in range(50)} == {2}
    assert {bracket(n, "successive-halving", 2, 3) for n in range(50)} == {0}
    # Shares: ceil(3 * 9 / 3), ceil(3 * 3 / 2), 3 * 1 of 17.
    counts = np.bincount([bracket(n, "hyperband", 2, 3) for n in range(1700)])
    np.testing.assert_allclose(counts, [900, 500, 300], atol=5)
    assert len({bracket(n, "hyperband", 2, 3) for n in range(8)}) == 3


def trial(number, value, **params):
    return Trial(number, number, "PRUNED" if value is None else "COMPLETE", params, value, {}, {}, None, {})


def test_the_best_trials_are_complete_and_different():
    trials = [trial(0, 5.0, x=1), trial(1, None, x=2), trial(2, 9.0, x=3), trial(3, 9.0, x=3), trial(4, 7.0, x=4)]
    assert [t.number for t in best(trials, 2)] == [2, 4]
    assert [t.number for t in best(trials, 9)] == [2, 4, 0]


def runs(*values):
    return {ENV: [RunScore(v) if v is not None else RunScore(0.0, diverged=True) for v in values]}


def table_differences(study, winner, default=(10.0, 12.0, 14.0), searched=(30.0, 32.0, 34.0), own=(11.0, 12.0, 13.0)):
    """Return the verdict on a winner; `searched` and `own` are its and the default's scores in the search."""
    in_search = {"default": runs(*own), "trial-0007": runs(*searched)}
    held_out = {"default": runs(*default), "trial-0007": runs(*winner)}
    value = float(np.mean(searched))
    return verdict(study, [trial(7, value)], in_search, held_out, {ENV: 0.0}, {ENV: 0.0})


def test_the_verdict_has_welchs_interval_on_held_out_seeds_and_search_seeds(study_file):
    study = load(study_file)
    found = table_differences(study, (20.0, 22.0, 24.0))
    assert (found.gain, found.winner.difference.value, found.winner.searched_difference.value) == (20.0, 10.0, 20.0)
    assert found.winner.difference.low == pytest.approx(10 - 2.776445 * math.sqrt(8 / 3), rel=1e-6)  # t(4)
    assert found.share == 0.5
    assert found.answer() == (
        "trial-0007 beats the default on held-out seeds: +10.0, 95% interval [+5.47, +14.5]. On the search's own seeds, "
        "by which it was chosen: +20.0, 95% interval [+15.8, +24.2]; about 50% of that is there on held-out seeds."
    )
    assert Verdict.from_dict(found.as_dict()).answer() == found.answer()
    more = table_differences(study, (50.0, 52.0, 54.0))
    assert more.answer().endswith("; all of that is there on held-out seeds.")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"winner": (10.0, 12.0, 15.0)}, "It is not shown that trial-0007 beats the default"),
        ({"winner": (1.0, 2.0, 1.0)}, "is worse than the default"),
        ({"winner": (20.0, 22.0, 24.0), "searched": (12.0, 12.1, 80.0)}, "trial-0007 beats the default"),
        ({"winner": (20.0, 22.0, 24.0), "searched": (32.0,), "own": (12.0,)}, "chosen: +20.0, without an interval."),
        ({"winner": (20.0, 22.0, 24.0), "searched": (12.0001, 12.0, 12.0)}, "+3.33e-05"),
    ],
)
def test_the_share_requires_that_both_differences_are_shown_to_be_above_0(case, words, study_file):
    found = table_differences(load(study_file), **case)
    assert words in found.answer()
    assert math.isnan(found.share)
    assert "% of that" not in found.answer()
    assert found.as_dict()["share"] is None  # JSON has no NaN


def test_a_search_may_find_nothing(study_file):
    nothing = table_differences(load(study_file), (20.0, 22.0, 24.0), searched=(11.0, 11.0, 11.0))
    assert "The search found nothing above the default (-1 on its own seeds)" in nothing.answer()


def test_verdicts_of_earlier_versions_can_be_read(study_file):
    known = table_differences(load(study_file), (20.0, 22.0, 24.0)).as_dict()
    for one in known["contenders"]:
        del one["searched_difference"]
    known |= {"survived": 2.5472, "kept": 10.0, "answer": "255% of that survived"}
    assert Verdict.from_dict(known).answer().endswith("by which it was chosen: +20.0, without an interval.")


def test_runs_that_diverge_on_held_out_seeds_count_there_too(study_file):
    study = load(study_file)
    scores = {"default": runs(10.0, 12.0), "trial-0001": runs(20.0, None)}
    searched = {"default": runs(11.0), "trial-0001": runs(30.0)}
    found = verdict(study, [trial(1, 30.0)], searched, scores, {ENV: 10.0}, {ENV: 10.0})
    assert found.winner.diverged == 1
    assert found.winner.held_out == 15.0  # 20 and the worst seen, 10
    np.testing.assert_array_equal(seed_values(study, scores["trial-0001"], {ENV: 10.0}), [20.0, 10.0])
