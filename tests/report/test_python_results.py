"""Results as Python users get them: scores, curves, verdicts, plots and what notebooks show."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import sac_bench
from sac_bench.analysis.scores import scores
from sac_bench.errors import InputError
from sac_bench.report.results import Results
from sac_bench.report.tables import final_performance
from sac_bench.results.schema import TABLES, columns
from tests.report.test_tables import ABOUT, FINAL, made_up

RECORD = Path(__file__).parents[2] / "results" / "record"


@pytest.fixture
def results():
    yield Results.of(made_up({("one-q", 2): "diverged"}))
    plt.close("all")


@pytest.fixture(scope="module")
def record():
    return sac_bench.load_results("ablation-quick", RECORD)


def test_scores_are_those_of_reports(results):
    shown = results.scores()
    assert list(shown) == ["variant", "env", "seed", "score", "status"]
    assert shown["score"].tolist() == [100.0, 110.0, 120.0, 90.0, 80.0, 18.0, 0.0, 10.0, 20.0]
    assert shown["score"].tolist() == scores(results)["score"].tolist()


def test_curves_have_a_row_per_evaluation_and_end_at_the_scores(results):
    shown = results.curves()
    assert list(shown) == ["variant", "env", "seed", "step", "return"]
    assert len(shown) == 27
    last = shown[shown["step"] == 100]
    assert last[last["variant"] == "sac"]["return"].tolist() == FINAL["sac"]


def test_unfinished_results_are_cut_to_common_steps():
    about = copy.deepcopy(ABOUT)
    for config in about["config"].values():
        config["Hopper-v5"]["eval_every"] = 50
    results = made_up({("sac", 0): "running"}, about)
    results.runs.loc[results.runs["status"] == "running", "steps"] = 50
    unfinished = Results.of(results)
    assert set(unfinished.curves()["step"]) == {0, 50}
    assert "Training is not over" in unfinished._repr_html_()
    assert set(unfinished.differences()["in_words"]) == {"no verdict (training is not over)"}


def test_differences_have_the_verdicts_of_reports(record):
    shown, final = record.differences(), final_performance(record).query("variant != 'sac'")
    assert shown["verdict"].tolist() == final["verdict"].tolist()
    assert "worse" in set(shown["in_words"])


def test_plots_draw_on_given_axes_and_leave_the_backend(record):
    backend = matplotlib.get_backend()
    figure, (left, right) = plt.subplots(1, 2)
    assert record.plot_curves(variants=["sac", "one-q"], ax=left) is left
    assert record.plot_forest(ax=right) is right
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["sac", "one Q instead of two", "random policy"]
    sac = record.curves().query("variant == 'sac'").groupby("step")["return"]
    drawn = left.lines[0].get_ydata()
    assert (sac.min() <= drawn).all()
    assert (drawn <= sac.max()).all()
    rows = [tick.get_text() for tick in right.get_yticklabels()]
    assert len(rows) == len(record.manifest.variants) - 1
    assert rows[0] == "tau=0.05", "the best difference comes first"
    assert matplotlib.get_backend() == backend
    plt.close(figure)


def test_drawing_reports_leaves_the_backend_that_a_notebook_has_chosen():
    program = (
        "import matplotlib; matplotlib.use('pdf'); import sac_bench.report.figures.all, sac_bench.tuning.figures; "
    )
    program += "print(matplotlib.get_backend())"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "pdf"


def test_plots_make_figures_of_their_own(results):
    axis = results.plot_curves()
    assert axis.get_title() == "Hopper-v5"
    assert axis.figure.number in plt.get_fignums(), "pyplot knows it, so notebooks show it"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: r.plot_curves(env="Hoper-v5"), "'Hoper-v5' is not in made-up; did you mean 'Hopper-v5'?"),
        (lambda r: r.plot_curves(variants=["oneq"]), "'oneq' is unknown; did you mean 'one-q'?"),
        (lambda r: r.describe("run"), "'run' is not a table; must be one of runs, .*; did you mean 'runs'?"),
    ],
)
def test_unknown_names_are_errors_that_name_the_nearest(results, call, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        call(results)


def test_notebooks_show_the_question_the_runs_and_a_row_per_variant(results):
    html = results._repr_html_()
    assert "<b>made-up</b>: Is it counted?" in html
    assert "8 finished, 1 diverged" in html
    assert "sac (reference)" in html
    assert "3 of 3" in html


def test_names_in_notebooks_are_escaped(results):
    named = replace(results, manifest=results.manifest.model_copy(update={"question": "<script>"}))
    assert "<script>" not in named._repr_html_()


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described(record, table):
    described = Results.describe(table)
    assert described["description"].str.len().min() > 5
    assert set(columns(table)) <= set(described["column"])
    if table in ("runs", "evaluations", "episodes"):
        assert set(getattr(record, table)) == set(described["column"])


def test_results_stay_results_when_seeds_are_left_out(record):
    first = record.first_seeds(6)
    assert isinstance(first, Results)
    assert np.isin(first.scores()["seed"], record.manifest.seeds[:6]).all()


def test_the_package_has_a_version_and_lists_its_names():
    assert sac_bench.__version__.count(".") == 2
    assert set(sac_bench.__all__) < set(dir(sac_bench))
    assert "import_module" not in dir(sac_bench)
