"""The command as users type it: real processes, real environments."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sac_bench
from sac_bench.execution.plan import make_plan, write
from sac_bench.execution.worker import Worker
from sac_bench.spec.includes import files
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from sac_bench.training.flops import arithmetic
from tests.conftest import sac_bench_environment
from tests.execution.test_faults import comparable

FILES = [
    "runs.csv",
    "evaluations.csv",
    "episodes.csv",
    "training.csv",
    "report.md",
    "experiment.json",
    "tables/final.csv",
    "tables/final.md",
    "tables/final.tex",
    "figures/curves-InvertedPendulum-v5.svg",
    "figures/curves-InvertedPendulum-v5.png",
    "figures/final.png",
    "figures/sensitivity-tau.svg",
]


@pytest.mark.thorough
def test_a_plan_says_which_environments_are_on_which_backend(command):
    dry = command("run", "backends", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "\nbackends: EnvPool (HalfCheetah-v5), Gymnasium (gymnasium:HalfCheetah-v5)\n" in dry.stdout


@pytest.mark.thorough
def test_an_experiment_runs_from_its_file_to_its_figures(command, experiment_file, tmp_path):
    dry = command("run", experiment_file, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    title, total, runs, *_ = dry.stdout.splitlines()
    assert title == "tiny: Does it run?"
    assert total.startswith("total: 6 runs in ")
    assert total.endswith(" (rough estimate)")
    assert runs == "runs: 6 new, 0 reused, 0 to be continued"
    assert not (tmp_path / "results").exists()

    first = command("run", experiment_file, figures=True)
    assert first.returncode == 0, first.stderr + first.stdout
    folder = tmp_path / "results" / "tiny"
    assert not [name for name in FILES if not (folder / name).stat().st_size]
    results = sac_bench.load_results("tiny", tmp_path / "results")
    assert set(results.runs["status"]) == {"finished"}
    assert len(results.runs) == 8
    assert list(results.evaluations.columns) == [
        "run_id",
        "variant",
        "env",
        "seed",
        "step",
        "policy",
        "return_mean",
        "return_std",
        "length_mean",
        "episodes",
        "wall_seconds",
        "updates",
        "flops",
    ]
    # The FLOPs of acting and updating are those that torch counts (tests/training/test_flops.py).
    last = results.evaluations[results.evaluations["step"] == 400].drop_duplicates("run_id").set_index("run_id")
    for run_id, row in last.iterrows():
        spec = Store(tmp_path / "results").run(run_id).spec()
        assert row["updates"] == spec.config.updates_due(400) > 0
        assert row["flops"] == arithmetic(spec.algorithm, spec.config, spec.env).after(400, row["updates"]) > 0
    assert (results.evaluations.query("step == 0")[["updates", "flops"]] == 0).all().all()
    assert set(results.evaluations["policy"]) == {"mean", "sample"}
    assert set(results.evaluations["step"]) == {0, 200, 400}
    # In InvertedPendulum every step survived is worth 1: returns are lengths, and rows are their episodes' means.
    np.testing.assert_allclose(results.episodes["return"], results.episodes["length"] - 1, atol=1)
    means = results.episodes.groupby(["run_id", "variant", "step", "policy"])["return"].mean()
    rows = results.evaluations.set_index(["run_id", "variant", "step", "policy"])["return_mean"]
    np.testing.assert_allclose(rows.sort_index(), means.sort_index())
    trained = results.training[results.training["step"] > 0]
    assert trained[["critic_loss", "q", "temperature", "entropy", "saturation"]].notna().all().all()
    assert not list((tmp_path / "results" / "cohorts").glob("*/rows-*"))

    again = command("run", experiment_file)
    assert again.returncode == 0
    assert "0 new, 6 reused" in again.stdout
    shared = tmp_path / "shared.toml"
    shared.write_text(
        experiment_file.read_text()
        .replace('"tiny"', '"shared"')
        .replace("[variants.v-network]\nvalue_network = true\n", "")
    )
    other = command("run", shared)
    assert other.returncode == 0
    assert "0 new, 4 reused" in other.stdout

    status = command("status", "tiny")
    assert status.returncode == 0
    assert "8 finished" in status.stdout
    (folder / "report.md").unlink()
    assert command("report", "tiny").returncode == 0
    assert "| sac (reference)" in (folder / "report.md").read_text()

    policy = sac_bench.load_policy(results.runs["run_id"][0], tmp_path / "results")
    assert policy.steps == 400
    action = policy.act(np.zeros(4))
    assert action.shape == (1,)
    assert (np.abs(action) <= 3).all()
    assert policy.act(np.zeros((5, 4)), sample=True).shape == (5, 1)
    np.testing.assert_array_equal(action, policy.act(np.zeros(4)))


def steps_of(results: Path) -> list[int]:
    """The steps of the runs of a results folder."""
    return [json.loads(path.read_text())["steps"] for path in results.glob("runs/*/status.json")]


def killed_after_a_segment(experiment_file: Path, tmp_path: Path, results: str) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sac_bench.cli.main",
            "run",
            str(experiment_file),
            "--results",
            results,
            "--variant",
            "sac",
            "--steps",
            "600",
            "--workers",
            "1",
        ],
        cwd=tmp_path,
        env=sac_bench_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (steps := steps_of(tmp_path / results)) or min(steps) == 0:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-f", f"execution.worker {results} "], capture_output=True, text=True).stdout
    assert workers
    for pid in [*map(int, workers.split()), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def trained_at_once(experiment_file: Path, results: Path) -> None:
    """Train the same in this process, without an interruption."""
    store = Store(results)
    plan = make_plan(load(experiment_file, variants=["sac"], steps=600), store, 1, 8e9)
    write(plan, store)
    for cohort in plan.cohorts:
        Worker(store, cohort.id, cohort.steps, "cpu", 1).train()


def test_a_killed_and_continued_run_is_bit_identical(command, experiment_file, tmp_path, as_workers, monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    killed_after_a_segment(experiment_file, tmp_path, "killed")
    assert all(0 < steps < 600 for steps in steps_of(tmp_path / "killed"))
    resumed = command(
        "run", experiment_file, "--results", "killed", "--variant", "sac", "--steps", "600", "--workers", "1"
    )
    assert resumed.returncode == 0, resumed.stderr + resumed.stdout
    assert "0 new, 0 reused, 2 to be continued" in resumed.stdout
    assert "2 finished" in resumed.stdout
    trained_at_once(experiment_file, tmp_path / "straight")
    ours, theirs = (comparable(tmp_path / folder) for folder in ("killed", "straight"))
    assert len(ours) == 8
    assert ours == theirs


@pytest.mark.soak
def test_finished_runs_with_kept_replays_can_continue(command, experiment_file, tmp_path):
    short = ["--variant", "sac", "--seeds", "1"]
    assert command("run", experiment_file, *short, "--keep-replay").returncode == 0
    more = command("run", experiment_file, *short, "--steps", "600")
    assert more.returncode == 0, more.stderr
    assert "0 new, 0 reused, 1 to be continued" in more.stdout
    refused = command("run", experiment_file, *short, "--steps", "800", "--dry-run")
    assert refused.returncode == 2
    assert "--retrain" in refused.stderr


MY_ENVIRONMENT = """
import gymnasium, numpy as np
class Line(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    steps = 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}
    def step(self, action):
        self.steps += 1
        if FAIL: raise RuntimeError("the line broke at [/tmp/x]")
        self.x = np.clip(self.x + action, -9, 9).astype(np.float32)
        return self.x, -float(abs(self.x[0])), False, False, {}
