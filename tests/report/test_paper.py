"""Figures and tables for papers, and the command that writes them."""

import copy
import os
import re
import shutil
import subprocess
from dataclasses import fields, replace

import pandas as pd
import pytest
import typer
from PIL import Image

from sac_bench.cli.figures import figures, formats_of, inches_of
from sac_bench.errors import InputError
from sac_bench.report import latex
from sac_bench.report.figures.style import STYLES
from sac_bench.report.paper import write_figures
from sac_bench.report.tables import final_performance, rules
from sac_bench.spec.run import digest
from tests.analysis.test_unfinished import training
from tests.made_up import write_results
from tests.report.test_tables import ABOUT, MANIFEST, made_up


@pytest.mark.parametrize(
    ("text", "inches"), [("3.25in", 3.25), ("8cm", 8 / 2.54), ("80 mm", 80 / 25.4), ("240pt", 240 / 72.27)]
)
def test_widths_have_units(text, inches):
    assert inches_of(text) == pytest.approx(inches)


@pytest.mark.parametrize("text", ["3", "wide", "-3in", "3 feet", "1in", "200in", ""])
def test_an_invalid_width_is_refused_with_the_accepted_forms(text):
    with pytest.raises(InputError, match=rf"--width {text}: must be (a length with its unit|between 2in and 20in)"):
        inches_of(text)


def test_formats_are_parsed_and_unsupported_ones_refused():
    assert formats_of("pdf") == ["pdf"]
    assert formats_of("PDF, .png,pdf") == ["pdf", "png"]
    with pytest.raises(InputError, match="--format eps: 'eps' is unknown; must be pdf, png, svg"):
        formats_of("eps")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_results(folder / "made-up", made_up())
    return folder


@pytest.fixture(scope="module")
def drawn(results):
    figures("made-up", formats="pdf,png", width="3.25in", style="paper", to=None, results=results)
    return results / "made-up" / "paper"


@pytest.mark.thorough
def test_figures_have_the_width_and_fonts_that_publishers_accept(drawn):
    pdf = (drawn / "differences.pdf").read_bytes()
    assert re.search(rb"/MediaBox \[ 0 0 234 ", pdf)  # points
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf
    assert b"/CreationDate" not in pdf
    with Image.open(drawn / "differences.png") as picture:
        assert picture.width == round(3.25 * 300)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.thorough
def test_captions_are_written_to_a_file_to_include(drawn):
    text = (drawn / "figures.tex").read_text()
    stems = {path.stem for path in drawn.glob("*.pdf")}
    assert set(re.findall(r"\\includegraphics\[width=3.25in\]\{\\detokenize\{(.*?)\}\}", text)) == stems
    assert r"\label{fig:made-up-differences}" in text
    assert r"Differences from sac with 95\% intervals." in text


@pytest.mark.thorough
@pytest.mark.usefixtures("drawn")
def test_figures_do_not_change_the_results(results):
    assert {path.name for path in (results / "made-up").iterdir()} == {
        "runs.csv",
        "evaluations.csv",
        "episodes.csv",
        "training.csv",
        "experiment.json",
        "paper",
    }


def of_store(table):
    """Return a table with ids that a store may have."""
    return table.assign(run_id=[digest(run_id) for run_id in table["run_id"]])


def test_tables_for_a_paper_have_no_verdicts_during_training(tmp_path):
    for name, status, words in ("ended", "finished", True), ("running", "running", False):
        results = training((("one-q", 0), (status, 100 if status == "finished" else 50)))
        ids = {f.name: of_store(table) for f in fields(results) if "run_id" in (table := getattr(results, f.name))}
        write_results(tmp_path / name, replace(results, **ids))
        write_figures(tmp_path / name, tmp_path / "paper", STYLES["paper"], ["svg"])
        table = (tmp_path / "paper" / "table.tex").read_text()
        assert ("undec." in table[table.index(r"\midrule") :]) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "claims"}, "claims: is a group of experiments"),
        ({"name": "none"}, "none: no such experiment or result"),
        ({"style": "papr"}, "--style papr: must be paper or page; did you mean 'paper'"),
        ({"to": "made-up/runs.csv"}, "runs.csv: is a file; give a folder"),
    ],
)
def test_errors_are_reported_in_one_line(results, changes, words, capsys):
    arguments = {"name": "made-up", "formats": "pdf", "width": None, "style": "paper", "to": None} | changes
    arguments["to"] = arguments["to"] and results / arguments["to"]
    with pytest.raises(typer.Exit):
        figures(**arguments, results=results)
    assert words in capsys.readouterr().err


def made(**columns):
    return final_performance(made_up()).assign(**columns)


DOCUMENT = r"""
\documentclass%s{article}
\usepackage{booktabs,siunitx,graphicx}
\begin{document}
Text.
\input{table.tex}
\input{figures.tex}
\end{document}
"""


def compiled(folder, options):
    """Compile the table and figures of a folder; return the log, with a line of the document's in one."""
    (folder / "document.tex").write_text(DOCUMENT % options)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    lines = dict(os.environ) | {"max_print_line": "1000"}
    ran = subprocess.run(command, cwd=folder, env=lines, capture_output=True, timeout=120)
    assert ran.returncode == 0, ran.stdout.decode(errors="replace")[-2000:]
    assert (folder / "document.pdf").stat().st_size > 10_000
    return (folder / "document.log").read_text(errors="replace")


