"""Results while training is not over: all runs up to the last steps they have in common, and no verdict."""

from dataclasses import replace

import pytest

from sac_bench.analysis.claims import comparisons, verdict
from sac_bench.analysis.differences import TRAINING_NOT_OVER
from sac_bench.analysis.scores import curves_of, equal_steps, note, scores, up_to_common_steps
from sac_bench.analysis.waves import compared
from sac_bench.report.sides import Side, compare
from sac_bench.report.tables import all_differences, final_performance
from sac_bench.results.manifest import ClaimRecord
from sac_bench.spec.claim import Claim
from tests.analysis.test_scores import ENV, experiment

EQUAL = {"sac": ("sac", 100, 10), "one-q": ("sac", 100, 10)}


def training(*statuses, variants=EQUAL):
    return experiment(variants, seeds=6, statuses=dict(statuses))


BOTH = (("one-q", 0), ("interrupted", 50)), (("one-q", 1), ("running", 70))


def test_all_runs_count_up_to_the_last_steps_that_every_run_reached():
    results = up_to_common_steps(training(*BOTH))
    assert set(equal_steps(results.manifest).values()) == {50}
    table = scores(results)
    assert set(table["status"]) == {"finished"}
    assert table.groupby("variant")["score"].mean().to_dict() == {"sac": 52.5, "one-q": 52.5}
    assert {max(table["step"]) for table in (results.evaluations, results.episodes, results.training)} == {50}
    final = final_performance(results).set_index("variant")
    assert final["seeds"].to_dict() == {"sac": 6, "one-q": 6}
    assert final["scored_at"].to_dict() == {"sac": 50, "one-q": 50}
    assert curves_of(results, ENV, "one-q").shape == (6, 6)
    assert set(results.runs["status"]) == {"finished", "interrupted", "running"}  # what they are stays to be seen


def test_the_common_steps_are_those_at_which_all_variants_are_evaluated():
    some = training((("ppo", 0), ("interrupted", 70)), variants={"sac": ("sac", 100, 10), "ppo": ("ppo", 100, 25)})
    results = up_to_common_steps(some)
    assert results.manifest.reached == {ENV: 50}


def test_a_run_without_comparable_evaluations_is_left_out():
    for waiting in ("not started", 0), ("interrupted", 5), ("failed", 20):
        results = up_to_common_steps(training(*BOTH, (("sac", 5), waiting)))
        assert results.manifest.reached == {ENV: 50}
        final = final_performance(results).set_index("variant")
        assert final.loc["sac", ["seeds", "missing"]].tolist() == [5, 1]
        assert curves_of(results, ENV, "sac").shape == (5, 6)
    waiting = up_to_common_steps(training((("sac", 5), ("not started", 0))))
    assert waiting.manifest.reached == {ENV: 100}


def test_a_run_enters_as_random_only_if_it_diverged_by_the_common_steps():
    some = training(*BOTH, (("sac", 0), ("diverged", 40)), (("sac", 1), ("diverged", 60)))
    table = scores(up_to_common_steps(some)).set_index(["variant", "seed"])
    assert table.loc[("sac", 0), "score"] == -5.0
    assert table.loc[("sac", 1), "score"] == 51.0


def test_the_note_says_that_training_continues_and_which_steps_count():
    assert note(up_to_common_steps(training(*BOTH)).manifest) == (
        "Training is not over, so there are no verdicts yet. On Hopper-v5, tables and figures have all runs up to 50 "
        "of 100 steps, the last that every run in training has reached."
    )
    assert note(up_to_common_steps(training((("sac", 5), ("not started", 0)))).manifest) == (
        "Training is not over, so there are no verdicts yet."
    )


def test_unfinished_training_has_no_verdict():
    over = training()
    for results in (training(*BOTH), training((("sac", 5), ("not started", 0)))):
        partial = up_to_common_steps(results)
        assert [one.row()["no_verdict"] for one in all_differences(partial)] == [TRAINING_NOT_OVER]
        assert [one.verdict.word for one in compared(partial)] == [""]
        for sides in ((partial, over), (over, partial)):
            table = compare(*(Side(None, one) for one in sides))
            assert set(table["verdict"]) == {""}
            assert set(table["no_verdict"]) == {TRAINING_NOT_OVER}
    assert [one.verdict.word for one in all_differences(over)] == ["undecided"]


def test_a_claim_in_training_has_no_verdict():
    claim = ClaimRecord(words="", source="", expect=("sac > one-q",), margin=0.1)
    for results, outcome in ((training(), "against the claim"), (training(*BOTH), "no word")):
        results = up_to_common_steps(results)
        results = replace(results, manifest=results.manifest.model_copy(update={"claim": claim}))
        found = comparisons(Claim.from_plain(claim.model_dump(), results.manifest.variants), results)
        assert [one.outcome for one in found] == [outcome]
    assert verdict(found) == f"no verdict: {TRAINING_NOT_OVER}"


@pytest.mark.parametrize("status", ["finished", "failed", "diverged"])
def test_finished_training_is_not_cut_to_common_steps(status):
    results = training((("sac", 0), (status, 100 if status == "finished" else 50)))
    assert up_to_common_steps(results) is results


def test_the_common_steps_are_not_written_to_the_manifest():
    manifest = up_to_common_steps(training(*BOTH)).manifest
    assert "reached" not in manifest.model_dump(mode="json")
