"""What a report and the index say about claims: what would count against one, and which share runs."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmarks import speed
from sac_bench.report.experiment import write_report
from sac_bench.report.index import shared_runs, write_index
from sac_bench.report.page import Answer, ClaimSummary, Grid, Page
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
    """{the claim has a sentence on what would count against it: (its folder, its page)}."""
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


def test_a_report_says_what_would_count_against_its_claim(reported):
    folder, page = reported[True]
    assert "What would count against it: b gets as much return." in (folder / "report.md").read_text()
    assert page.claim.verdict == "supported"
    assert page.claim.runs == {f"{variant}Hopper-v5{seed}": variant for variant in "ab" for seed in range(6)}
    old, _ = reported[False]
    assert "What would count against it" not in (old / "report.md").read_text()


@pytest.mark.parametrize(("other", "verdict"), [("a > c", "mixed"), ("c ~ a", "contradicted")])
def test_one_result_against_a_claim_of_two_expectations_is_named_so(other, verdict, tmp_path):
    """b is better than a, which counts against the claim; "a > c" is as claimed, and "c ~ a" is not."""
    claim = CLAIM | {"expect": ["a > b", other]}
    shifts = {"a": 50, "b": 100, "c": 20}
    finals = {(name, "Hopper-v5"): shift + NOISE for name, shift in shifts.items()}
    config = {variant: {"Hopper-v5": {"tau": 0.005}} for variant in shifts}
    write_results(tmp_path / "two", made_up(finals, claim=claim, seeds=list(range(6)), config=config))
    with figures_left_out():
        page = write_report(tmp_path / "two")
    text = (tmp_path / "two" / "report.md").read_text()
    assert page.claim.verdict == verdict
    assert f"The claim: **{verdict}**" in text
    assert "`a > b` on Hopper-v5: **against the claim**" in text
    assert "What would count against it: b gets as much return." in text
    assert "contradict it" not in text


def test_the_index_says_which_claims_share_runs(reported, tmp_path):
    page = reported[True][1]
    write_index({"claimed": page, "again": replace(page, title="again")}, tmp_path)
    text = (tmp_path / "index.md").read_text()
    assert "2 claims in a quick setting: 2 supported." in text
    assert "Both claims share the same 12 runs of `a` or `b`. Their verdicts are not independent" in text
    assert "if these runs are unlucky, both of them shift." in text


def claim_page(name, verdict, question, is_quick=False, superseded=""):
    claim = ClaimSummary("a paper", verdict, {})
    setting = "Quick setting: tiny." if is_quick else "Setting: large."
    return Page(name, question, Answer(), "", (), None, setting, is_quick, claim, superseded)


def test_the_claims_table_has_both_settings_sorted_by_verdict_with_links(tmp_path):
    pages = [
        claim_page("b", "undecided", "B?"),
        claim_page("b-quick", "supported", "B?", is_quick=True),
        claim_page("c-quick", "contradicted", "C?", is_quick=True, superseded="old"),
        claim_page("a", "supported", "A?"),
        claim_page("d", "no verdict: 3 seeds", "D?"),
    ]
    index = write_index({page.title: page for page in pages}, tmp_path)
    grid = next(block for block in index.sections[0].blocks if isinstance(block, Grid))
    assert grid.rows == [
        ["A?", "supported", "not run", "a paper"],
        ["C?", "not run", "contradicted (superseded)", "a paper"],
        ["B?", "undecided", "supported", "a paper"],
        ["D?", "no verdict: 3 seeds", "not run", "a paper"],
    ]
    html = (tmp_path / "index.html").read_text()
    assert '<td data-column="quick" class="verdict good"><a href="b-quick/report.html">supported</a></td>' in html
    assert '<td data-column="full" class="verdict open"><a href="b/report.html">undecided</a></td>' in html
    assert "3 claims in the full setting: 1 supported, 1 undecided, 1 no verdict" in html
    assert "2 claims in a quick setting: 1 supported, 1 contradicted" in html
    assert "Quick setting: tiny." in html


def test_an_index_links_to_the_index_or_document_of_other_folders(tmp_path):
    for name, document, content in (
        ("claims", "index.md", "# Experiments\n\n6 reports; 6 claims.\n\n## x"),
        ("soak", "README.md", "# Soak: 62 kills\n\nmore"),
        ("speed", "table.md", "| cores | steps/s |\n|:--|:--|\n| 1 | 2 |"),
        ("reported", "index.md", "# not shown"),
        ("empty", "other.md", "# not shown"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / document).write_text(content)
    write_index({"reported": claim_page("reported", "undecided", "?")}, tmp_path)
    text = (tmp_path / "index.md").read_text()
    others = text[text.index("## Other results") :]
    assert "[claims](claims/index.md): 6 reports; 6 claims." in others
    assert "[soak](soak/README.md): Soak: 62 kills" in others
    assert "[speed](speed/table.md): a table of cores, steps/s" in others
    assert "not shown" not in text
    assert '<a href="claims/index.html">claims</a>' in (tmp_path / "index.html").read_text()


def test_an_index_says_what_the_benchmark_measured(tmp_path):
    summary = pd.DataFrame(
        [
            ("Hopper-v5", 1, "float32, 4 runs", 138.2),
            ("Hopper-v5", 1, "float32, eager, 1 run", 53.0),
            ("Hopper-v5", 1, "Stable-Baselines3", 69.3),
            ("Hopper-v5", 2, "Stable-Baselines3", 142.0),
            ("Ant-v5", 1, "Stable-Baselines3", 44.0),
        ],
        columns=["environment", "cores", "implementation", "steps/s"],
    )
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "table.md").write_text(speed.page_of(summary))
    write_index({}, tmp_path)
    assert (
        "[benchmark](benchmark/table.md): Steps per second of SAC on Hopper-v5, one core: 138 with 4 runs in one "
        "program, 69 with Stable-Baselines3"
    ) in (tmp_path / "index.md").read_text()


def summary(**runs):
    """A claim with these variants: {variant: its runs, one letter each}."""
    return ClaimSummary("", "undecided", {run: variant for variant, ids in runs.items() for run in ids})


def test_claims_are_grouped_by_the_runs_they_share():
    claims = {
        "A": summary(sac="12"),
        "B": summary(sac="12"),
        "C": summary(sac="1234"),
        "D": summary(v1="34"),
        "E": summary(sac="5"),
    }
    first, second = shared_runs(claims)
    assert first.startswith("3 of these 5 claims share the same 2 runs of `sac`: A, B, C. Their verdicts")
    assert first.endswith("if these runs are unlucky, all of them shift.")
    assert second.startswith("2 of these 5 claims share the same 2 runs of `sac` or `v1`: C, D. Their")
    assert shared_runs({"A": summary(sac="12"), "B": summary(sac="34")}) == []


def test_claims_share_runs_also_of_an_arm_that_is_no_reference():
    claims = {"A": summary(sac="12", mean="78"), "B": summary(ddpg="56", mean="78"), "C": summary(sac="12", td3="9")}
    assert [sentence.split(". ")[0] for sentence in shared_runs(claims)] == [
        "2 of these 3 claims share the same 2 runs of `mean`: A, B",
        "2 of these 3 claims share the same 2 runs of `sac`: A, C",
    ]


@pytest.mark.parametrize(
    ("claims", "words"), [("AB", "Both claims share one run of `sac`"), ("ABC", "All 3 claims share one run of `sac`")]
)
def test_a_run_shared_by_every_claim_is_reported_without_their_names(claims, words):
    (sentence,) = shared_runs({name: summary(sac="1") for name in claims})
    assert sentence.startswith(f"{words}. Their")
