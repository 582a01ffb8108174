"""Figures from made-up rows: what forests, curves and legends show, and that a variant looks the same everywhere."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from sac_bench.analysis.scores import scores
from sac_bench.report.figures.all import draw_figures, write_figures
from sac_bench.report.figures.comparison import compared_panels
from sac_bench.report.figures.curves import Panel, learning_curves, names_of
from sac_bench.report.figures.diagnostics import diagnostics
from sac_bench.report.figures.forest import forest, forest_pages
from sac_bench.report.figures.groups import panels, sweeps
from sac_bench.report.figures.layout import even_grid
from sac_bench.report.figures.pages import pages_of, parts_that_fit, split
from sac_bench.report.figures.scores import final_scores, sensitivity, sensitivity_pages
from sac_bench.report.figures.scores import pages as score_pages
from sac_bench.report.figures.style import PAGE, PAPER, STYLES, Sheet, house_style, of_width, variant_styles, wrapped
from sac_bench.report.findings import Findings
from sac_bench.report.page import NARROW, drawing
from sac_bench.report.tables import final_performance
from tests.analysis.test_compute import made_up as with_flops
from tests.made_up import manifest_of
from tests.report.test_tables import ABOUT, MANIFEST, made_up


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def table(*rows, env="Hopper-v5"):
    """Return a final table of (variant, difference, half the interval, half the corrected one, verdict)."""
    return pd.DataFrame(
        [
            {
                "env": env,
                "variant": name,
                "difference": value,
                "difference_ci_low": value - half,
                "difference_ci_high": value + half,
                "corrected_ci_low": value - wide,
                "corrected_ci_high": value + wide,
                "verdict": verdict,
                "state": "open",
                "look": None,
                "seeds_needed": 9,
                "ended_otherwise": "",
                "no_verdict": "",
            }
            for name, value, half, wide, verdict in rows
        ]
    )


THREE = table(("a", -5.0, 1.0, 2.0, "worse"), ("b", 3.0, 2.0, 4.0, "undecided"), ("c", -1.0, 2.0, 3.0, "undecided"))


def labels(axis):
    return [tick.get_text() for tick in axis.get_yticklabels()]


def spans(axis, y):
    """Return the horizontal spans at a row, from the thinnest to the thickest."""
    lines = [one for one in axis.lines if len(one.get_xdata()) == 2 and set(one.get_ydata()) == {y}]
    return [tuple(one.get_xdata()) for one in sorted(lines, key=lambda one: one.get_linewidth())]


def test_a_forest_plot_is_sorted_by_difference_and_has_both_intervals():
    axis = forest(THREE, ["Hopper-v5"], ["a", "b", "c"], "sac").axes[0]
    assert labels(axis) == ["b", "c", "a"]
    assert spans(axis, 0) == [(-1.0, 7.0), (1.0, 5.0)]
    assert spans(axis, 2) == [(-7.0, -3.0), (-6.0, -4.0)]


def test_the_only_row_of_a_forest_plot_shows_its_whole_interval():
    axis = forest(table(("a", -1.0, 13.0, 13.0, "undecided")), ["Hopper-v5"], ["a"], "sac").axes[0]
    low, high = axis.get_xlim()
    assert low < -14
    assert high > 12


def test_one_wide_interval_among_many_is_cut_and_marked():
    wide = pd.concat([THREE, table(("d", 0.0, 500.0, 500.0, "undecided"))])
    axis = forest(wide, ["Hopper-v5"], ["a", "b", "c", "d"], "sac").axes[0]
    assert axis.get_xlim()[1] < 50
    assert {line.get_marker() for line in axis.lines} >= {"<", ">"}


def test_a_verdict_never_breaks_within_its_number_of_seeds(column):
    figure = forest(THREE.assign(seeds_needed=[587, 1200, 74]), ["Hopper-v5"], ["a", "b", "c"], "sac", column)
    beside = [text.get_text() for text in figure.axes[0].texts]
    assert beside[:2] == ["undecided\n(needs\N{NO-BREAK SPACE}1200\N{NO-BREAK SPACE}seeds)", beside[1]]


def test_groups_have_headings_in_the_order_of_the_file():
    shown = {"a": ("First", "critics"), "b": ("b", ""), "c": ("Third", "critics")}
    axis = forest(THREE, ["Hopper-v5"], ["a", "b", "c"], "sac", shown=shown).axes[0]
    assert labels(axis) == ["critics", "Third", "First", "others", "b"]
    assert [tick.get_fontweight() == "bold" for tick in axis.get_yticklabels()] == [True, False, False, True, False]


def test_rows_have_the_same_order_in_all_environments():
    other = THREE.assign(env="Ant-v5", difference=[10.0, 30.0, 20.0])
    figure = forest(pd.concat([THREE, other]), ["Hopper-v5", "Ant-v5"], ["a", "b", "c"], "sac")
    assert [labels(axis) for axis in figure.axes] == [["b", "c", "a"]] * 2


def with_training():
    results = made_up()
    training = results.evaluations[["run_id", "variant", "env", "seed", "step"]].drop_duplicates()
    return replace(results, training=training.assign(q=1.0, temperature=0.1))


def test_a_variant_has_the_same_colour_in_all_figures():
    results = with_training()
    manifest, colors = results.manifest, {n: s["color"] for n, s in variant_styles(results.manifest).items()}
    assert len({str(color) for color in colors.values()}) == len(colors)
    found = [
        learning_curves(results, [Panel(t, "Hopper-v5", tuple(v)) for t, v in panels(manifest).values()]),
        diagnostics(results, "Hopper-v5", list(manifest.variants)),
    ]
    for figure in found:
        for axis in figure.axes:
            for line in axis.lines:
                if line.get_label() in colors:
                    assert same_color(line.get_color(), colors[line.get_label()])
    axis = final_scores(scores(results), manifest).axes[0]
    means = [line for line in axis.lines if line.get_marker() == "D"]
    assert all(same_color(line.get_color(), color) for line, color in zip(means, colors.values(), strict=True))
    rows = forest(final_performance(results), ["Hopper-v5"], ["one-q", "tau=1"], "sac", colors=colors).axes[0]
    assert all(same_color(line.get_color(), colors["one-q"]) for line in rows.lines if set(line.get_ydata()) == {0})


def test_all_panels_share_one_legend_outside_with_labels():
    about = ABOUT | {"variants": ABOUT["variants"] | {"one-q": ABOUT["variants"]["one-q"] | {"label": "One Q"}}}
    results = made_up(about=about)
    found = [Panel(title, "Hopper-v5", tuple(v)) for title, v in panels(results.manifest).values()]
    figure = learning_curves(results, found)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sac", "One Q", "tau=1", "random policy"]
    assert not any(axis.get_legend() for axis in figure.axes)
    box = legend.get_window_extent()
    assert not any(axis.get_window_extent().overlaps(box) for axis in figure.axes)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("long", [False, True])
def test_nothing_is_cut_off_at_the_edges_of_a_figure(style, long):
    house_style(style)
    name = "fixed-temperature+reward_scale=100" if long else "a"
    names = {"a": (name, ""), "b": ("b", ""), "c": ("c", "")}
    results = made_up()
    for figure in (
        forest(THREE, ["Hopper-v5"], ["a", "b", "c"], "sac", style, names),
        final_scores(scores(results), results.manifest, style),
        learning_curves(results, [Panel("Hopper-v5", "Hopper-v5", ("sac", "one-q"))], style),
    ):
        figure.draw_without_rendering()
        box, inner = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inner.x0 >= box.x0 - 1
        assert inner.x1 <= box.x1 + 1
        assert inner.y0 >= box.y0 - 1
        assert inner.y1 <= box.y1 + 1
    house_style()


def test_a_width_is_exact_and_text_is_legible():
    style = of_width(PAPER, 3.25)
    results = made_up()
    house_style(style)
    for figure in (
        forest(THREE, ["Hopper-v5"], ["a", "b", "c"], "sac", style),
        final_scores(scores(results), results.manifest, style),
        learning_curves(results, [Panel("Hopper-v5", "Hopper-v5", ("sac",))], style),
    ):
        assert figure.get_size_inches()[0] == 3.25
        sizes = [text.get_fontsize() for text in figure.findobj(plt.Text) if text.get_text().strip()]
        assert min(sizes) >= 7
        assert not any(axis.get_title() for axis in figure.axes)
    house_style()


def test_several_tasks_are_drawn_side_by_side():
    envs = [f"Task{i}-v5" for i in range(6)]
    results = made_up()
    manifest = manifest_of(
        ABOUT | {"envs": envs, "random": {}, "config": {}} | {"variants": {"sac": {"steps": dict.fromkeys(envs, 100)}}}
    )
    rows = [results.evaluations.assign(env=env) for env in envs]
    runs = [results.runs.assign(env=env) for env in envs]
    several = replace(results, manifest=manifest, evaluations=pd.concat(rows), runs=pd.concat(runs))
    for style, columns in ((PAGE, 3), (of_width(PAPER, 6.75), 3), (of_width(PAPER, 3.25), 1)):
        figure = learning_curves(several, [Panel(env, env, ("sac",)) for env in envs], style)
        assert figure.axes[0].get_gridspec().ncols == columns
        assert [axis.get_title() for axis in figure.axes] == envs


PAGE_OF_A_PAPER = 9.0
"""Inches of text on a page."""


def many(tasks, variants):
    """Return results of so many tasks and variants, in the style of a column, for which it sets the house style."""
    results = made_up()
    envs = [f"Task{i}-v5" for i in range(tasks)]
    names = {
        name: {"steps": dict.fromkeys(envs, 100)}
        for name in ("sac", *(f"variant-{i}-of-a-long-name" for i in range(variants - 1)))
    }
    about = ABOUT | {"envs": envs, "random": {}, "config": {}, "variants": names}
    own = results.evaluations[results.evaluations["variant"] == "sac"]
    runs = results.runs[results.runs["variant"] == "sac"]
    copies = [(name, env) for name in names for env in envs]
    return replace(
        results,
        manifest=manifest_of(about),
        evaluations=pd.concat([own.assign(env=env, variant=name) for name, env in copies]),
        runs=pd.concat([runs.assign(env=env, variant=name) for name, env in copies]),
    )


@pytest.fixture
def column():
    """The style of a column of a paper."""
    style = of_width(PAPER, 3.25)
    house_style(style)
    yield style
    house_style()


def curves_and_scores(results, style):
    """Return the figures of each kind, with their panels."""
    manifest, table = results.manifest, scores(results)
    shown = [Panel(env, env, tuple(manifest.variants)) for env in manifest.envs]
    curves = pages_of(shown, lambda part: list(names_of(manifest, part).values()), style)
    return (
        [learning_curves(results, part, style) for part in curves],
        [final_scores(table, manifest, style, *part) for part in score_pages(manifest, style)],
    )


def fits(figure, legible=0.6):
    """Return whether a figure of a column fits a page, with panels of a legible height in inches."""
    width, height = figure.get_size_inches()
    figure.draw_without_rendering()
    least = min(axis.get_window_extent().height for axis in figure.axes if axis.get_visible())
    return width == 3.25 and height <= PAGE_OF_A_PAPER and least > legible * figure.dpi


@pytest.mark.parametrize("tasks", [pytest.param(3, marks=pytest.mark.thorough), 5])
def test_figures_of_a_column_fit_a_page(tasks, column):
    curves, finals = curves_and_scores(many(tasks, 10), column)
    assert [len(curves), len(finals)] == [1, 1 if tasks == 3 else 2]
    assert all(map(fits, [*curves, *finals]))


@pytest.mark.thorough
@pytest.mark.parametrize(("tasks", "variants", "pages"), [(16, 3, 3), (4, 31, 2)])
def test_panels_that_do_not_fit_a_page_are_split_into_several_figures(tasks, variants, pages, column):
    results = many(tasks, variants)
    curves, finals = curves_and_scores(results, column)
    assert len(curves) == pages
    for figures in (curves, finals):
        assert all(fits(figure, 0.6 if figures is curves else 0.1 * variants) for figure in figures)
        titles = [axis.get_title() for figure in figures for axis in figure.axes if axis.get_visible()]
        assert titles == list(results.manifest.envs)


def test_panels_are_split_evenly_and_never_for_a_page_of_a_report():
    assert split(range(16), 6.9, 1) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13, 14, 15]]
    assert split(range(3), 0.2, 1) == [[0], [1], [2]]
    assert split(range(4), 2.0, 2) == [[0, 1, 2, 3]]
    assert pages_of(range(50), lambda _: ["sac"], PAGE) == [list(range(50))]


def test_items_are_in_few_parts_that_fit():
    assert parts_that_fit([3, 1, 2, 2], lambda part: sum(part) <= 8) == [[3, 1, 2, 2]]
    assert parts_that_fit([3, 1, 2, 2], lambda part: sum(part) <= 4) == [[3, 1], [2, 2]]
    assert parts_that_fit([3, 1, 2, 2], lambda part: sum(part) <= 2) == [[3], [1], [2], [2]]
    assert parts_that_fit([], lambda part: False) == []


@pytest.mark.parametrize(("envs", "rows", "pages"), [(1, 10, 1), (1, 90, 3), (6, 12, 3)])
def test_forests_are_split_into_pages_with_equal_axes_in_one_order(envs, rows, pages, column):
    names, tasks = [f"v{i}" for i in range(rows)], [f"Task{i}-v5" for i in range(envs)]
    final = pd.concat(
        table(*((name, float(i), 1.0, 2.0, "undecided") for i, name in enumerate(names)), env=env) for env in tasks
    )
    parts = forest_pages(final, tasks, names, column)
    assert len(parts) == pages
    figures = [forest(final, *part, "sac", column) for part in parts]
    for figure in figures:
        assert figure.get_size_inches()[1] <= PAGE_OF_A_PAPER
    panels_ = [axis for figure in figures for axis in figure.axes if axis.get_visible()]
    rows_of_first = [label for axis in panels_ if axis.get_title() in ("", tasks[0]) for label in labels(axis)]
    assert rows_of_first == names[::-1]
    assert len({axis.get_xlim() for axis in panels_}) == 1


@pytest.mark.thorough
def test_scores_of_many_variants_are_split_into_pages(column):
    results = many(1, 120)
    parts = score_pages(results.manifest, column)
    assert len(parts) > 1
    assert [name for _, names in parts for name in names] == list(results.manifest.variants)
    figures = [final_scores(scores(results), results.manifest, column, *part) for part in parts]
    assert all(figure.get_size_inches()[1] <= PAGE_OF_A_PAPER for figure in figures)


def test_the_environments_of_a_sweep_are_split_if_their_legend_is_too_long(column):
    envs = [f"A-task-with-a-long-name-{i}-v5" for i in range(70)]
    point = ABOUT["variants"]["sac"] | {"steps": dict.fromkeys(envs, 100)}
    variants = {"sac": point, "tau=1": point | {"swept": ["tau", 1.0]}}
    manifest = manifest_of(ABOUT | {"envs": envs, "random": {}, "config": {}, "variants": variants})
    rows = pd.DataFrame(
        [{"env": env, "variant": name, "seed": 0, "score": 1.0} for env in envs for name in manifest.variants]
    )
    (sweep,) = sweeps(manifest).values()
    parts = sensitivity_pages(manifest, sweep, column)
    assert len(parts) == 2
    assert [env for part in parts for env in part] == envs
    figure = sensitivity(rows, manifest, sweep, column, parts[0])
    assert figure.get_size_inches()[1] <= PAGE_OF_A_PAPER
    assert len(figure.legends[0].get_texts()) >= len(parts[0])


def test_a_group_of_very_many_variants_is_divided():
    variants = {f"v{i}": ABOUT["variants"]["sac"] for i in range(70)}
    manifest = manifest_of(ABOUT | {"reference": "v0", "variants": variants})
    found = panels(manifest)
    assert [group.title for group in found.values()] == [f"variants {i} of 3" for i in (1, 2, 3)]
    assert all(group.variants[0] == "v0" for group in found.values())
    assert {name for group in found.values() for name in group.variants} == set(variants)


@pytest.mark.thorough
def test_curves_of_very_many_variants_fit_pages(column):
    results = many(1, 70)
    (env,) = results.manifest.envs
    shown = [Panel(title, env, tuple(names)) for title, names in panels(results.manifest).values()]
    parts = pages_of(shown, lambda part: list(names_of(results.manifest, part).values()), column)
    assert len(parts) == 3
    assert all(fits(learning_curves(results, part, column)) for part in parts)


@pytest.mark.thorough
def test_figures_of_several_pages_are_numbered(tmp_path, column):
    results = many(16, 2)
    drawn = draw_figures(Findings(results, tmp_path), Sheet(tmp_path, column, ("svg",)))
    for section, name in (("curves", "curves-variants"), ("scores", "final")):
        stems = [picture.path.stem for picture in drawn[section]]
        assert len(stems) > 1
        assert stems == [f"{name}-{i}" for i in range(1, len(stems) + 1)]
        assert drawn[section][1].caption.startswith(f"Part 2 of {len(stems)}. ")
    assert {path.stem for path in tmp_path.glob("*.svg")} == {p.path.stem for found in drawn.values() for p in found}


def grouped(count):
    """Return a manifest of variants in two groups."""
    variants = {f"v{i}": ABOUT["variants"]["sac"] | {"group": "ab"[i % 2]} for i in range(count)}
    return manifest_of(ABOUT | {"reference": "v0", "variants": variants})


def test_variants_are_drawn_by_group_where_colours_would_repeat():
    few, many = panels(grouped(9)), panels(grouped(30))
    assert [(key, len(group.variants)) for key, group in few.items()] == [("variants", 9)]
    assert [(key, group.title, len(group.variants)) for key, group in many.items()] == [
        ("variants a", "a", 15),
        ("variants b", "b", 16),  # with the reference
    ]
    assert [panel.title for panel in compared_panels(grouped(30))] == ["a", "b"]
    assert [panel.title for panel in compared_panels(grouped(9))] == ["Hopper-v5"]


def test_panels_fill_rows_about_equally():
    assert [even_grid(n, 3) for n in (1, 2, 3, 4, 5, 6, 7)] == [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 2), (3, 3)]
    assert even_grid(4, 0) == (1, 4)


def test_a_line_with_one_point_is_drawn_as_a_marker():
    results = with_training()
    early = results.training[results.training["step"] == 100]
    (line, *_) = diagnostics(replace(results, training=early), "Hopper-v5", ["sac"]).axes[0].lines
    assert line.get_marker() == "o"
    assert np.size(line.get_xdata()) == 1


@pytest.mark.thorough
def test_one_environment_has_no_profile_and_stale_figures_are_deleted(tmp_path):
    for name in ("profile.png", "comparison-iqm.svg", "mine.png", "profile.txt"):
        (tmp_path / name).touch()
    found = Findings(made_up(), tmp_path)
    found.final["corrected_ci_low"] = -1.0
    drawn = write_figures(found, tmp_path)
    assert drawn["profile"] == []
    assert "Thin: the same interval at the level at which Holm's correction" in drawn["differences"][0].caption
    assert "<text" not in (tmp_path / "differences.svg").read_text()  # other fonts would be wider
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"mine.png", "profile.txt", "differences.png"}
    assert not names & {"profile.png", "comparison-iqm.svg"}


def test_text_is_as_wide_in_svg_as_where_the_layout_measures_it():
    """Otherwise the ends of labels are cut in SVG."""
    house_style()
    label = "undecided (needs 10 seeds)"
    figure = plt.figure()
    measured = figure.text(0, 0, label, fontsize=8).get_window_extent(figure.canvas.get_renderer())
    as_path = TextPath((0, 0), label, size=8, prop=FontProperties(family="DejaVu Sans")).get_extents()
    assert measured.width * 72 / figure.dpi == pytest.approx(as_path.width, rel=0.02)
    plt.close(figure)


def test_phones_get_narrow_versions_of_the_forests_and_none_of_earlier_ones(tmp_path):
    results = made_up()
    narrow = tmp_path / NARROW
    narrow.mkdir()
    (narrow / "earlier.svg").write_text("x")
    drawn = write_figures(Findings(results, tmp_path), tmp_path)
    assert [path.name for path in narrow.iterdir()] == ["differences.svg"]
    shown = drawing(drawn["differences"][0])
    assert shown.narrow.width == pytest.approx(3.25 * 96, abs=1)
    assert shown.width > shown.narrow.width
    assert " " not in shown.narrow.source  # a space would end it in a list of sources
    assert drawing(drawn["curves"][0]).narrow is None


def test_labels_break_at_spaces_and_plus_signs():
    assert wrapped("fixed-temperature+reward_scale=100", 20) == "fixed-temperature+\nreward_scale=100"
    assert wrapped("a+b and c", 20) == "a+b and c"
    assert wrapped("short", 20) == "short"
    assert wrapped(r"target of $a + b = c$ here", 10) == "target of\n$a + b = c$\nhere"
    assert wrapped(r"5 \$ or 6 \$ more", 10) == "5 \\$ or 6\n\\$ more"


def test_the_reference_is_black():
    assert variant_styles(MANIFEST)["sac"]["color"] == "black"


def test_scores_are_drawn_against_flops_only_if_these_differ(tmp_path):
    curves = {"sac": float, "costly": lambda step: 2.0 * step}
    for costly, written in ((4.0, True), (1.0, False)):
        results = with_flops(curves, {"sac": 1.0, "costly": costly})
        write_figures(Findings(results, tmp_path), tmp_path)
        assert (tmp_path / "pareto.png").exists() == written  # stale ones are deleted
        assert (tmp_path / "curves-by-flops-Hopper-v5.png").exists() == written


def test_curves_against_flops_are_drawn_at_what_training_took():
    results = with_flops({"sac": float, "costly": float}, {"sac": 1.0, "costly": 4.0})
    axis = learning_curves(results, [Panel("", "Hopper-v5", ("sac", "costly"), "flops")]).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines["sac"].get_xdata()) == [25, 50, 75, 100]  # a logarithmic axis has no 0
    assert list(lines["costly"].get_xdata()) == [100, 200, 300, 400]
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "FLOPs of acting and updating"
