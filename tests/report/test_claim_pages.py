"""What a report and the index say about claims: what would refute one, and which share runs of a reference."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmarks import speed
from sac_bench.report.experiment import write_report
from sac_bench.report.index import shared_references, write_index
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
    assert "2 claims in a quick setting: 2 supported." in text
    assert "Both claims share the same 6 runs of their reference, `a`. Their verdicts" in text
    assert "shifts both of them." in text


def claim_page(name, verdict, question, is_quick=False, superseded=""):
    claim = ClaimSummary("a paper", verdict, "sac", frozenset())
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


def summary(runs, reference="sac"):
    return ClaimSummary("", "undecided", reference, frozenset(runs))


def test_claims_are_grouped_by_the_reference_runs_they_share():
    claims = {"A": summary("12"), "B": summary("12"), "C": summary("1234"), "D": summary("34", "v1"), "E": summary("5")}
    first, second = shared_references(claims)
    assert first.startswith("3 of these 5 claims share the same 2 runs of their reference, `sac`: A, B, C. Their")
    assert first.endswith("an unlucky reference shifts all of them.")
    assert second.startswith("2 of these 5 claims share the same 2 runs of their reference, `sac` or `v1`: C, D. Their")
    assert shared_references({"A": summary("12"), "B": summary("34")}) == []


@pytest.mark.parametrize(
    ("claims", "words"), [("AB", "Both claims share one run of"), ("ABC", "All 3 claims share one")]
)
def test_a_run_shared_by_every_claim_is_reported_without_their_names(claims, words):
    (sentence,) = shared_references({name: summary("1") for name in claims})
    assert sentence.startswith(words)
    assert "reference, `sac`. Their" in sentence
