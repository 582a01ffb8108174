"""Tables and figures from made-up rows: which runs count, missing runs, and comparisons."""

import copy
import json
import math
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sac_bench.analysis.differences import differences, table_of
from sac_bench.analysis.format import interval
from sac_bench.analysis.scores import curves_of, scores
from sac_bench.report.answers import answer
from sac_bench.report.blocks import SEEDS_OF_SAME_POWER
from sac_bench.report.experiment import page, write_report
from sac_bench.report.figures.all import write_figures
from sac_bench.report.figures.groups import panels, sweeps
from sac_bench.report.tables import all_differences, final_performance, presented, write_tables
from tests.made_up import manifest_of, results_of, write_results

ABOUT = {
    "name": "made-up",
    "question": "Is it counted?",
    "envs": ["Hopper-v5"],
    "seeds": [0, 1, 2],
    "reference": "sac",
    "success_return": None,
    "command": "sac-bench run made-up.toml",
    "random": {"Hopper-v5": {"return_mean": 18.0, "return_std": 17.0, "episodes": 100}},
    "variants": {
        "sac": {"algorithm": "sac", "overrides": {}, "steps": {"Hopper-v5": 100}, "swept": None},
        "one-q": {"algorithm": "sac", "overrides": {"critics": 1}, "steps": {"Hopper-v5": 100}, "swept": None},
        "tau=1": {"algorithm": "sac", "overrides": {"tau": 1.0}, "steps": {"Hopper-v5": 100}, "swept": ["tau", 1.0]},
    },
    "config": {n: {"Hopper-v5": {"tau": t}} for n, t in (("sac", 0.005), ("one-q", 0.005), ("tau=1", 1.0))},
}
FINAL = {"sac": [100.0, 110.0, 120.0], "one-q": [90.0, 80.0, 70.0], "tau=1": [0.0, 10.0, 20.0]}


MANIFEST = manifest_of(ABOUT)


def made_up(statuses=(), about=ABOUT):
    """Three seeds per variant, evaluated at 0, 50 and 100; `statuses` overrides {(variant, seed): status}."""
    statuses, runs, evaluations, episodes = dict(statuses), [], [], []
    for variant, finals in FINAL.items():
        for seed, final in enumerate(finals):
            status = statuses.get((variant, seed), "finished")
            labels = {"run_id": f"{variant}{seed}", "variant": variant, "env": "Hopper-v5", "seed": seed}
            runs.append(
                labels
                | {
                    "status": status,
                    "steps": 100,
                    "target_steps": 100,
                    "wall_seconds": 30.0,
                    "cohort_size": 3,
                    "device": "cpu",
                    "commit": "c",
                }
            )
            for step in (0, 50, 100):
                for policy, factor in (("mean", 1.0), ("sample", 0.5)):
                    row = {"step": step, "policy": policy, "return_mean": factor * final * step / 100}
                    evaluations.append(labels | row)
                    episodes += [
                        labels | {"step": step, "policy": policy, "episode": e, "return": final + e} for e in (0, 1)
                    ]
    return results_of(about, runs, evaluations, episodes)


def row_of(table, variant):
    return table[table["variant"] == variant].iloc[0]


def test_a_variant_without_mean_actions_is_scored_by_sampled_actions():
    about = copy.deepcopy(ABOUT)
    about["variants"]["one-q"]["scored_by"] = "sample"  # half the return, in made_up
    table, ours = final_performance(made_up(about=about)), row_of(final_performance(made_up()), "one-q")
    assert row_of(table, "one-q")["score"] == ours["score"] / 2 == row_of(table, "one-q")["sampled_score"]
    assert row_of(table, "sac")["score"] == row_of(final_performance(made_up()), "sac")["score"]
    curves = [curves_of(made_up(about=which), "Hopper-v5", "one-q") for which in (ABOUT, about)]
    assert (curves[0] / 2).equals(curves[1])


def test_the_table_has_final_scores_and_differences_from_the_reference():
    table = final_performance(made_up())
    one_q = row_of(table, "one-q")
    assert one_q["score"] == 80
    assert one_q["difference"] == -30
    assert one_q["difference_ci_low"] == pytest.approx(-30 - 2.776445 * (200 / 3) ** 0.5, rel=1e-5)
    assert one_q["sampled_score"] == 40
    assert pd.isna(row_of(table, "sac")["difference"])


