"""All errors of a file are shown at once, each with its line."""

import tomllib
from pathlib import Path

import pytest

from sac_bench.errors import InputError
from sac_bench.spec.lines import key_lines
from sac_bench.spec.load import load
from sac_bench.spec.toml import read
from sac_bench.tuning import study as studies
from tests.conftest import EXPERIMENT

ROOT = Path(__file__).parents[2]
WRONG = '''\
name = "../x"
question = """
[variants.sac] = "no table"
"""
envs = [
  "Hopper-v5",
  "Waker2d-v5",
]
seeds = "0..9"
steps = 300000
refrence = "sac"

[base]
learning_start = 1000
tau = 2.0  # too large

[variants.sac]
[variants.one-q]
critics = "one"
[variants."td3"]
algorithm = "td33"
[variants.two]
critcs = 1
gama = 2

[on."Hopper-v6"]
gamma = 0.9

[sweep]
taau = [
  1,
]
'''
LINES = [
    (1, "name: '../x'", 'name = "../x"'),
    (7, "envs: unknown environment 'Waker2d-v5'", '  "Waker2d-v5",'),
    (9, "seeds: '0..9'", 'seeds = "0..9"'),
    (11, "refrence: unknown key; did you mean 'reference'?", 'refrence = "sac"'),
    (14, "[base] learning_start: sac has no such option", "learning_start = 1000"),
    (15, "[base]: tau: input should be less than or equal to 1, not 2.0", "tau = 2.0  # too large"),
    (19, "[variants.one-q]: critics: input should be a valid integer, not 'one'", 'critics = "one"'),
    (21, "[variants.td3] algorithm: unknown algorithm 'td33'", 'algorithm = "td33"'),
    (23, "[variants.two] critcs: sac has no such option; did you mean 'critics'?", "critcs = 1"),
    (24, "[variants.two] gama: sac has no such option; did you mean 'gamma'?", "gama = 2"),
    (26, "[on.Hopper-v6]: must be one of envs", '[on."Hopper-v6"]'),
    (30, "[sweep] taau: sac has no such option", "taau = ["),
]


def refused(path, **options):
    with pytest.raises(InputError) as error:
        load(path, **options)
    return error.value.parts


def test_all_errors_of_a_file_are_reported_in_order_with_their_lines(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG)
    parts = refused(path)
    assert len(parts) == len(LINES)
    for part, (line, words, text) in zip(parts, LINES, strict=True):
        assert str(part).startswith(f"{path}:{line}: {words}")
        assert part.shown == f"{line:>5} | {text}"


def test_wrong_types_of_the_highest_level_do_not_hide_other_errors(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(
        'name = "wrong"\nenvs = ["Nope-v5"]\nseeds = "x"\nsteps = "x"\nquestion = 3\n[base]\ngama = 0.9\n[variants.sac]\n'
    )
    parts = [str(part).removeprefix(f"{path}:") for part in refused(path)]
    starts = ["2: envs: unknown", "3: seeds: 'x'", "4: steps: input", "5: question: input", "7: [base] gama: sac"]
    assert [part[: len(start)] for part, start in zip(parts, starts, strict=True)] == starts


def test_errors_in_included_files_and_in_quick_are_reported_at_their_lines(tmp_path):
    (tmp_path / "_common.toml").write_text("# shared\n[base]\nlayers = [8]\ngama = 0.9\n")
    path = tmp_path / "mine.toml"
    text = EXPERIMENT.replace("[base]", '\ncommon = "_common.toml"\n[base]\ngamma = -1\n', 1)
    path.write_text(text + "\n[quick.base]\ngamma = -2\n")
    line = text.splitlines().index("gamma = -1") + 1
    common = f"{tmp_path / '_common.toml'}:4: [base] gama: "
    assert [str(part).startswith(common) for part in refused(path)] == [True, False]
    assert str(refused(path)[1]).startswith(f"{path}:{line}: [base]: gamma: ")
    assert refused(path, quick=True)[1].shown.endswith(" | gamma = -2")


def test_errors_of_command_line_options_are_reported_without_a_line(experiment_file):
    (error,) = refused(experiment_file, seeds="0..9")
    assert str(error).startswith(f"{experiment_file}: seeds: ")
    first, second = refused(experiment_file, settings=["tau=3", "gamma=7"])
    assert str(first).startswith(f"{experiment_file}: --set: ")
    assert str(second).startswith(f"{experiment_file}: --set: ")


def test_invalid_toml_is_reported_with_its_line(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('name = "x"\nsteps = 1 2\n')
    with pytest.raises(InputError, match=r"x\.toml:2: not valid TOML: ") as error:
        read(path)
    assert error.value.shown == "    2 | steps = 1 2"


def test_a_study_loaded_as_an_experiment_or_vice_versa_names_the_right_command(experiment_file):
    with pytest.raises(InputError, match="this is an experiment; run it with sac-bench run "):
        studies.load(experiment_file)
    with pytest.raises(InputError, match="this is a study; run it with sac-bench tune "):
        load(ROOT / "experiments/tuning/sac-quick.toml")


def keys(table, above=()):
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from keys(value, (*above, key))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.toml")), ids=lambda path: path.stem)
def test_the_line_of_each_key_contains_the_key(path):
    text = path.read_text()
    known, lines = key_lines(text), text.splitlines()
    found = [key for key in keys(tomllib.loads(text)) if ".".join(key) in known]
    assert len(found) == len(known)
    for key in found:
        line = lines[known[".".join(key)] - 1]
        assert line.startswith("[") or "=" in line
        assert key[-1].split(".")[0] in line