gymnasium.register("Line-v0", Line, max_episode_steps=20)
"""


@pytest.mark.soak
def test_a_user_defined_environment_can_be_imported(command, experiment_file, tmp_path):
    (tmp_path / "mine.py").write_text(MY_ENVIRONMENT.replace("FAIL", "False"))
    ran = command("run", experiment_file, "--env", "gymnasium:Line-v0", "--import", "mine", "--variant", "sac")
    assert ran.returncode == 0, ran.stderr + ran.stdout


@pytest.mark.soak
def test_a_user_defined_algorithm_can_be_imported(command, experiment_file, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "own_algorithm.py"
    (tmp_path / "own_algorithm.py").write_text(example.read_text())
    own = experiment_file.read_text().split("[variants.v-network]")[0] + '[variants.mine]\nalgorithm = "dpg"\n'
    experiment_file.write_text(own)
    ran = command("run", experiment_file, "--import", "own_algorithm")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    runs = sac_bench.load_results("tiny", tmp_path / "results").runs.groupby("algorithm")["status"].unique()
    assert {name: list(found) for name, found in runs.items()} == {"sac": ["finished"], "dpg": ["finished"]}
    assert "2 finished" in command("status", experiment_file, "--import", "own_algorithm").stdout


@pytest.mark.thorough
def test_a_failed_worker_is_reported_and_counted_with_exit_code_1(command, experiment_file, tmp_path):
    # It fails after more steps than a check of it takes, so the input looks right.
    (tmp_path / "mine.py").write_text(MY_ENVIRONMENT.replace("FAIL", "self.steps > 15"))
    ran = command(
        "run",
        experiment_file,
        "--env",
        "gymnasium:Line-v0",
        "--env",
        "InvertedPendulum-v5",
        "--import",
        "mine",
        "--variant",
        "sac",
    )
    assert ran.returncode == 1, ran.stderr + ran.stdout
    assert "the line broke at [/tmp/x]" in ran.stdout
    runs = sac_bench.load_results("tiny", tmp_path / "results").runs.groupby("env")["status"].unique()
    assert runs["gymnasium:Line-v0"].tolist() == ["failed"]
    assert runs["InvertedPendulum-v5"].tolist() == ["finished"]
    assert "failed" in (tmp_path / "results" / "tiny" / "report.md").read_text()


BAD = [
    (["run", "nothing.toml"], "nothing.toml: no such file"),
    (["run", "tinny.toml"], "did you mean 'tiny.toml'"),
    (["run", "tiny.toml", "--device", "tpu"], "--device tpu: must be auto, cpu or cuda"),
    (["run", "tiny.toml", "--device", "cuda"], "no CUDA device"),
    (["run", "tiny.toml", "--variant", "vnetwork"], "did you mean 'v-network'"),
    (["run", "tiny.toml", "--env", "Hoper-v5"], "did you mean 'Hopper-v5'"),
    (["run", "tiny.toml", "--env", "gymnasium:CartPole-v0"], "only continuous ones"),  # with a warning of Gymnasium's
    (["run", "tiny.toml", "--set", "tau=nan"], "tau"),
    (["run", "tiny.toml", "--workers", "0"], "workers: must be between 1 and 1024, not 0"),
    (["run", "tiny.toml", "--steps", "100"], "allows no update"),
    (["run", "tiny.toml", "--import", "nosuchmodule"], "--import nosuchmodule"),
    (["run", "tiny.toml", "--import", "broken"], "--import broken: ZeroDivisionError"),
    (["run", "tiny.toml", "--import", ".x"], "--import .x"),
    (["run", "tiny.toml", "--seeds", "x"], "seeds: 'x' must be a number, a list of seeds or a range"),
    (["run", "tiny.toml", "--sedes", "3"], "--sedes"),
    (["run"], "Missing argument"),
    (["rnu", "tiny.toml"], "rnu"),
    (["run", "tiny.toml", "--results", "x" * 300], "File name too long"),
    (["list", "--folder", "nowhere"], "no such folder"),
    (["run", "tiny.toml", "--results", "tiny.toml/x"], "not a folder"),
    (["run", "tiny.toml", "--name", "../x"], "not a plain name"),
    (["run", "tiny.toml", "--results", "/proc/nowhere"], "--results /proc/nowhere: cannot be written to"),
    (["status", "tinny"], "tinny: no such experiment or result in results"),
    (["report", "tinny"], "tinny: no such experiment or result in results"),
    (["report"], "has no results yet"),
    (["report", "tiny", "--all"], "give names or --all, not both"),
    (["gc", "--results", "nowhere"], "--results nowhere: no runs there"),
    (["list", "enviroments"], "did you mean 'environments'"),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda a: " ".join(a) if isinstance(a, list) else "")
def test_bad_input_gives_one_line_and_exit_code_2_and_writes_nothing(
    arguments, words, command, experiment_file, tmp_path
):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    (tmp_path / "broken.py").write_text("1 / 0")
    before = sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts)
    refused = command(*arguments)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts) == before


@pytest.mark.thorough
def test_list_shows_every_option_with_its_default_and_source(command):
    listed = command("list", "sac")
    assert listed.returncode == 0
    assert "sac-bench list sac" in command("list", "algorithms").stdout
    for word in ("target_entropy_scale", "0.005", "1812.05905"):
        assert word in listed.stdout


@pytest.mark.thorough
def test_list_shows_experiments_and_environments(command, tmp_path):
    shipped = Path(__file__).parents[2] / "experiments"
    listed = command("list", "experiments", "--folder", shipped)
    assert all(path.stem in listed.stdout for path in files([shipped]))
    assert "not valid" not in listed.stdout
    assert "HalfCheetah-v5" in command("list", "environments").stdout


@pytest.mark.thorough
def test_without_a_compiler_one_line_says_so_and_training_is_eager(experiment_file, tmp_path):
    environment = sac_bench_environment(eager=False) | {"PATH": "/nowhere", "CXX": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "sac_bench.cli.main", "run", str(experiment_file), "--variant", "sac", "--seeds", "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert ran.stdout.count("no C++ compiler") == 1
    assert not sac_bench.load_results("tiny", tmp_path / "results").runs["compiled"].any()


@pytest.mark.thorough
def test_damaged_results_are_reported_in_one_line(command, experiment_file, tmp_path):
    folder = tmp_path / "results" / "tiny"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{")
    for arguments in (["report"], ["report", "tiny"], ["status", "tiny"]):
        refused = command(*arguments)
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False), refused.stderr
    (folder / "experiment.json").unlink()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    refused = command("run", experiment_file)
    assert refused.returncode == 2
    assert "is not a folder" in refused.stderr
    assert not (tmp_path / "results" / "runs").exists()