def test_diverged_runs_enter_as_random_and_failed_runs_count_as_missing():
    results = made_up({("one-q", 0): "diverged", ("tau=1", 1): "failed", ("tau=1", 2): "running"})
    table = final_performance(results)
    assert row_of(table, "one-q")["score"] == pytest.approx((18 + 80 + 70) / 3)
    assert (row_of(table, "one-q")["diverged"], row_of(table, "one-q")["missing"]) == (1, 0)
    assert (row_of(table, "tau=1")["seeds"], row_of(table, "tau=1")["missing"]) == (1, 2)
    shown = presented(table, MANIFEST)
    assert row_of(shown, "tau=1")["seeds"] == "1 of 3"
    assert row_of(shown, "one-q")["did not finish"] == "1 diverged (as random)"
    assert row_of(shown, "tau=1")["did not finish"] == "1 failed (left out), 1 running (left out)"
    assert row_of(shown, "sac (reference)")["did not finish"] == ""
    assert scores(results)["score"].isna().sum() == 2


@pytest.mark.usefixtures("without_figures")
def test_exploded_runs_keep_their_scores_and_are_counted(tmp_path):
    healthy, results = made_up(), made_up()
    marked = results.runs["run_id"].isin(["one-q0", "one-q2", "tau=11"])
    runs = results.runs.assign(exploded=[50 if mark else None for mark in marked])
    runs.loc[runs["run_id"] == "tau=11", "exploded"] = 150  # after the steps of its score
    results = replace(results, runs=runs)
    table = final_performance(results)
    assert row_of(table, "one-q")["exploded"] == 2
    assert row_of(table, "tau=1")["exploded"] == 0
    pd.testing.assert_frame_equal(table.drop(columns="exploded"), final_performance(healthy).drop(columns="exploded"))
    assert row_of(presented(table, MANIFEST), "one-q")["seeds"] == "3 of 3, 2 exploded"
    assert row_of(presented(table, MANIFEST), "tau=1")["seeds"] == "3 of 3"
    sentences = answer(table, table_of(all_differences(results)), MANIFEST).sentences
    assert sentences[0] == "`one-q`: **no verdict** (3 seeds), -30 [-53, -7], 2 exploded."
    write_results(tmp_path / "made-up", results)
    write_report(tmp_path / "made-up")
    report = (tmp_path / "made-up" / "report.md").read_text()
    assert "9 finished; 3 exploded" in report
    assert "## Runs that exploded" in report


def test_the_table_has_the_share_of_successful_episodes_and_the_worst():
    results = made_up(about=ABOUT | {"success_return": 110.0})
    table = final_performance(results)
    sac = row_of(table, "sac")
    assert sac["worst_episode"] == 100
    assert sac["success_share"] == pytest.approx(3 / 6)  # 111, 120, 121 of 100, 101, 110, 111, 120, 121
    shown = presented(table, results.manifest)
    assert row_of(shown, "sac (reference)")["episodes above 110"] == "50%"


def test_swept_values_have_their_own_panel_with_the_reference():
    assert sweeps(MANIFEST) == {"tau": ("tau", "sac", {"tau=1": 1.0, "sac": 0.005}, "tau", "tau")}
    assert panels(MANIFEST) == {"variants": ("variants", ["sac", "one-q"]), "tau": ("tau", ["sac", "tau=1"])}


