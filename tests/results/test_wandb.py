"""Runs for Weights & Biases, with a replacement module that records its arguments."""

import sys
from types import SimpleNamespace

import pytest

from sac_bench.errors import InputError
from sac_bench.results import wandb
from sac_bench.results.load import load_results
from tests.report.test_compare import RECORD

OPTIONS = ("WANDB_MODE", "WANDB_PROJECT")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "precision"
    folder.mkdir()
    for file in ("experiment.json", "runs.csv", "evaluations.csv", "episodes.csv", "training.csv"):
        (folder / file).write_bytes((RECORD / "precision" / file).read_bytes())
    return folder


@pytest.fixture
def started(monkeypatch):
    """What is passed to wandb.init, log and finish, one entry per run."""
    runs = []

    def init(**given):
        run = given | {"rows": [], "finished": 0}
        runs.append(run)

        def log(row, step):
            assert not run["rows"] or run["rows"][-1][0] < step  # wandb drops steps that come later
            run["rows"].append((step, row))

        def finish():
            run["finished"] += 1

        return SimpleNamespace(log=log, finish=finish)

    monkeypatch.setattr(wandb.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for option in OPTIONS:
        monkeypatch.delenv(option, raising=False)
    return runs


def test_each_run_becomes_a_wandb_run_with_its_config_and_numbers(folder, started):
    assert wandb.write_events(folder) == folder / "wandb"
    results = load_results("precision", folder.parent)
    assert [run["id"] for run in started] == list(dict.fromkeys(results.runs["run_id"]))
    assert {run["finished"] for run in started} == {1}
    row, run = results.runs.iloc[-1], started[-1]
    config = results.manifest.variants[row["variant"]].configs[row["env"]]
    assert config.items() <= run["config"].items()
    assert {run["config"][name] for name in ("variant", "env", "seed")} == {row["variant"], row["env"], row["seed"]}
    own = results.evaluations[(results.evaluations["run_id"] == row["run_id"])]
    means = own[own["policy"] == "mean"].set_index("step")["return_mean"].to_dict()
    tag = "evaluation/mean/return_mean"
    assert {step: of[tag] for step, of in run["rows"] if tag in of} == means
    assert any("training/critic_loss" in of for _, of in run["rows"])


def test_wandb_is_offline_unless_the_user_sets_a_mode(folder, started, monkeypatch):
    wandb.write_events(folder)
    assert {(run["mode"], run["project"], run["group"]) for run in started} == {("offline", "sac_bench", "precision")}
    started.clear()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    wandb.write_events(folder)
    assert {(run["mode"], run["project"]) for run in started} == {("online", "mine")}


def test_variants_that_share_a_run_share_it_in_wandb(folder, started):
    runs = load_results("precision", folder.parent).runs
    wandb.write_events(folder)
    assert len(started) == runs["run_id"].nunique()


def test_without_the_package_one_line_says_what_to_install(monkeypatch, folder):
    monkeypatch.setattr(wandb.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--track wandb requires the package wandb: pip install 'sac_bench\[wandb\]'"):
        wandb.write_events(folder)
