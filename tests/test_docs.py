"""Everything that the documents name exists."""

import json
import re
from itertools import count
from pathlib import Path
from pkgutil import resolve_name
from urllib.parse import unquote

import pytest

import sac_bench
from sac_bench.algorithms import ALGORITHMS, catalogue
from sac_bench.spec.load import load
from tests import forked
from tests.blocks import blocks, run
from tests.conftest import sac_bench_environment
from tests.mutations import BUGS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("document", ["docs/reliability.md", "docs/correctness.md", "docs/environments.md"])
def test_every_test_named_in_a_document_exists(document):
    named = re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?", (ROOT / document).read_text())
    assert named
    for file, function in named:
        (path,) = (ROOT / "tests").rglob(Path(file).name)
        assert f"def {function or 'test_'}" in path.read_text(), (file, function)


def test_every_planted_bug_has_a_row_in_the_document():
    text = (ROOT / "docs/correctness.md").read_text()
    rows = re.findall(r"^\| (.+) \| `(\S+\.py)` \| `\S+::\S+` \|$", text[text.index("## Planted bugs") :], re.MULTILINE)
    assert sorted(rows) == sorted((bug.what, bug.file) for bug in BUGS)


def test_every_planted_bug_can_be_planted():
    assert [bug.what for bug in BUGS if (ROOT / "sac_bench" / bug.file).read_text().count(bug.old) == 0] == []


def test_option_tables_in_the_documents_match_the_code():
    text = (ROOT / "docs/algorithms.md").read_text()
    assert set(re.findall(r"<!-- options: (\w+) -->", text)) == set(ALGORITHMS) - {"ddpg"}  # which is td3's
    assert catalogue.filled(text) == text, "make docs"
    assert (ROOT / "examples/own_algorithm.py").read_text() in text


SITE = ROOT / "docs/site"
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results/record").rglob("*.md")]


def prose(document):
    """The text of a document without code, which has no links or headings."""
    return re.sub(r"^```.*?^```|`[^`\n]+`", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(document):
    """The anchors of a document's headings, as code hosts and docs/site/mkdocs.yml make them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        found.add(slug if slug not in found else next(f"{slug}-{n}" for n in count(1) if f"{slug}-{n}" not in found))
    return found


def broken_links(document):
    """The relative links of a document that lead to no file, or to no heading of a document."""
    for link in re.findall(r"\]\(\s*([^)\s]+)[^)]*\)", prose(document)):
        path, _, anchor = link.partition("#")
        target = document.parent / unquote(path) if path else document
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.is_file():
            yield f"{link}: no file"  # a site has no pages for folders
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{link}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_in_a_document_has_a_target(document):
    assert list(broken_links(document)) == []


def test_a_broken_link_is_detected(tmp_path):
    (tmp_path / "b.md").write_text("# One `two`, three\n# Same\n# Same\n```\n# code\n```\n")
    document = tmp_path / "a.md"
    document.write_text(
        "[x](b.md#one-two-three) [x](b.md#same-1) [x\ny](b.md) `[x](none.md)` [x](https://example.org/none.md)\n"
        "[x](b.md#code) [x](#none) ![x](none.png) [x](../)\n"
    )
    assert [broken.partition(":")[0] for broken in broken_links(document)] == ["b.md#code", "#none", "none.png", "../"]


def test_the_sites_navigation_has_every_document():
    listed = re.findall(r"^ +- .+: (\S+\.md)$", (SITE / "mkdocs.yml").read_text(), re.MULTILINE)
    own = {str(path.relative_to(ROOT)) for path in DOCUMENTS if "results" not in path.parts}
    assert sorted(listed) == sorted({*own, "results/record/README.md"})


def test_the_reference_has_every_public_name():
    named = re.findall(r"^::: (\S+)$", (SITE / "reference.md").read_text(), re.MULTILINE)
    assert {f"sac_bench.{name}" for name in sac_bench.__all__} <= set(named)
    for name in named:
        assert resolve_name(name) is not None


@pytest.mark.parametrize("document", ["README.md", "docs/experiments.md"])
def test_experiments_in_the_documents_can_be_loaded(tmp_path, document):
    block, *_ = re.findall(r"```toml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    (tmp_path / "my.toml").write_text(block)
    experiment = load(tmp_path / "my.toml")
    assert {v.algorithm for v in experiment.variants.values()} == {"sac", "td3"}


def test_the_grid_in_the_documents_can_be_loaded(tmp_path):
    head = 'name = "x"\nenvs = ["Hopper-v5"]\nsteps = 20000\n[variants.sac]\n[variants.fixed-temperature]\n'
    (tmp_path / "my.toml").write_text(head + _block("[choose]"))
    assert len(load(tmp_path / "my.toml").selection().variants) == 6


def test_the_factorial_design_in_the_documents_can_be_loaded(tmp_path):
    (tmp_path / "my.toml").write_text('name = "x"\nenvs = ["Hopper-v5"]\nsteps = 20000\n' + _block("[factorial]"))
    assert list(load(tmp_path / "my.toml").variants) == ["base", "tau+one-q", "v+one-q", "v+tau"]


def _block(start):
    """Return the block of docs/experiments.md that starts with this line."""
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/experiments.md").read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith(start))


WITH_CODE = [document for document in DOCUMENTS if blocks(document.read_text())]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.thorough
@pytest.mark.parametrize("document", [*WITH_CODE, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_block_of_a_document_or_notebook_runs_and_shows_something(tmp_path, document):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/record").symlink_to(ROOT / "results/record")
    program = "import sys; from pathlib import Path; from tests.blocks import run; run(Path(sys.argv[1]))"
    environment = sac_bench_environment() | {"MPLBACKEND": "agg"}
    ran = forked.python(program, [str(document)], cwd=tmp_path, env=environment, timeout=280)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs(notebook):
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_a_block_that_shows_an_empty_table_is_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "```python\nimport pandas as pd\nt = pd.DataFrame()\n```\nText.\n```python\nt\n```\n"
    )
    with pytest.raises(AssertionError, match="t: an empty table"):
        run(tmp_path / "a.md")