def five_seeds(**scores):
    """A table of scores on one environment: {variant: five of them}, NaN if a run does not count."""
    rows = [
        {"env": "Hopper-v5", "variant": variant, "seed": seed, "status": "finished", "score": score}
        for variant, values in scores.items()
        for seed, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_verdicts_of_differences_are_corrected_over_the_table():
    table = five_seeds(
        **{"sac": [100, 102, 101, 99, 98], "one-q": [90, 91, 92, 89, 88], "tau=1": [99, 104, 99, 101, 100]}
    )
    rows = differences(table, MANIFEST).set_index("variant")
    assert rows["verdict"].to_dict() == {"one-q": "worse", "tau=1": "undecided"}
    assert rows.loc["one-q", "difference"] == -10
    assert rows.loc["one-q", "seed_correlation"] == pytest.approx(0.9)
    # One of 252 labellings is as extreme in this direction; doubled for the other, and by Holm for two differences.
    assert rows.loc["one-q", "p_holm"] == pytest.approx(2 * 2 / 252)
    assert rows.loc["tau=1", "seeds_needed"] > 5


def test_below_five_seeds_a_difference_has_no_verdict():
    table = five_seeds(**{"sac": [100, 102, 101, 99, 98], "one-q": [1, 2, 3, 4, None], "tau=1": [1, 2, 3, 4, 5]})
    rows = differences(table, MANIFEST).set_index("variant")
    assert rows["verdict"].to_dict() == {"one-q": "", "tau=1": "worse"}
    assert pd.isna(rows.loc["one-q", "p_holm"])
    assert rows.loc["one-q", "difference"] == -97.5


def test_a_report_says_what_undecided_comparisons_and_a_fixed_design_require():
    noise = np.random.default_rng(0).normal(0, 10, 60)
    values = {"sac": 100 + noise, "one-q": 97 + np.roll(noise, 7)[:30], "tau=1": 20 + noise[:30]}
    runs = [
        {"run_id": f"{name}{seed}", "variant": name, "env": "Hopper-v5", "seed": seed, "status": "finished"}
        | {"steps": 100, "target_steps": 100, "wall_seconds": 480.0, "cohort_size": 2}
        for name, of in values.items()
        for seed in range(len(of))
    ]
    evaluations = [
        {key: run[key] for key in ("run_id", "variant", "env", "seed")}
        | {"step": 100, "policy": policy, "return_mean": values[run["variant"]][run["seed"]]}
        for run in runs
        for policy in ("mean", "sample")
    ]
    variants = {name: of | {"seeds": {"Hopper-v5": len(values[name])}} for name, of in ABOUT["variants"].items()}
    about = ABOUT | {
        "seeds": range(60),
        "seed_range": "5..30",
        "reference_factor": 2,
        "variants": variants,
        "success_return": None,
    }
    results = results_of(about, runs, evaluations)
    gaps = all_differences(results)
    final = final_performance(results, gaps)
    found = page(results, final, gaps, None, pd.DataFrame(), [], defaultdict(list), "")
    sections = {section.title: section.blocks for section in found.sections}
    (row,) = sections["What would decide"][0].table.to_dict("records")
    needed = int(row["stands"].split("needs ")[1].rstrip(")"))
    missing = 3 * needed - 90  # of one-q, and twice as many of the reference
    assert (row["comparison"], row["missing runs"]) == ("one-q", str(missing))
    assert row["time"] == f"{missing * 240 / 3600:.1f} h"
    (paragraph,) = sections["Seeds until decided"]
    assert "Here it would be 80 runs; this experiment has 120." in "".join(map(str, paragraph.parts))


def test_infinite_bounds_are_shown_as_unknown():
    assert interval(-0.4, -0.004, -math.inf, spec=".0f") == "0 [0, unknown]"
    assert interval(-0.004, -0.5, 0.5, spec="+.2f") == "+0.00 [-0.50, +0.50]"
    assert interval(80, 55, 105, spec=".0f") == "80 [55, 105]"
    assert interval(80, -math.inf, math.inf, spec=".0f") == "80 [unknown]"
    assert interval(80, 55, math.inf, spec=".0f") == "80 [55, unknown]"
    assert interval(80, 80, 80, spec=".0f") == "80 [80, 80]"


def test_the_fixed_design_of_the_same_power_agrees_with_recorded_simulations():
    power = pd.read_csv(Path(__file__).parents[2] / "results/record/sequential/power.csv")
    rows = power[power["distribution"] == "normal"].set_index("scheme")
    looks, fixed = (
        rows.loc["equal shares 0.15, futility 0.05, Welch's test too"],
        rows.loc[f"fixed {SEEDS_OF_SAME_POWER['5..30']}"],
    )
    for effect in ("0.5", "0.8", "1", "1.5", "2", "3"):
        assert looks[f"power {effect}"] == pytest.approx(fixed[f"power {effect}"], abs=0.07)
    assert looks["runs"] < fixed["runs"] == 20 * (9 + 2)
    for other in ("fixed 12", "fixed 30"):
        assert abs(looks["power 0.8"] - rows.loc[other, "power 0.8"]) > 0.2


@pytest.mark.thorough
def test_figures_and_report_require_only_the_csv_files(tmp_path):
    folder = tmp_path / "made-up"
    write_results(folder, made_up({("one-q", 0): "failed"}))
    write_report(folder)
    report = (folder / "report.md").read_text()
    for words in (
        "Is it counted?",
        "2 of 3",
        "## Runs that did not finish",
        "failed",
        "sac-bench run made-up.toml",
        "95%",
    ):
        assert words in report
    assert "one-q" in (folder / "tables" / "final.tex").read_text()
    first = {p.name: p.read_bytes() for p in (folder / "figures").glob("*.svg")}
    assert set(first) == {"curves-Hopper-v5.svg", "differences.svg", "final.svg", "sensitivity-tau.svg"}
    assert "All environments together" not in report  # there is one
    write_report(folder)
    assert first == {p.name: p.read_bytes() for p in (folder / "figures").glob("*.svg")}


@pytest.mark.thorough
def test_a_table_is_made_even_if_no_run_finished(tmp_path):
    everyone = {(variant, seed): "failed" for variant in FINAL for seed in range(3)}
    table = final_performance(made_up(everyone))
    assert (table["seeds"] == 0).all()
    presented(table, MANIFEST)
    partly = everyone | {("sac", seed): "finished" for seed in range(3)}
    two = copy.deepcopy(ABOUT) | {"envs": ["Hopper-v5", "Ant-v5"]}
    for variant in two["variants"].values():
        variant["steps"]["Ant-v5"] = 100
    results = made_up(partly, two)
    drawn = write_figures(results, final_performance(results), tmp_path)
    assert {section for section, pictures in drawn.items() if pictures} == {
        "curves",
        "scores",
        "sensitivity",
    }
    empty = replace(made_up(everyone), evaluations=pd.DataFrame(), episodes=pd.DataFrame())
    assert not any(write_figures(empty, final_performance(empty), tmp_path / "none").values())


def test_a_curve_continues_as_random_after_its_run_diverged():
    results = made_up({("one-q", 0): "diverged", ("tau=1", 1): "failed"})
    runs, evaluations = results.runs, results.evaluations
    runs.loc[(runs["variant"] == "one-q") & (runs["seed"] == 0), "steps"] = 70
    gone = (evaluations["variant"] == "one-q") & (evaluations["seed"] == 0) & (evaluations["step"] == 100)
    results = replace(results, evaluations=evaluations[~gone])
    curves = curves_of(results, "Hopper-v5", "one-q")
    assert curves.columns.tolist() == [0, 50, 100]
    assert curves.loc[0].tolist() == [0.0, 45.0, 18.0]
    assert curves.loc[1].tolist() == [0.0, 40.0, 80.0]
    assert curves_of(results, "Hopper-v5", "tau=1").index.tolist() == [0, 2]


@pytest.mark.thorough
def test_text_of_users_is_escaped_in_reports(tmp_path):
    folder = tmp_path / "x"
    about = ABOUT | {"question": "Is <script>alert(1)</script> & run?", "command": "sac-bench run '<b>.toml'"}
    results = made_up({("one-q", 1): "failed"}, about)
    results.runs["reason"] = "<img src=x onerror=alert(1)>"
    write_results(folder, results)
    write_report(folder)
    report = (folder / "report.md").read_text()
    assert "Is &lt;script&gt;alert(1)&lt;/script&gt; &amp; run?" in report
    assert not re.search(r"<(script|img|b)\b", report)


@pytest.mark.thorough
def test_environments_with_similar_ids_have_separate_figures(tmp_path):
    envs = ["gymnasium:lab/Reach-v0", "gymnasium:lab_Reach-v0", "gymnasium:lab_reach-v0"]
    about = json.loads(json.dumps(ABOUT).replace('"Hopper-v5": ', '"gymnasium:lab/Reach-v0": ')) | {"envs": envs}
    for place in (*(v["steps"] for v in about["variants"].values()), *about["config"].values(), about["random"]):
        place |= dict.fromkeys(envs, place[envs[0]])
    results = made_up(about=about)
    tables = {name: getattr(results, name) for name in ("runs", "evaluations", "episodes")}
    results = replace(results, **{name: pd.concat([t.assign(env=env) for env in envs]) for name, t in tables.items()})
    pictures = write_figures(results, final_performance(results), tmp_path)
    paths = [picture.path.name.casefold() for section in pictures.values() for picture in section]
    assert len(set(paths)) == len(paths)
    assert sum(name.startswith("curves-") for name in paths) == len(panels(results.manifest))


def test_the_table_for_a_terminal_fits_80_columns(tmp_path):
    write_tables(made_up(), tmp_path)
    text = (tmp_path / "final.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("sac (reference)") == 2  # once in each part
    assert "environment" not in text.split("Score of a run")[0]  # there is one
