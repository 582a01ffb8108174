"""Comparisons of two results: differences against values computed by hand, identical runs, and the command."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.sequential import holm
from sac_bench.errors import InputError
from sac_bench.report.compare import in_text, presented, write_page
from sac_bench.report.sides import (
    Side,
    compare,
    conditions_that_differ,
    load_side,
    looks,
    only_in_one,
    rules,
    settings_that_differ,
)
from sac_bench.results.manifest import load_manifest, write_manifest
from tests.made_up import results_of
from tests.report.test_page import Parsed
from tests.report.test_tables import ABOUT, row_of

RECORD = Path(__file__).parents[2] / "results" / "record"
ENV = "Hopper-v5"
SCORES = {"sac": [100.0, 110, 120, 130, 140], "one-q": [90.0, 80, 70, 60, 50], "tau=1": [0.0, 10, 20, 30, 40]}


def side(more=(), ids="", name="a", about=ABOUT):
    """Five seeds per variant, evaluated at 50 and 100; `more` is added to a variant's scores, `ids` to its runs' ids."""
    runs, evaluations = [], []
    for variant, scores in SCORES.items():
        for seed, score in enumerate(np.add(scores, dict(more).get(variant, 0.0))):
            of = {"run_id": f"{variant}{seed}{ids}", "variant": variant, "env": ENV, "seed": seed}
            runs.append(of | {"status": "finished", "steps": 100, "target_steps": 100, "device": "cpu", "commit": "c"})
            for step in (50, 100):
                for policy in ("mean", "sample"):
                    row = {"step": step, "policy": policy, "return_mean": score * step, "wall_seconds": seed}
                    evaluations.append(of | row)
    return Side(Path(name), results_of(about | {"name": name, "seeds": [0, 1, 2, 3, 4]}, runs, evaluations))


def test_differences_are_b_minus_a_and_holm_skips_identical_variants():
    shift = [1e3, 0, 2e3, 0, 1e3]
    a, b = side(), side({"one-q": shift, "tau=1": 30.0}, ids="b")
    b.results.runs.loc[b.results.runs["variant"] == "sac", "run_id"] = [f"sac{seed}" for seed in range(5)]
    of_sac = b.results.evaluations["variant"] == "sac"
    b.results.evaluations.loc[of_sac, "run_id"] = b.results.evaluations.loc[of_sac, "run_id"].str.rstrip("b")
    b.results.evaluations["wall_seconds"] += 7.0  # the clock is no number of a run
    table = compare(a, b)
    rows = {variant: row_of(table, variant) for variant in SCORES}
    p = {}
    for variant, more in (("one-q", shift), ("tau=1", 30.0)):
        of_a, of_b = np.multiply(SCORES[variant], 100), np.multiply(np.add(SCORES[variant], more), 100)
        evidence = permuted(of_b, of_a)
        interval = evidence.interval()
        assert rows[variant]["difference"] == pytest.approx(of_b.mean() - of_a.mean())
        assert rows[variant]["difference_ci_low"] == pytest.approx(interval.low)
        assert rows[variant]["difference_ci_high"] == pytest.approx(interval.high)
        assert rows[variant]["same_runs"] == "none"
        p[variant] = min(1, 2 * min(evidence.above(), evidence.below()))
    np.testing.assert_allclose([rows[v]["p_holm"] for v in p], holm(list(p.values())))
    assert (rows["one-q"]["verdict"], rows["tau=1"]["verdict"]) == ("undecided", "undecided")
    assert (rows["sac"]["same_runs"], rows["sac"]["verdict"], rows["sac"]["identical"]) == ("5 identical", "", True)
    shown = row_of(presented(table, a.manifest), "sac")
    assert (shown["verdict"], shown["B - A [95% CI]"], shown["seeds"]) == ("identical", "0", "5, 5")
    assert compare(b, a)["difference"].tolist() == (-table["difference"]).tolist()


def test_a_range_is_compared_at_its_looks():
    """At 5 seeds 2 / 252 counts by its share of the error: 2 / 252 / 0.15 > 0.05. With fixed seeds it decides."""
    about = ABOUT | {"seed_range": "5..8", "reference_factor": 2}
    more = {"one-q": 1e3}
    for ranged, verdict, look in ((ABOUT, "better", None), (about, "undecided", 5)):
        a, b = side(), side(more, ids="b", about=ranged)
        table = compare(a, b).set_index("variant")
        row = table.loc["one-q"]
        alone = compare(*(replace(s, results=only(s.results, "one-q")) for s in (a, b))).iloc[0]
        assert alone["verdict"] == verdict
        assert (None if pd.isna(row["look"]) else row["look"]) == look
        assert ("The number of seeds in a range" in str(rules(a, b))) == (look is not None)
    assert table.loc["sac", "no_verdict"] == "runs are missing"  # the first look has 10 seeds of the reference
    assert compare(b, b)["verdict"].tolist() == [""] * 3
    assert looks(side(about=ABOUT | {"seed_range": "8..30"}), side(about=about)) == (8,)


def only(results, variant):
    """The results of one variant, with the manifest of all."""
    runs, evaluations = (rows[rows["variant"] == variant] for rows in (results.runs, results.evaluations))
    one = {variant: results.manifest.variants[variant]}
    return replace(
        results, manifest=results.manifest.model_copy(update={"variants": one}), runs=runs, evaluations=evaluations
    )


def test_equal_ids_with_different_numbers_are_reported_with_the_first_step():
    a, b = side(), side()
    rows = b.results.evaluations
    rows.loc[(rows["variant"] == "one-q") & (rows["seed"] == 1) & (rows["step"] == 100), "return_mean"] += 1e-9
    rows.loc[(rows["variant"] == "one-q") & (rows["seed"] == 3), "return_mean"] += 1e-9
    b.results.runs.loc[b.results.runs["run_id"] == "tau=12", ["steps", "status"]] = 50, "interrupted"
    kept = rows[~((rows["run_id"] == "tau=12") & (rows["step"] == 100))]
    b = Side(b.folder, replace(b.results, evaluations=kept))
    table = compare(a, b).set_index("variant")
    assert table["same_runs"].to_dict() == {
        "sac": "5 identical",
        "one-q": "3 identical, 2 with different numbers from step 50 on",
        "tau=1": "4 identical, 1 identical up to 50 steps",
    }
    assert table["identical"].to_dict() == {"sac": True, "one-q": False, "tau=1": False}
    assert table.loc["tau=1", "ended_otherwise"] == "B: 1 interrupted (left out)"
    text = in_text(write_page(a, b, None), width=1000)
    assert "2 of the runs have the same id in both (same settings, seed and backend), but different numbers." in text
    assert "The results share seeds" in text
    assert f"On {ENV}, bitwise identical in both: `sac`." in text


def test_tables_are_split_after_the_first_column_on_a_console_of_80_columns():
    page = write_page(side(), side({"sac": 12345.0}, ids="b"), None)
    text = in_text(page, width=80)
    assert max(map(len, text.splitlines())) <= 80
    whole = in_text(page, width=1000)
    assert set(whole.split()) <= set(text.split()) | {part for part in whole.split() if set(part) == {"-"}}
    heads = [line.split()[0] for line in text.splitlines() if "[95% CI]" in line]
    assert heads == ["variant"] * 2
    row = next(line for line in text.splitlines() if line.startswith("sac"))
    assert row.split()[:3] == ["sac", "5,", "5"]
    assert "1,246,500" in text  # (120 + 12345) * 100, with separators as everywhere


def test_all_other_differences_are_listed():
    about = copy.deepcopy(ABOUT)
    about["config"]["one-q"][ENV]["tau"] = 0.01
    for variant in about["config"].values():
        variant[ENV]["dropout"] = False
    about["variants"]["sac"]["steps"][ENV] = 200
    about["variants"]["two-q"] = about["variants"].pop("tau=1")
    about["config"]["two-q"] = about["config"].pop("tau=1")
    a, b = side(), side(about=about)
    b.results.runs["commit"] = "d"
    b.results.runs.loc[0, "device"] = "cuda"
    assert settings_that_differ(a, b).to_numpy().tolist() == [
        ["steps", "100", "200", f"sac on {ENV}"],
        ["dropout", "no such option", "false", "everywhere"],
        ["tau", "0.005", "0.01", f"one-q on {ENV}"],
    ]
    assert conditions_that_differ(a, b).to_numpy().tolist() == [["device", "cpu", "cpu; cuda"], ["commit", "c", "d"]]
    assert only_in_one(a, b) == ["Only in A: `tau=1`.", "Only in B: `two-q`."]
    assert settings_that_differ(a, a).empty
    assert conditions_that_differ(a, a).empty
    for variant in ("sac", "one-q"):
        del about["variants"][variant]
    b = side(about=about)
    with pytest.raises(InputError, match="nothing to compare: a has sac, one-q, tau=1 on Hopper-v5; a has two-q"):
        compare(a, b)


@pytest.mark.soak
def test_a_record_compared_with_itself_is_reported_as_identical(tmp_path, command):
    one = RECORD / "ablation-quick"
    other = tmp_path / "results" / "again"
    other.mkdir(parents=True)
    for file in one.glob("*.csv"):
        (other / file.name).write_bytes(file.read_bytes())
    write_manifest(other, load_manifest(one).model_copy(update={"tables": {}}))
    a, b = load_side(str(one), RECORD), load_side("again", tmp_path / "results")
    assert compare(a, b)["identical"].all()
    assert write_page(a, b, None).answer.lead == "All common runs are bitwise identical."

    evaluations = pd.read_csv(other / "evaluations.csv")
    evaluations.loc[evaluations["variant"] == "one-q", "return_mean"] += 5000
    evaluations.to_csv(other / "evaluations.csv", index=False)
    ran = command("compare", one, "again", "--out", "pages/both.html")
    assert ran.returncode == 0, ran.stderr
    assert "one Q instead of two: better, " in ran.stdout
    assert "6 with different numbers from step 0 on" in ran.stdout
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["both.html"]
    parsed = Parsed((tmp_path / "pages" / "both.html").read_text())
    assert "one Q instead of two: better, " in parsed.words
    (caption,) = [of["alt"] for tag, of in parsed.tags if tag == "img"]
    assert caption.startswith("B minus A on HalfCheetah-v5 with intervals.")
    write_page(a, load_side(str(other), RECORD), tmp_path / "both.md")
    (picture,) = [line for line in (tmp_path / "both.md").read_text().splitlines() if line.startswith("![")]
    assert (tmp_path / picture.split("(")[1].rstrip(")")).exists()


@pytest.mark.thorough
def test_a_missing_result_is_reported(command, tmp_path):
    for name, folder in (("precison", RECORD), (str(tmp_path), RECORD), ("a", tmp_path / "none")):
        with pytest.raises(InputError, match="neither a folder of results nor a name in") as refused_name:
            load_side(name, folder)
    assert "did you mean" not in str(refused_name.value)
    with pytest.raises(InputError, match="did you mean 'precision'"):
        load_side("precison", RECORD)
    refused = command("compare", RECORD / "precision", RECORD / "precision", "--out", "x.pdf")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "--out x.pdf: must end in .html or .md" in refused.stderr
