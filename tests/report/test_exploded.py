"""Runs that exploded keep their scores, and every table counts them."""

from dataclasses import replace

import pandas as pd
import pytest

from sac_bench.analysis.claim_words import grid, sentences, table
from sac_bench.analysis.claims import comparisons
from sac_bench.report import latex
from sac_bench.report.experiment import write_report
from sac_bench.report.tables import final_performance
from sac_bench.spec.claim import Claim, expectation
from tests.analysis import test_factorial
from tests.analysis.test_claims import NOISE, made_up
from tests.made_up import write_results

HOPPER, OTHER = "Hopper-v5", "gymnasium:Hopper-v5"


def exploding(results, *run_ids):
    """The results in which these runs exploded before their end."""
    marked = results.runs["run_id"].isin(run_ids)
    assert marked.sum() == len(run_ids)
    return replace(results, runs=results.runs.assign(exploded=[50 if mark else None for mark in marked]))


def two_variants(*run_ids, envs=(HOPPER,), **more):
    finals = {(name, env): shift + NOISE for name, shift in (("a", 100), ("b", 50)) for env in envs}
    config = {name: {env: {"tau": 0.005} for env in envs} for name in "ab"}
    return exploding(made_up(finals, config=config, seeds=list(range(6)), **more), *run_ids)


def tables_of(results, folder):
    """Write the report of results; return its Markdown and a function that reads a table."""
    write_results(folder, results)
    write_report(folder)
    return (folder / "report.md").read_text(), lambda name: pd.read_csv(folder / "tables" / f"{name}.csv")


def test_the_table_and_sentences_of_a_claim_count_them():
    claim = Claim("", "", (expectation("a > b", "ab"), expectation("b > b:sampled", "ab")), 0.1)
    healthy = comparisons(claim, two_variants())
    one, paired = comparisons(claim, two_variants("aHopper-v50", "bHopper-v51", "bHopper-v52"))
    assert (one.exploded, paired.exploded) == (3, 2)
    assert (one.interval, one.outcome) == (healthy[0].interval, healthy[0].outcome)
    shown = grid([one, paired])
    assert shown["a"][0] == "100.04 (6 seeds, 1 exploded, worst 99)"
    assert shown["b"][0] == "50.04 (6 seeds, 2 exploded, worst 49)"
    assert sentences([one, paired])[0].endswith(" with 6 seeds, 3 exploded.")
    counted = table([one, paired])
    assert list(counted["exploded_a"]) == [1, 2]
    assert list(counted["exploded_b"]) == [2, 2]
    assert "exploded" not in " ".join(sentences(healthy))
    assert "exploded" not in grid(healthy).to_string()


def test_growth_counts_them_in_both_environments():
    results = two_variants("aHopper-v50", "bAnt-v51", "bAnt-v52", envs=(HOPPER, "Ant-v5"))
    claim = Claim("", "", (expectation("a > b", "ab"),), 0.1, (HOPPER, "Ant-v5"))
    *_, growth = comparisons(claim, results)
    assert (growth.a.exploded, growth.b.exploded) == (2, 1)  # harder, easier


def test_at_a_look_only_its_runs_are_counted():
    results = two_variants("aHopper-v50", "aHopper-v55", seed_range="5..8")
    (one,) = comparisons(Claim("", "", (expectation("a > b", "ab"),), 0.1), results)
    assert (one.verdict.look, one.exploded) == (5, 1)


def test_the_latex_table_counts_them():
    results = two_variants("bHopper-v51", "bHopper-v52")
    text = latex.final_table(final_performance(results), results.manifest, ())
    assert "& {Expl.} &" in text
    assert "exceeded what their rewards allow" in text
    rows = [[cell.strip() for cell in line.split("&")] for line in text.splitlines() if line.startswith(("a ", "b "))]
    assert [row[1:3] for row in rows] == [["6", "0"], ["6", "2"]]
    healthy = latex.final_table(final_performance(two_variants()), results.manifest, ())
    assert "Expl." not in healthy


@pytest.mark.usefixtures("without_figures")
def test_the_effects_of_a_factorial_design_count_them(tmp_path):
    healthy = test_factorial.made_up({"base": 0, "b": 0, "a": 10, "a+b": 14}, test_factorial.FULL)
    config = {name: {HOPPER: {"tau": 0.005}} for name in test_factorial.FULL}
    variants = {
        name: one.model_copy(update={"configs": config[name]}) for name, one in healthy.manifest.variants.items()
    }
    healthy = replace(healthy, manifest=healthy.manifest.model_copy(update={"variants": variants}))
    text, read = tables_of(exploding(healthy, "base-0", "a+b-1"), tmp_path / "some")
    assert set(read("effects")["exploded"]) == {2}
    assert "Runs that exploded: 2 on Hopper-v5. They keep their scores and count in every effect." in text
    assert "| exploded runs" in text
    text, read = tables_of(healthy, tmp_path / "none")
    assert set(read("effects")["exploded"]) == {0}
    assert "exploded runs" not in text


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("claimed", [False, True])
def test_the_tables_of_backends_count_them(claimed, tmp_path):
    claim = {"words": "a is best.", "source": "a paper", "expect": ["a > b"], "margin": 0.1}
    about = {"envs": (HOPPER, OTHER), "backends": ("envpool", "gymnasium"), "claim": claim if claimed else None}
    text, read = tables_of(two_variants("aHopper-v50", f"b{OTHER}1", f"b{OTHER}2", **about), tmp_path / "made-up")
    counted = read("backends")
    assert (counted["exploded_a"].item(), counted["exploded_b"].item()) == (1, 2)
    (row,) = [line for line in text.split("## Change of backend")[1].splitlines() if "survives" in line][:1]
    assert [cell.rpartition(", ")[2].strip() for cell in row.split("|")[3:5]] == ["1 exploded", "2 exploded"]


@pytest.mark.usefixtures("without_figures")
def test_aggregate_scores_and_the_table_of_compute_count_them(tmp_path):
    results = two_variants("aHopper-v50", "bAnt-v51", "bAnt-v52", envs=(HOPPER, "Ant-v5"))
    flops = results.evaluations["step"] * results.evaluations["variant"].map({"a": 1.0, "b": 2.0})
    results = replace(results, evaluations=results.evaluations.assign(flops=flops, updates=results.evaluations["step"]))
    text, read = tables_of(results, tmp_path / "made-up")
    assert read("aggregates").set_index("variant")["exploded"].to_dict() == {"a": 1, "b": 2}
    assert read("compute").set_index(["env", "variant"])["exploded"].to_dict() == {
        (HOPPER, "a"): 1,
        (HOPPER, "b"): 0,
        ("Ant-v5", "a"): 0,
        ("Ant-v5", "b"): 2,
    }
    assert "| runs | exploded |" in " ".join(text.split("## All environments together")[1].split())
    assert "exploded runs" in text.split("## Compute")[1]
