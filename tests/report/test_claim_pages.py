"""What a report and the index say of claims: what would refute one, and which claims share runs of a reference."""

from dataclasses import replace

import pytest

from sac_bench.report.experiment import write_report
from sac_bench.report.index import shared_references, write_index
from sac_bench.report.page import ClaimSummary
from tests.analysis.test_claims import NOISE, made_up
from tests.conftest import figures_left_out
from tests.made_up import write_results

CLAIM = {
    "words": "a is better.",
    "source": "a paper",
    "refuted_by": "b gets as much return.",
    "expect": ["a > b", "a:largest_fall ~ b:largest_fall"],
    "margin": 0.1,
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """{the claim has a sentence that would refute it: (its folder, its page)}."""
    found = {}
    for says in (True, False):
        claim = CLAIM if says else {key: value for key, value in CLAIM.items() if key != "refuted_by"}
        finals = {("a", "Hopper-v5"): 100 + NOISE, ("b", "Hopper-v5"): 50 + NOISE}
        folder = tmp_path_factory.mktemp("results") / "claimed"
        config = {variant: {"Hopper-v5": {"tau": 0.005}} for variant in "ab"}
        write_results(folder, made_up(finals, claim=claim, seeds=list(range(6)), config=config))
        with figures_left_out():
            found[says] = folder, write_report(folder)
    return found


def test_a_report_says_what_would_refute_its_claim(reported):
    folder, page = reported[True]
    assert "What would contradict it: b gets as much return." in (folder / "report.md").read_text()
    assert page.claim.verdict == "supported"
    assert page.claim.reference_runs == {f"aHopper-v5{seed}" for seed in range(6)}
    old, _ = reported[False]
    assert "What would contradict it" not in (old / "report.md").read_text()


def test_the_index_says_which_claims_share_runs_of_their_reference(reported, tmp_path):
    page = reported[True][1]
    write_index({"claimed": page, "again": replace(page, title="again")}, tmp_path)
    text = (tmp_path / "index.md").read_text()
    assert "2 claims: 2 supported." in text
    assert "Both claims share the same 6 runs of their reference, `a`. Their verdicts" in text
    assert "shifts both of them." in text


def summary(runs, reference="sac"):
    return ClaimSummary("", "undecided", reference, frozenset(runs))


def test_groups_of_shared_runs_are_counted_by_run():
    claims = {"A": summary("12"), "B": summary("12"), "C": summary("1234"), "D": summary("34", "v1"), "E": summary("5")}
    first, second = shared_references(claims)
    assert first.startswith("3 of these 5 claims share the same 2 runs of their reference, `sac`: A, B, C. Their")
    assert first.endswith("an unlucky reference shifts all of them.")
    assert second.startswith("2 of these 5 claims share the same 2 runs of their reference, `sac` or `v1`: C, D. Their")
    assert shared_references({"A": summary("12"), "B": summary("34")}) == []


@pytest.mark.parametrize(
    ("claims", "words"), [("AB", "Both claims share one run of"), ("ABC", "All 3 claims share one")]
)
def test_a_run_that_every_claim_shares_is_said_of_all_without_their_names(claims, words):
    (sentence,) = shared_references({name: summary("1") for name in claims})
    assert sentence.startswith(words)
    assert "reference, `sac`. Their" in sentence
