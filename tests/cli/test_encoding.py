"""Text in every encoding that people meet: TOML from other editors, and commands in a locale without UTF-8."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sac_bench.cli.common import command_line
from sac_bench.errors import InputError
from sac_bench.spec.toml import read
from sac_bench.store.atomic import write_text
from tests.conftest import sac_bench_environment, small

PACKAGE = Path(__file__).parents[2] / "sac_bench"
QUESTION = "Läuft es? → 日本"
EXPERIMENT = small("tiny", seeds=1, question=QUESTION) + "[variants.sac]\n"


@pytest.fixture
def in_ascii(tmp_path):
    """Runs `sac-bench ...` in a locale that has only ASCII."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "sac_bench.cli.main", *arguments],
            cwd=tmp_path,
            env=sac_bench_environment() | {"LC_ALL": "C", "PYTHONUTF8": "0"},
            capture_output=True,
            encoding="ascii",  # what a terminal of this locale can show
            timeout=240,
        )

    return run


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(EXPERIMENT.encode("utf-8-sig"))
    assert read(path)["question"] == QUESTION


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (EXPERIMENT.encode("utf-16"), "must be UTF-8 text; this is UTF-16 or binary"),
        (EXPERIMENT.encode("utf-16-be"), "must be UTF-8 text; this is UTF-16 or binary"),
        (EXPERIMENT.encode("utf-32"), "must be UTF-8 text; this is UTF-16 or binary"),
        (b'name = "x"\nquestion = "L\xe4uft es?"', "must be UTF-8 text; line 2 is not"),
        (b"\xef\xbb\xbf", "the file is empty"),
    ],
)
def test_a_file_in_another_encoding_is_refused_with_a_fix(data, words, tmp_path):
    (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(InputError, match=rf"x\.toml: {words}"):
        read(tmp_path / "x.toml")


def test_invalid_characters_are_escaped_and_a_command_is_recorded_as_typed(tmp_path, monkeypatch):
    """As Python reads arguments in such a locale."""
    as_read = "größe.toml".encode().decode("ascii", "surrogateescape")
    write_text(tmp_path / "x.md", as_read)
    assert (tmp_path / "x.md").read_text(encoding="utf-8") == r"gr\udcc3\udcb6\udcc3\udc9fe.toml"
    monkeypatch.setattr("sys.argv", ["sac-bench", "run", as_read])
    assert command_line() == "sac-bench run 'größe.toml'"


@pytest.mark.thorough
def test_messages_are_shown_in_a_locale_without_utf8(in_ascii, tmp_path):
    (tmp_path / "x.toml").write_text(EXPERIMENT, encoding="utf-8")
    listed = in_ascii("list", "experiments", "--folder", ".")
    assert listed.returncode == 0, listed.stderr
    assert "\\u65e5\\u672c" in listed.stdout
    refused = in_ascii("run", "größe.toml")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.soak
def test_commands_work_in_a_locale_without_utf8(in_ascii, tmp_path):
    (tmp_path / "größe.toml").write_text(EXPERIMENT, encoding="utf-8")
    for arguments in (
        ("run", "größe.toml", "--variant", "sac", "--seeds", "1"),
        ("report",),
        ("status", "tiny"),
        ("list", "experiments", "--folder", "."),
        ("compare", "results/tiny", "results/tiny", "--out", "é.html"),
    ):
        found = in_ascii(*arguments)
        assert found.returncode == 0, (arguments, found.stderr)
        assert "Encod" not in found.stderr + found.stdout
    report = (tmp_path / "results" / "tiny" / "report.md").read_text(encoding="utf-8")
    assert QUESTION in report
    assert "sac-bench run 'größe.toml'" in report
    assert (tmp_path / "é.html").exists()


def test_every_text_file_is_opened_with_an_encoding():
    """Ruff's PLW1514 finds some of these, but skips values that it cannot infer to be paths."""
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _opens_text(call):
                given = {keyword.arg for keyword in call.keywords}
                assert "encoding" in given, f"{path}:{call.lineno}: {ast.unparse(call)}"


def _opens_text(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    opened = name in ("open", "os.fdopen") and not any("b" in mode for mode in modes)
    return opened or name.endswith((".read_text", ".write_text")) or any(k.arg == "text" for k in call.keywords)
