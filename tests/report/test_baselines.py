"""Several algorithms in one experiment: the comparison's table and figures from made-up rows."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sac_bench.analysis.statistics import bootstrap_iqm
from sac_bench.report.baselines import comparison, presented_comparison, without_published
from sac_bench.report.experiment import _sources, write_report
from sac_bench.report.figures.all import write_figures
from sac_bench.report.figures.comparison import (
    at_equal_steps,
    compared_panels,
    comparison_curves,
    published_marks,
    whole_trainings,
)
from sac_bench.report.figures.curves import in_caption
from sac_bench.report.figures.style import variant_styles
from sac_bench.report.findings import Findings
from sac_bench.report.page import Link
from sac_bench.report.tables import final_performance
from tests.made_up import manifest_of, results_of, write_results

M = 1_000_000
ENVS = ["gymnasium:HalfCheetah-v5", "Pusher-v5"]
STEPS = {"sac": M, "v1": M, "ppo": 3 * M, "tau=1": M}
FINAL = {"sac": [1000.0, 1100.0, 1200.0], "v1": [900.0, 800.0, 700.0], "ppo": [300.0, 600.0, 300.0], "tau=1": [1.0] * 3}


def about_of(envs=ENVS, algorithms=("sac", "ppo"), variants=tuple(STEPS)):
    of = {"sac": algorithms[0], "v1": algorithms[0], "ppo": algorithms[-1], "tau=1": algorithms[0]}
    return {
        "name": "made-up",
        "question": "",
        "envs": list(envs),
        "seeds": [0, 1, 2],
        "reference": "sac",
        "success_return": None,
        "command": "c",
        "random": {env: {"return_mean": -5.0, "return_std": 1.0, "episodes": 10} for env in envs},
        "variants": {
            name: {
                "algorithm": of[name],
                "overrides": {},
                "steps": dict.fromkeys(envs, STEPS[name]),
                "swept": ["tau", 1.0] if name == "tau=1" else None,
            }
            for name in variants
        },
        "config": {name: {env: {"tau": 0.005, "eval_every": M // 2} for env in envs} for name in variants},
    }


def made_up(about, statuses=()):
    """Three seeds, evaluated every half million steps; the return grows with the steps to the final one."""
    statuses, runs, evaluations = dict(statuses), [], []
    for env in about["envs"]:
        for variant in about["variants"]:
            for seed, final in enumerate(FINAL[variant]):
                status, steps = statuses.get((variant, seed), "finished"), STEPS[variant]
                labels = {"run_id": f"{variant}{seed}{env}", "variant": variant, "env": env, "seed": seed}
                runs.append(
                    labels
                    | {
                        "status": status,
                        "steps": M // 2 if status == "diverged" else steps,
                        "target_steps": steps,
                        "wall_seconds": 30.0,
                        "cohort_size": 3,
                        "device": "cpu",
                        "commit": "c",
                    }
                )
                for step in range(0, steps + 1, M // 2):
                    row = {"step": step, "return_mean": step / steps * final}
                    evaluations += [labels | row | {"policy": policy} for policy in ("mean", "sample")]
    return results_of(about, runs, evaluations)


def table_of(results):
    return comparison(final_performance(results), results.manifest)


def cells(shown, column):
    return dict(zip(shown["variant"], shown[column], strict=True))


def test_our_cells_show_score_interval_seeds_and_steps():
    results = made_up(about_of(), {("v1", 0): "failed", ("ppo", 1): "diverged"})
    shown = presented_comparison(table_of(results), results.manifest)
    hopper = cells(shown, "Pusher-v5")
    half = 4.302653 * 100 / 3**0.5  # t of two degrees of freedom
    assert hopper["sac"] == f"1100 [{1100 - half:.0f}, {1100 + half:.0f}] (3)"
    assert hopper["v1 (sac)"].startswith("750 [")
    assert hopper["v1 (sac)"].endswith("(2 of 3)")
    assert hopper["ppo (trained to 3M steps)"].startswith(
        "65 ["
    )  # a third of 300 and of 300, and -5: at the steps of the others
    assert hopper["ppo (trained to 3M steps)"].endswith("(3, 1 diverged)")
    one = made_up(about_of(variants=("sac", "v1")))
    assert cells(presented_comparison(table_of(one), one.manifest), "Pusher-v5")["v1 (sac)"].endswith("] (3)")


def test_published_rows_are_shown_if_task_algorithm_and_steps_match():
    results = made_up(about_of())
    table = table_of(results)
    shown = presented_comparison(table, results.manifest)
    cheetah, hopper = (cells(shown, env) for env in ENVS)
    simbav2 = "published SAC, simbav2 (final evaluation, HalfCheetah-v4, 1M steps, 10 seeds)"
    assert cheetah[simbav2] == "11321 ± 1108 (10)"
    assert hopper[simbav2] == ""  # nobody published Pusher-v5
    assert cheetah["published SAC, rlox (final evaluation, HalfCheetah-v4, 1M steps, 5 seeds)"] == "10872 IQM (5)"
    assert cheetah["published PPO, flashsac (final evaluation, HalfCheetah-v4, 1M steps, 5 seeds)"] == "3517 ± 1169 (5)"
    names = " ".join(cheetah)
    assert "TD3" not in names  # not in the experiment
    assert "3M steps" not in names.replace("ppo (trained to 3M steps)", "")  # scored at 1M, as the others
    elsewhere = table[(table["kind"] == "published") & ~table["near"]]
    assert {("PPO", 3 * M), ("SAC", 3 * M)} <= set(zip(elsewhere["algorithm"], elsewhere["steps"], strict=True))
    assert without_published(table, results.manifest) == (
        "No comparable published score within 2% of the steps: Pusher-v5 (1M steps)."
    )


def test_scores_of_one_source_share_a_row():
    results = made_up(about_of(["Hopper-v4", "Ant-v4"]))
    shown = presented_comparison(table_of(results), results.manifest)
    row = "published SAC, simbav2 (final evaluation, v4, 1M steps, 10 seeds)"
    assert [cells(shown, env)[row] for env in results.manifest.envs] == ["2787 ± 868 (10)", "5734 ± 674 (10)"]
    assert without_published(table_of(results), results.manifest) == ""


def drawn(axis, label):
    (line,) = [line for line in axis.lines if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def band(axis, i):
    """Lowest and highest y of the i-th filled band at every x."""
    points = axis.collections[i].get_paths()[0].vertices
    return {x: (points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max()) for x in set(points[:, 0])}


def markers(axis):
    """{label: [(steps, mean), ...]} of the error bars of a panel."""
    return {c.get_label(): list(zip(*c.lines[0].get_data(), strict=True)) for c in axis.containers}


def of_both(results):
    """Return the figure to equal steps, and that of whole trainings."""
    return [comparison_curves(results, of(results.manifest)) for of in (at_equal_steps, whole_trainings)]


def test_curves_are_means_with_bands_from_the_lowest_to_the_highest_seed():
    results = made_up(about_of(), {("v1", 0): "failed"})
    _, figure = of_both(results)
    axis = figure.axes[1]
    assert [list(part) for part in drawn(axis, "sac")] == [[0, M / 2, M], [0, 550, 1100]]
    assert [list(part) for part in drawn(axis, "v1")] == [[0, M / 2, M], [0, 375, 750]]
    assert drawn(axis, "ppo")[0][-1] == 3 * M  # beyond the steps of its score
    assert drawn(axis, "ppo")[1] == pytest.approx([0, 400 / 6, 800 / 6, 200, 1600 / 6, 2000 / 6, 400])
    assert list(drawn(axis, "scored here")[0]) == [M, M]
    assert band(axis, 0) == {0: (0, 0), M / 2: (500, 600), M: (1000, 1200)}
    assert band(axis, 1)[M] == (700, 800)
    assert band(axis, 2)[3 * M] == (300, 600)
    assert "tau=1" not in axis.get_legend_handles_labels()[1]
    assert axis.get_xlabel() == "million steps"
    assert len(figure.legends) == 1
    plt.close("all")


def test_algorithms_are_compared_at_equal_steps_and_the_caption_names_longer_ones():
    results = made_up(about_of(), {("v1", 0): "failed"})
    figure, _ = of_both(results)
    until = at_equal_steps(results.manifest)
    for axis in figure.axes:
        assert max(drawn(axis, "ppo")[0]) == max(drawn(axis, "sac")[0]) == M
        assert "scored here" not in axis.get_legend_handles_labels()[1]
    caption = in_caption(results, compared_panels(results.manifest), until)
    assert "ppo on Pusher-v5: trained to 3,000,000 steps, shown to 1,000,000" in caption
    assert "v1 on Pusher-v5: 2 of 3 seeds" in caption
    plt.close("all")


def test_with_five_seeds_curves_show_the_iqm_and_its_bootstrap_interval():
    few = made_up(about_of())
    more = [few.evaluations, few.evaluations.assign(seed=few.evaluations["seed"] + 3)]
    runs = [few.runs, few.runs.assign(seed=few.runs["seed"] + 3)]
    manifest = manifest_of(about_of() | {"seeds": list(range(6))})
    figure, _ = of_both(replace(few, manifest=manifest, evaluations=pd.concat(more), runs=pd.concat(runs)))
    finals = np.array(2 * [[0, 500, 1000], [0, 550, 1100], [0, 600, 1200]])
    middle, low, high = bootstrap_iqm(finals)
    assert drawn(figure.axes[1], "sac")[1] == pytest.approx(middle)
    assert band(figure.axes[1], 0)[M] == pytest.approx((low[2], high[2]))
    plt.close("all")


def test_only_comparable_tasks_within_the_panel_have_markers():
    equal, whole = of_both(made_up(about_of()))
    cheetah, pusher = whole.axes
    assert markers(pusher) == {}
    # Far above all curves, a score is drawn at the edge of the axis, with its value.
    shown, at_equal = ({text.get_text() for text in axis.texts} for axis in (cheetah, equal.axes[0]))
    assert {f"{x} ↑" for x in ("8,593", "11,321", "14,298", "3,517", "5,012")} <= shown
    assert {f"{x} ↑" for x in ("8,593", "11,321", "3,517")} <= at_equal
    assert at_equal.isdisjoint({"14,298 ↑", "5,012 ↑"})  # at 3M steps
    assert max(cheetah.get_ylim()) < 2000
    plt.close("all")
    short = manifest_of(about_of(variants=("sac", "v1")))
    assert set(published_marks(short, ENVS[0], M)["steps"]) == {100_000, 300_000, 500_000, M}
    many = manifest_of(about_of(variants=("sac", "v1")) | {"seeds": list(range(5))})
    assert "SAC rlox v4 (IQM)" in set(published_marks(many, ENVS[0], M)["name"])
    assert published_marks(manifest_of(about_of(algorithms=("sql",))), ENVS[0], M).empty


def test_a_published_score_near_the_curves_is_drawn_with_its_spread():
    results = made_up(about_of())
    higher = results.evaluations.assign(return_mean=10 * results.evaluations["return_mean"])
    _, figure = of_both(replace(results, evaluations=higher))
    assert markers(figure.axes[0])["PPO flashsac v4"] == [(M, 3516.68), (3 * M, 5012.17)]
    (bar,) = [c for c in figure.axes[0].containers if c.get_label() == "PPO flashsac v4"]
    assert bar.lines[2][0].get_segments()[0][:, 1] == pytest.approx([3516.68 - 1168.98, 3516.68 + 1168.98])
    plt.close("all")


def test_each_variant_has_its_colour_and_each_algorithm_its_dashes():
    styles = variant_styles(manifest_of(about_of()))
    assert list(styles) == ["sac", "v1", "ppo", "tau=1"]
    assert len({str(style["color"]) for style in styles.values()}) == 4
    assert styles["sac"]["linestyle"] == styles["v1"]["linestyle"] != styles["ppo"]["linestyle"]


def write(folder, results):
    write_results(folder, results)
    write_report(folder)
    return (folder / "report.md").read_text()


@pytest.mark.thorough
def test_the_report_has_a_comparison_and_cites_its_sources(tmp_path):
    report = write(tmp_path / "made-up", made_up(about_of()))
    assert report.index("## Final performance") < report.index("## Learning curves") < report.index("## Comparison")
    assert "| 11321 ± 1108 (10)" in report
    assert "- simbav2: SimbaV2 (Lee et al. 2025, arXiv 2502.15280)" in report
    assert "tianshou" not in report  # only shown sources are cited
    figures = [line.rpartition("/")[2] for line in report.splitlines() if line.startswith("![")]
    assert figures[:4] == [
        "differences.png)",
        "comparison.png)",
        "comparison-whole.png)",
        "curves-tau.png)",
    ]
    tables = tmp_path / "made-up" / "tables"
    assert "Score of a run" in (tables / "comparison.md").read_text()
    assert "sb3\\_rlox" in (tables / "comparison.tex").read_text()
    rows = pd.read_csv(tables / "comparison.csv")
    assert set(rows["kind"]) == {"ours", "published"}


@pytest.mark.thorough
def test_one_algorithm_has_no_comparison(tmp_path):
    report = write(tmp_path / "made-up", made_up(about_of(algorithms=("sac",))))
    assert "## Comparison" not in report
    assert not list((tmp_path / "made-up").rglob("comparison*"))
    assert "curves-variants" in report


def test_without_sweeps_only_the_curves_of_the_comparison_are_drawn(tmp_path):
    results = made_up(about_of(["Pusher-v5"], variants=("sac", "ppo")))
    drawn = write_figures(Findings(results, tmp_path), tmp_path)
    assert [picture.path.stem for picture in drawn["curves"]] == ["comparison", "comparison-whole"]


def test_runs_that_have_not_started_leave_an_empty_panel_and_an_unscored_cell():
    results = made_up(about_of(), {(variant, seed): "failed" for variant in STEPS for seed in range(3)})
    evaluations = results.evaluations[results.evaluations["env"] == ENVS[0]]
    results = replace(results, evaluations=evaluations)
    _, figure = of_both(results)
    assert [line.get_label() for line in figure.axes[1].lines] == ["random policy", "scored here"]
    plt.close(figure)
    shown = presented_comparison(table_of(results), results.manifest)
    assert cells(shown, "Pusher-v5")["ppo (trained to 3M steps)"] == "(0 of 3)"


def test_inside_the_project_the_report_links_to_the_sources(tmp_path):
    from sac_bench.report import experiment as report

    results = report.Path(report.__file__).parents[2] / "results"
    assert _sources(results / "x") == Link("docs/published.md", "../../docs/published.md")
    assert _sources(results / "record" / "x") == Link("docs/published.md", "../../../docs/published.md")
    assert _sources(tmp_path) == "docs/published.md"
