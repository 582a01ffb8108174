"""Everything that the documents name exists."""

import re
from pathlib import Path

import pytest

from sac_bench.algorithms import ALGORITHMS, catalogue
from sac_bench.spec.load import load
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
    assert (ROOT / "docs/examples/dpg.py").read_text() in text


def test_every_link_in_a_document_has_a_target():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


@pytest.mark.parametrize("document", ["README.md", "docs/experiments.md"])
def test_experiments_in_the_documents_can_be_loaded(tmp_path, document):
    block, *_ = re.findall(r"```toml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    (tmp_path / "my.toml").write_text(block)
    experiment = load(tmp_path / "my.toml")
    assert {v.algorithm for v in experiment.variants.values()} == {"sac", "td3"}


def test_the_grid_in_the_documents_can_be_loaded(tmp_path):
    _, block = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/experiments.md").read_text(), re.DOTALL)
    head = 'name = "x"\nenvs = ["Hopper-v5"]\nsteps = 20000\n[variants.sac]\n[variants.fixed-temperature]\n'
    (tmp_path / "my.toml").write_text(head + block)
    assert len(load(tmp_path / "my.toml").selection().variants) == 6
