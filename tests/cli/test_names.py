"""Experiments by name, from any folder, and from a wheel."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from sac_bench.algorithms import ALGORITHMS
from sac_bench.cli import listing, main
from sac_bench.cli.common import app, result_at, result_name, whole_number
from sac_bench.cli.init import copy
from sac_bench.cli.inspect import _complete_listed
from sac_bench.errors import InputError
from sac_bench.spec import names
from sac_bench.spec.load import load
from sac_bench.spec.names import SHIPPED_FOLDER, find, find_all, known
from sac_bench.tuning import study
from tests.conftest import EXPERIMENT, sac_bench_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ablation-quick", "ablation-quick.toml"),
        ("claims/two-qs", "claims/two-qs.toml"),
        ("two-qs", "claims/two-qs.toml"),
        ("experiments/claims/two-qs.toml", "claims/two-qs.toml"),
        ("tuning/sac-quick", "tuning/sac-quick.toml"),
    ],
)
def test_names_work_in_any_folder(name, file, elsewhere):
    assert find_all([name]) == [SHIPPED_FOLDER / file]
    assert set(find_all(["claims"])) == set((SHIPPED_FOLDER / "claims").glob("[!_]*.toml"))


def test_a_path_comes_before_a_name_and_own_experiments_before_shipped_ones(elsewhere):
    (elsewhere / "ablation-quick").write_text("")
    assert find_all(["ablation-quick"]) == [Path("ablation-quick")]
    (elsewhere / "claims").mkdir()  # without experiments
    assert SHIPPED_FOLDER / "claims/two-qs.toml" in find_all(["claims"])
    (elsewhere / "experiments").mkdir()
    (elsewhere / "experiments/two-qs.toml").write_text(EXPERIMENT)
    assert find("two-qs") == Path("experiments/two-qs.toml")
    assert known()["two-qs"] == Path("experiments/two-qs.toml")


@pytest.mark.parametrize(("name", "near"), [("ablaton-quick", "'ablation-quick'"), ("claims/twoqs", "'claims/two-qs'")])
def test_an_unknown_name_is_refused_with_similar_names(name, near, elsewhere):
    for look_up in (find, lambda one: find_all([one])):
        with pytest.raises(InputError, match=f"no such .*did you mean {near}.*sac-bench list"):
            look_up(name)
    with pytest.raises(InputError, match="_common"):
        find("_common")


def test_results_may_have_the_name_without_its_folder(tmp_path):
    assert result_name("claims/two-qs", tmp_path) == "claims/two-qs"
    (tmp_path / "two-qs").mkdir()
    (tmp_path / "two-qs/experiment.json").write_text("{}")
    assert result_name("claims/two-qs", tmp_path) == result_name("two-qs", tmp_path) == "two-qs"


def test_a_copied_experiment_can_be_loaded_with_its_common_files(elsewhere):
    assert copy("hard-targets", "mine") == [
        Path("experiments/claims/mine.toml"),
        Path("experiments/claims/_common.toml"),
        Path("experiments/_sac-v1.toml"),
    ]
    assert load(find("mine")).name == "mine"
    claims = find_all(["claims"])  # the copy is one of them and hides none of the package's
    assert Path("experiments/claims/mine.toml") in claims
    assert {SHIPPED_FOLDER / "claims/hard-targets.toml", SHIPPED_FOLDER / "claims/two-qs.toml"} <= set(claims)
    assert [path.name for path in copy("sac-quick")] == ["sac-quick.toml", "ablation-quick.toml"]
    assert study.load(find("sac-quick")).name == "sac-quick"
    with pytest.raises(InputError, match="exists; give the copy another name: sac-bench init hard-targets NEW"):
        copy("hard-targets", "mine")


def test_a_copy_is_renamed_in_any_notation_of_its_name(elsewhere):
    folder = Path("experiments")
    folder.mkdir()
    text = (SHIPPED_FOLDER / "ablation-quick.toml").read_text()
    (folder / "quoted.toml").write_text(text.replace('name = "ablation-quick"', "name='quoted'  # a comment"))
    copy("quoted", "other")
    assert load(find("other")).name == "other"
    (folder / "nameless.toml").write_text("x = 1\n")
    with pytest.raises(InputError, match="has no line name"):
        copy("nameless", "another")


@pytest.mark.thorough
def test_lists_fit_80_columns_with_name_and_question_first(elsewhere):
    shown = StringIO()
    console = Console(file=shown, width=80, markup=False)
    rows = listing.experiments(None)
    assert not [row for row in rows if "error" in row]
    console.print(*listing.experiment_tables(rows), listing.options_table("sac", listing.algorithm_options("sac")))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 520
    (line,) = [line for line in lines if "ablation-hopper" in line]
    assert line.split()[:3] == ["ablation-hopper", "Which", "part"]
    assert line.endswith(" 80   1,000,000 ")
    assert not [name for name in known() if f" {name.rpartition('/')[2]} " not in shown.getvalue()]
    assert "…" not in shown.getvalue()


@pytest.mark.thorough
def test_list_shows_one_line_or_two_per_experiment_and_then_what_else_it_lists(elsewhere):
    shown = StringIO()
    Console(file=shown, width=80, markup=False).print(*listing.overview(listing.experiments(None)))
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    assert len(lines) < 60
    own = [name for name in known() if "/" not in name]
    assert own
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in own)
    assert "two-qs" not in shown.getvalue()
    for command in ("claims", "tuning", "NAME", "sac", "results"):
        assert sum(line.startswith(f"sac-bench list {command} ") for line in lines) == 1
    counted = len([name for name in known() if name.startswith("claims/")])
    assert f"{counted} experiments; all: sac-bench run claims" in shown.getvalue()


def test_list_describes_one_experiment_a_group_or_suggests_a_name(elsewhere):
    one = CliRunner().invoke(app, ["list", "ablation-quick"], env={"COLUMNS": "80"}).output
    assert one.startswith("ablation-quick: Which part of SAC matters?")
    for fact in ("HalfCheetah-v5", "fixed-temperature", "72", "20,000 per run", "sac-bench run ablation-quick"):
        assert fact in one
    study = CliRunner().invoke(app, ["list", "sac-quick"]).output
    assert "trials" in study
    assert "sac-bench tune tuning/sac-quick --dry-run" in study
    group = CliRunner().invoke(app, ["list", "tuning"]).output
    assert "sac-humanoid" in group
    assert "two-qs" not in group
    (row,) = json.loads(CliRunner().invoke(app, ["list", "two-qs", "--json"]).output)["two-qs"]
    assert (row["name"], row["seed_range"]) == ("claims/two-qs", "8..30")
    wrong = CliRunner().invoke(app, ["list", "ablation-quik"])
    assert wrong.exit_code == 2


@pytest.mark.thorough
def test_lists_and_status_are_available_as_json(command, experiment_file):
    listed = json.loads(command("list", "experiments", "--json").stdout)["experiments"]
    (quick,) = [one for one in listed if one["name"] == "ablation-quick"]
    assert quick["envs"] == ["HalfCheetah-v5"]
    assert json.loads(command("list", "sac", "--json").stdout)["sac"][0]["option"] == "num_envs"
    state = json.loads(command("status", experiment_file, "--json").stdout)
    assert state["name"] == "tiny"
    assert {(one["variant"], one["seed"], one["status"]) for one in state["runs"]} >= {("sac", 1, "not started")}
    assert command("--version").stdout == "sac-bench 0.1.0\n"
    quiet = command("run", experiment_file, "--dry-run", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    refused = command("report", "ablation-quick")
    assert "ablation-quick: not in results yet; sac-bench run ablation-quick trains it" in refused.stderr


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def test_every_command_is_described_in_a_line_of_80_columns_the_first_ones_first():
    help_ = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    lines = help_.partition("Commands:\n")[2].splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:4] == ["list", "init", "run", "status"]
    assert len(names) == len(main.COMMANDS) + 2  # inspect has list and status, report has compare
    assert all(line.endswith(".") and "..." not in line for line in lines)


def test_results_are_found_by_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "elsewhere" / "mine"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    assert result_at("elsewhere/mine", Path("results")) == ("mine", Path("elsewhere"))
    assert result_at("elsewhere/mine/", Path("results")) == ("mine", Path("elsewhere"))
    assert result_at(str(folder), Path("results")) == ("mine", tmp_path / "elsewhere")
    assert result_at("mine", Path("results")) == ("mine", Path("results"))
    assert result_at("elsewhere/mine", Path(".")) == ("mine", Path("elsewhere"))
    assert result_at("elsewhere/mine", tmp_path) == ("mine", tmp_path / "elsewhere")
    monkeypatch.chdir(folder)
    assert result_at(".", Path("results")) == ("mine", tmp_path / "elsewhere")


def test_status_without_a_name_lists_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without = CliRunner().invoke(app, ["status"])
    assert without.exit_code == 2
    record = str(Path(__file__).parents[2] / "results" / "record")
    listed = CliRunner().invoke(app, ["status", "--results", record])
    assert listed.exit_code == 0
    assert "ablation-quick" in listed.output
    rows = json.loads(CliRunner().invoke(app, ["status", "--json", "--results", record]).output)["results"]
    assert {"ablation-quick", "precision"} <= {row["name"] for row in rows}


def test_a_shipped_file_is_named_in_hints(elsewhere):
    assert names.typed(names.find("two-qs")) == "claims/two-qs"
    assert names.typed("mine.toml") == "mine.toml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of a new environment with the wheel. It has this interpreter's packages, but not this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("experiments", "sac_bench"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*PIP, *build], check=True, timeout=120)
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Python does not read the .pth files of folders that a .pth file names, so not that of this checkout.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment


@pytest.fixture
def run_installed(installed, tmp_path):
    """Return a function that runs the installed sac-bench, or Python code, in an empty folder."""
    own = {k: v for k, v in sac_bench_environment().items() if not k.startswith("PYTHON")}

    def run(program, *arguments):
        ran = subprocess.run(
            [installed / "bin" / program, *arguments],
            cwd=tmp_path,
            env=own,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


@pytest.mark.thorough
def test_a_wheel_finds_experiments_by_name_in_an_empty_folder(installed, run_installed, tmp_path):
    assert run_installed("python", "-c", "import sac_bench; print(sac_bench.__file__)").startswith(str(installed))
    for arguments in (["run", "ablation-quick"], ["run", "claims", "--quick"], ["tune", "tuning/sac-quick"]):
        assert "runs" in run_installed("sac-bench", *arguments, "--dry-run")
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_a_wheel_trains_an_experiment_by_name_in_an_empty_folder(run_installed, tmp_path):
    few = ["--seeds", "0,1", "--steps", "1100", "--variant", "sac", "--name", "small"]
    ran = run_installed("sac-bench", "run", "ablation-quick", *few)
    assert "results/small/report.html" in ran
    for file in ("report.html", "report.md", "figures/final.png", "tables/final.csv"):
        (tmp_path / "results/small" / file).unlink()
    assert "results/small/report.html" in run_installed("sac-bench", "report", "small")
    assert "HalfCheetah-v5" in (tmp_path / "results/small/report.md").read_text()
    assert (tmp_path / "results/small/figures/final.png").exists()
    state = json.loads(run_installed("sac-bench", "status", "small", "--json"))
    assert [(one["variant"], one["status"]) for one in state["runs"]] == [("sac", "finished")] * 2
    listed = json.loads(run_installed("sac-bench", "list", "results", "--json"))
    assert [one["name"] for one in listed["results"]] == ["small"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("300000", 300_000),
        ("1_000_000", 10**6),
        ("1,000", 1000),
        ("1e6", 10**6),
        ("2.5e5", 250_000),
        ("1M", 10**6),
        ("500k", 500_000),
        ("1.5k", 1500),
    ],
)
def test_numbers_may_have_common_suffixes_and_separators(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["1.5", "x", "-1", "", "1e-3", "M", "1e999", "0x10", "1 000"])
def test_an_invalid_whole_number_is_refused(text):
    with pytest.raises(typer.BadParameter, match="must be a whole number"):
        whole_number(text)


def test_list_completes_kinds_and_every_registered_algorithm(monkeypatch):
    assert _complete_listed("al") == ["algorithms"]
    assert _complete_listed("ablation-q") == ["ablation-quick"]
    monkeypatch.setitem(ALGORITHMS, "sacred", ALGORITHMS["sac"])
    assert _complete_listed("sac") == ["sac", "sacred", "sac-settings"]


@pytest.mark.thorough
def test_recipes_are_listed_with_their_arithmetic():
    """Within 3% of the dense products counted by hand for HalfCheetah's sizes: (4 F_a + 12 F_q) for SAC, and so on."""
    rows = {row["name"]: row for row in listing.recipes()}
    actor, critic = (17 * 256 + 256**2 + 256 * 12), (23 * 256 + 256**2 + 256)
    sac = 4 * actor + 12 * critic
    tqc_critic = 23 * 512 + 2 * 512**2 + 512 * 25
    crossq_critic = 23 * 2048 + 2048**2 + 2048
    expected = {
        "tqc": (4 * actor + 30 * tqc_critic) / sac,
        "crossq": (actor + 12 * crossq_critic + (3 * actor + 4 * crossq_critic) / 3) / sac,
        "droq": (20 * (actor + 8 * critic) + 3 * actor + 4 * critic) / sac,
        "redq": (20 * (actor + 32 * critic) + 3 * actor + 20 * critic) / sac,
    }
    for name, ratio in expected.items():
        assert rows[name]["FLOPs relative to SAC"]["HalfCheetah-v5"] == pytest.approx(ratio, rel=0.03), name
    shown = StringIO()
    Console(file=shown, width=80, markup=False).print(listing.recipes_table(rows.values()))
    assert max(map(len, shown.getvalue().splitlines())) <= 80
    assert "renorm_after = 100000" in " ".join(shown.getvalue().split())


COMPLETED = r"""
eval "$(sac-bench --show-completion bash)"
complete -p sac-bench > /dev/null || exit 1
for line in "$@"; do
    COMP_WORDS=($line)
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _sac_bench_completion sac-bench
    echo "${COMPREPLY[*]}"
done
"""


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_options_experiments_and_results(installed, tmp_path):
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "results" / "mine" / "experiment.json").write_text("{}")
    own = {k: v for k, v in sac_bench_environment().items() if not k.startswith("PYTHON")}
    own["PATH"] = f"{installed / 'bin'}:{own['PATH']}"
    lines = {
        "sac-bench ru": "run",
        "sac-bench run ablation-q": "ablation-quick",
        "sac-bench run --bud": "--budget",
        "sac-bench list clai": "claims",
        "sac-bench report m": "mine",
    }
    script = ["bash", "--norc", "-c", COMPLETED, "bash", *lines]
    ran = subprocess.run(script, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    offered = [line.split() for line in ran.stdout.splitlines()]
    assert len(offered) == len(lines)
    for wanted, found in zip(lines.values(), offered, strict=True):
        assert wanted in found, (wanted, ran.stdout)
