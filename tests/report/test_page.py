"""Pages as parsed by a browser: one file, nothing loaded, everything escaped, failures reported."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest

from sac_bench.algorithms import ALGORITHMS
from sac_bench.report.experiment import write_report
from sac_bench.report.index import write_index
from sac_bench.report.page import (
    Answer,
    Grid,
    Link,
    Page,
    Picture,
    are_numbers,
    drawing,
    markdown,
    render,
    sections,
    text,
)
from sac_bench.tuning import report as of_study
from sac_bench.tuning.record import StudyRecord
from tests.made_up import results_of, write_results
from tests.report.test_tables import ABOUT, MANIFEST, made_up

VOID = {"meta", "link", "img", "br", "hr", "input", "source"}


def test_every_kind_of_missing_value_is_an_empty_cell():
    columns = {"a": ["x", None], "b": [1.5, float("nan")], "c": [None, None], "d": [True, pd.NA], "e": [[1, 2], None]}
    table = pd.DataFrame(columns)
    assert Grid(table).rows == [["x", "1.5", "", "True", "[1, 2]"], [""] * 5]
    assert Grid(table.astype({"a": "string"})).rows[1] == [""] * 5
    assert "nan" not in markdown(table).lower()
    assert "none" not in markdown(table).lower()


def test_a_table_shows_seven_columns_and_folds_others_repeating_the_first():
    table = pd.DataFrame({f"c{i}": [f"{i}.5", ""] for i in range(16)})
    assert [list(part.table.columns) for part in Grid(table).parts] == [
        [f"c{i}" for i in range(7)],
        ["c0", *(f"c{i}" for i in range(7, 13))],
        ["c0", "c13", "c14", "c15"],
    ]
    assert [len(part.table.columns) for part in Grid(table.iloc[:, :8], shown=5).parts] == [5, 4]
    assert Grid(pd.DataFrame()).parts == []
    page = render(Page("a", "", Answer(), "", sections(("b", [Grid(table)]))), ".html")
    folded = page[page.index('<details class="more">') :]
    assert "More columns: c7, c8" in folded
    assert (page.count("<table"), folded.count("<table")) == (3, 2)
    assert page.count('<th scope="row" class="number">0.5</th>') == 3
    markdown = render(Page("a", "", Answer(), "", sections(("b", [Grid(table)]))), ".md")
    assert "| c0 " in markdown
    assert "| c15 " in markdown


@pytest.mark.parametrize(
    ("column", "right"),
    [
        (["12", "", "-0.5"], True),
        (["1243 [936, 1549]", "80 [unknown]"], True),
        (["6 of 6", "5 of 6, 4 exploded"], True),
        (["14.0 min", "2.4 h", "+0.79", "30%", "1e-05", "1,246,500"], True),
        (["80 [55, 105] (3)", "11321 ± 1108 (10)", "10872 IQM (5)", "~10400"], True),
        (["3 not evaluated at 30,000 steps (left out)"], False),
        (["1 failed (left out)", "3 IQMs"], False),
        (["12", "many"], False),
        (["705251805edb4b3b"], False),
        (["", ""], False),
    ],
)
def test_columns_of_numbers_are_right_aligned(column, right):
    assert are_numbers(column) == right
    page = render(Page("a", "", Answer(), "", sections(("b", [Grid(pd.DataFrame({"n": "x", "c": column}))]))), ".html")
    assert ('<th scope="col" class="number">c</th>' in page) == right


def test_verdicts_have_colours_and_cells_may_be_links():
    words = [
        "better",
        "worse at 8 seeds",
        "equivalent",
        "supported in part",
        "supported",
        "undecided (needs 9 seeds)",
        "",
    ]
    table = pd.DataFrame({"claim": "x", "verdict": [Link(word, "a/report", to_page=True) for word in words]})
    page = Page("a", "", Answer("**worse**, by `much`:", ("**no difference found**",)), "", ())
    page = replace(page, sections=sections(("b", [Grid(table, verdicts=("verdict",))])))
    html = render(page, ".html")
    tones = re.findall(r'class="verdict (\w+)"', html)
    assert tones == ["good", "bad", "same", "part", "good", "open"]
    assert '<a href="a/report.html">worse at 8 seeds</a>' in html
    assert '<p><strong class="bad">worse</strong>, by <code>much</code>:</p>' in html
    assert '<li><strong class="open">no difference found</strong></li>' in html
    assert "[worse at 8 seeds](a/report.md)" in render(page, ".md")


def test_a_folded_section_keeps_its_heading_and_content():
    shown = sections(("Settings", [text("x")]), ("Scores", [text("y")]), folded=("Settings",))
    html = render(Page("a", "", Answer(), "", shown), ".html")
    assert "<summary><h2>Settings</h2></summary>\n<p>x</p>\n</details>" in html
    assert "<h2>Scores</h2>\n<p>y</p>\n</section>" in html
    assert html.count("<details") == 1


def test_a_page_shows_its_setting_before_its_answer():
    page = Page("a", "why?", Answer("because"), "", (), setting="Quick setting: tiny.", is_quick=True)
    for suffix in (".md", ".html"):
        words = render(page, suffix)
        assert words.index("why?") < words.index("Quick setting: tiny.") < words.index("because")
    assert 'class="setting quick"' in render(page, ".html")


class Parsed(HTMLParser):
    """Elements, text by element, and what would be loaded. AssertionError if tags do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.loads, self.links, self.words = [], [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.tags.append((tag, of))
        self.open += [] if tag in VOID else [tag]
        if tag == "a":
            self.links.append(of["href"])
        else:
            self.loads += [of[name] for name in ("src", "href", "srcset", "data", "action") if name in of]
        assert not any(name.startswith("on") for name in of)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += data.replace("\N{NO-BREAK SPACE}", " ")  # within intervals


def write(folder, results):
    write_results(folder, results)
    return write_report(folder)


NASTY = '<img src=x onerror=alert(1)> & "quoted" `code`'


@pytest.fixture(scope="module")
def harmed(tmp_path_factory):
    """A page of an experiment with a diverged run, a failed run, and markup in all text from users."""
    folder = tmp_path_factory.mktemp("results") / "harmed"
    about = json.loads(json.dumps(ABOUT).replace("one-q", "<b>one-q</b>"))
    about |= {"question": NASTY, "command": f"sac-bench run '{NASTY}.toml'"}
    results = made_up({("one-q", 0): "diverged", ("tau=1", 1): "failed"}, about)
    for table in (results.runs, results.evaluations, results.episodes):
        table["variant"] = table["variant"].replace("one-q", "<b>one-q</b>")
    training = results.evaluations[["run_id", "variant", "env", "seed", "step"]].drop_duplicates()
    training = training.assign(temperature=0.1, q=training["step"] * 2.0, own_metric=1.0)
    results = replace(results, runs=results.runs.assign(reason=None), training=training)
    results.runs.loc[results.runs["status"] == "failed", "reason"] = NASTY
    page = write(folder, results)
    return folder, page, (folder / "report.html").read_text()


@pytest.mark.thorough
def test_a_page_is_one_file_that_loads_nothing(harmed):
    _, _, page = harmed
    parsed = Parsed(page)
    assert not [source[:80] for source in parsed.loads if not source.startswith("data:")]
    assert not re.search(r"@import|url\((?!#)", page[page.index("<style>") : page.index("</style>")])
    pictures = [of for tag, of in parsed.tags if tag == "img"]
    assert len(pictures) == 6  # differences, curves, scores, sensitivity, diagnostics of two groups
    assert all(of["alt"] and of["src"].startswith("data:image/svg+xml,") for of in pictures)
    assert "script" not in {tag for tag, _ in parsed.tags}
    ids = [of["id"] for _, of in parsed.tags if "id" in of]
    assert len(ids) == len(set(ids))
    assert {link for link in parsed.links if link.startswith("#")} == {f"#{name}" for name in ids}


def test_a_page_shows_question_answer_and_problems(harmed):
    words = Parsed(harmed[2]).words
    assert words.index(NASTY.replace("`", "")) < words.index("Against sac (110 [85, 135] with 3 seeds) on Hopper-v5:")
    for phrase in (
        "1 diverged (as random)",
        "1 failed (left out)",
        "2 of 3",
        "7 finished, 1 diverged, 1 failed",
        "3 seeds per variant and environment; runs without a score: 1",
        "Runs that did not finish",
        "above 0, Q overestimates",
    ):
        assert phrase in words, phrase
    finished = Parsed(render(replace(harmed[1], sections=()), ".html")).words
    assert "Runs that did not finish" not in finished


def test_text_of_users_is_escaped_in_markdown_and_html(harmed):
    folder, _, page = harmed
    assert "&lt;img src=x onerror=alert(1)&gt; &amp;" in (folder / "report.md").read_text()
    for written in (page, (folder / "report.md").read_text()):
        assert "<b>" not in written
        assert "<img src=x" not in written
        assert "&amp;amp;" not in written
        assert "&amp;lt;" not in written
    assert "<b>one-q</b>" in Parsed(page).words


def test_markdown_and_html_have_the_same_content(harmed):
    folder, page, html = harmed
    markdown = (folder / "report.md").read_text()
    for section in page.sections:
        assert f"## {section.title}\n" in markdown
        assert f">{section.title}</h2>" in html
    blocks = [page.picture, *(block for section in page.sections for block in section.blocks)]
    assert re.findall(r"!\[.*?\]\(figures/(.*?)\)", markdown) == [
        block.path.name for block in blocks if isinstance(block, Picture)
    ]
    words = " ".join(Parsed(html).words.split())
    for sentence in page.answer.paragraphs:
        assert unescape(sentence.replace("`", "")) in words
        assert sentence.split(": ")[-1] in markdown.replace("**", "").replace("&lt;", "<").replace("&gt;", ">")


def test_links_to_pages_have_the_suffix_of_the_linking_page():
    page = Page("a", "", Answer(), "", sections(("b", [text("see ", Link("c", "../c/report", to_page=True), " & d")])))
    assert "see [c](../c/report.md) &amp; d" in render(page, ".md")
    assert 'see <a href="../c/report.html">c</a> &amp; d' in render(page, ".html")
    assert sections(("empty", []), ("full", [Grid(pd.DataFrame({"a": [1]}))]))[0].title == "full"


def test_numbers_of_a_drawing_are_rounded_except_its_scales(tmp_path):
    glyph = '<use xlink:href="#a" transform="translate(1.23456 -0.5001) scale(0.015625)"/>'
    (tmp_path / "a.svg").write_text(f'<svg width="72pt" height="36pt">{glyph}</svg>')
    source = unquote(drawing(Picture(tmp_path / "a.png", "A")).source)
    assert "translate(1.23 -0.5) scale(0.015625)" in source


def test_a_drawing_keeps_its_size_and_is_refused_without_one(tmp_path):
    (tmp_path / "a.svg").write_text(
        '<?xml version="1.0"?>\n<!-- x --><svg width="72pt"\n height="36.0pt">\n <g/>\n</svg>'
    )
    drawn = drawing(Picture(tmp_path / "a.png", "A"))
    assert (drawn.width, drawn.height) == (96, 48)
    assert "x --" not in drawn.source
    (tmp_path / "a.svg").write_text("<svg></svg>")
    with pytest.raises(ValueError, match="does not state its width"):
        drawing(Picture(tmp_path / "a.png", "A"))


STUDY = {
    "name": "made-up-study",
    "question": "Which <rate>?",
    "algorithm": "sac",
    "version": ALGORITHMS["sac"].version,
    "envs": ["Hopper-v5"],
    "seeds": [0],
    "held_out_seeds": [1000, 1001],
    "stages": [100, 300],
    "wanted": 3,
    "runs_per_trial": 1,
    "value_means": "final score",
    "settings": {"objective": "final", "aggregate": "iqm", "quantile": 0.5, "scale": {}, "sampler": "tpe"},
    "space": {"actor_lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    "default": {"actor_lr": 3e-4},
    "trials": [
        {
            "number": n,
            "name": f"trial-000{n}",
            "state": state,
            "params": {"actor_lr": 1e-3},
            "value": value,
            "diverged": 0,
            "values": {"100": 1.0} | ({"300": value} if value else {}),
            "bracket": 0,
            "seconds": 1.0,
            "steps": 300,
        }
        for n, state, value in ((0, "COMPLETE", 5.0), (1, "PRUNED", None), (2, "FAILED", None))
    ],
    "importances": {},
    "storage": "journal.log",
    "command": "sac-bench tune s.toml",
    "training_seconds": 1.0,
    "own_seconds": 1.0,
    "verdict": {
        "answer": "what an earlier version said of it",
        "contenders": [
            {
                "name": name,
                "params": {},
                "searched": 1.0,
                "held_out": 1.0,
                "mean": [1.0, 0.5, 1.5],
                "difference": [0.5, 0.1, 0.9],
                "diverged": 0,
            }
            for name in ("default", "trial-0000")
        ],
    },
}


BEATS = "trial-0000 beats the default on held-out seeds: +0.5, 95% interval [+0.1, +0.9]."


def test_a_study_has_a_page_and_an_entry_in_the_index(harmed, tmp_path, monkeypatch):
    folder = tmp_path / "made-up-study"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(STUDY))
    monkeypatch.setattr(of_study, "write_figures", lambda about, folder: [])  # tests/tuning/test_search.py draws them
    study = of_study.write_report(folder)
    parsed = Parsed((folder / "report.html").read_text())
    for phrase in ("Which <rate>?", BEATS, "3 of 3 trials", "1 failed", "trial-0000 (the winner)"):
        assert phrase in parsed.words, phrase
    assert {"best.toml", "../made-up-study-held-out/report.html", "tables/trials.csv"} <= set(parsed.links)

    write_index({"harmed": harmed[1], "made-up-study": study, "broken": "it is <damaged>"}, tmp_path)
    index = Parsed((tmp_path / "index.html").read_text())
    assert {link for link in index.links if "/" in link} == {"harmed/report.html", "made-up-study/report.html"}
    for phrase in (
        "1 failed",
        "no verdict (3 seeds)",
        BEATS,
        "No report: it is <damaged>",
        "2 reports; 1 could not be made",
    ):
        assert phrase in index.words, phrase
    assert not [source for source in index.loads if not source.startswith("data:")]
    assert "(made-up-study/report.md)" in (tmp_path / "index.md").read_text()


def test_a_study_without_held_out_runs_says_so():
    page = of_study.page(StudyRecord.model_validate(STUDY | {"verdict": None, "trials": []}), pd.DataFrame(), [])
    words = Parsed(render(page, ".html")).words
    assert "No trial was checked on held-out seeds yet" in words
    assert "none yet" in words


def test_an_experiment_without_trained_runs_has_a_page(tmp_path):
    everyone = {(variant, seed): "not started" for variant in ABOUT["variants"] for seed in range(3)}
    runs = made_up(everyone).runs.assign(wall_seconds=float("nan"), cohort_size=float("nan"), device=None)
    write(tmp_path / "none", results_of(MANIFEST, runs.to_dict("records")))
    words = Parsed((tmp_path / "none" / "report.html").read_text()).words
    assert "9 not started" in words
    assert "runs without a score: 9" in words