@pytest.mark.thorough
@pytest.mark.skipif(
    any(
        shutil.which("kpsewhich") is None
        or not subprocess.run(["kpsewhich", f"{name}.sty"], capture_output=True).stdout
        for name in ("booktabs", "siunitx", "graphicx")
    ),
    reason="no TeX with booktabs and siunitx (apt: texlive-latex-recommended texlive-science)",
)
@pytest.mark.parametrize("options", ["", "[twocolumn]"])
def test_the_table_and_figures_compile_and_the_table_fits_the_page(drawn, tmp_path, options):
    about = copy.deepcopy(ABOUT)
    about["variants"]["one-q"]["label"] = r"50% of [a_b] & \c{d}~$^#, at scale = 100"
    results = made_up(about=about)
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    (tmp_path / "table.tex").write_text(latex.final_table(final_performance(results), results.manifest, ["50% [a]"]))
    log = compiled(tmp_path, options)
    after_table = log[log.index("(./table.tex") : log.index("(./figures.tex")]
    assert "Overfull" not in after_table
    assert "Missing character" not in log


def rows_of(text):
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    return [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in body.split("\n") if "&" in line]


def test_a_table_has_a_caption_a_label_rules_and_aligned_numbers():
    text = latex.final_table(made(), MANIFEST, rules(MANIFEST))
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:made-up}", r"\caption{Scores over $n$ seeds"):
        assert text.count(part) == 1
    assert r"\usepackage{booktabs,siunitx}" in text
    assert all(line.startswith("%") for line in text[: text.index(r"\begin{table*}")].splitlines())
    columns = re.search(r"\\begin\{tabular\}\{(.*)\}\n", text)[1]
    assert "S[table-format=3.0]" in columns  # 110
    assert "S[table-format=-3.0]" in columns  # -100
    assert {len(row) for row in rows_of(text)} == {6}  # no verdict with three seeds
    assert rows_of(text)[1][:4] == ["one-q", "3", "80", rows_of(text)[1][3]]


def test_verdicts_in_tables_are_abbreviated():
    text = latex.final_table(made(verdict=["", "equivalent", "undecided"]), MANIFEST, ())
    assert [row[6] for row in rows_of(text)] == ["", "equiv.", "undec."]


def test_columns_without_an_entry_are_left_out():
    without = latex.final_table(made(verdict=""), MANIFEST, ())
    assert "Verdict" not in without
    assert "Holm" not in without
    decided = latex.final_table(made(verdict=["", "worse", "worse"], seeds_needed=None), MANIFEST, ())
    assert "Verdict" in decided
    assert "$n'$" not in decided
    alone = latex.final_table(made(difference=float("nan"), verdict=""), MANIFEST, ())
    assert {len(row) for row in rows_of(alone)} == {4}
    assert "Scores over $n$ seeds, with" in alone


def test_signs_of_numbers_are_minus_signs_except_in_names_and_formulas():
    assert latex.escaped("119 [-148, 386], -0.5") == "119 {[}$-$148, 386{]}, $-$0.5"
    for same in ("HalfCheetah-v5", "1e-3", "2-3", "$x = -1$"):
        assert latex.escaped(same) == same


def test_text_in_a_column_of_numbers_is_put_in_braces():
    column = latex.numbers("x", [1.5, None, -20.25], ".2f")
    assert column.alignment == "S[table-format=-2.2]"
    assert column.shown == ["1.50", "{}", "-20.25"]
    assert latex.intervals("x", [1.0, float("nan"), float("-inf")], [2.0, 3.0, 4.0], ".0f").cells == (
        "$[1, 2]$",
        "",
        r"$[-\infty, 4]$",
    )


def test_special_characters_of_latex_are_escaped_in_labels_of_tables():
    about = copy.deepcopy(ABOUT)
    about["variants"]["one-q"]["label"] = r"50% of [a_b] & \c{d}~$^#"
    results = made_up(about=about)
    text = latex.final_table(final_performance(results), results.manifest, ())
    assert r"50\% of {[}a\_b{]} \& \textbackslash{}c\{d\}\textasciitilde{}\$\textasciicircum{}\#" in text


def test_formulas_in_labels_remain_formulas_in_latex():
    assert latex.escaped(r"$\alpha_0$ of a_b at 5 \$, $x$") == r"$\alpha_0$ of a\_b at 5 \$, $x$"
    assert latex.escaped("5 $ of a_b") == r"5 \$ of a\_b"


def test_a_column_of_long_words_has_lines():
    assert latex.words("x", ["fixed temperature, reward scale = 1", "sac"]).alignment == latex.LINES
    assert latex.words("x", ["one Q instead of two"]).alignment == "l"


def test_environments_are_separated_by_rules():
    two = pd.concat([made(), made(env="Ant-v5")])
    manifest = MANIFEST.model_copy(update={"envs": ("Hopper-v5", "Ant-v5")})
    text = latex.final_table(two, manifest, ())
    assert text.count(r"\midrule") == 2
    assert [row[0] for row in rows_of(text)] == ["Hopper-v5", "", "", "Ant-v5", "", ""]
