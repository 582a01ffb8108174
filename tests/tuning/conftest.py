"""A study that takes seconds, and workers inside the test's process."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from sac_bench.algorithms import ALGORITHMS
from sac_bench.execution import train
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.worker import Worker
from sac_bench.execution.worker_options import Workers
from sac_bench.store.atomic import write_json
from sac_bench.store.store import Store
from sac_bench.tuning import report
from sac_bench.tuning import tune as tuning
from sac_bench.tuning.study import load

STUDY = """
name = "tiny-study"
envs = ["InvertedPendulum-v5"]
seeds = 1
steps = 300
rungs = [100, 200]
trials = 4
batch = 2
pruner = "successive-halving"
reduction = 2

[base]
layers = [8]
batch_size = 4
learning_starts = 90
eval_every = 100
eval_episodes = 1
utd = 0.1

[space]
actor_lr = { type = "float", low = 1e-4, high = 1e-2, log = true }
target_period = { type = "int", low = 1, high = 4 }
activation = { type = "categorical", choices = ["relu", "tanh"] }

[held_out]
top = 1
seeds = 2
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


class InProcess:
    """Replaces the engine: trains a plan's cohorts in this process, one after another."""

    trained: ClassVar[list[tuple[str, int]]] = []
    fails: ClassVar[list[str]] = []
    """Runs whose workers fail."""
    diverge: ClassVar[list[str]] = []
    """Runs that diverge at once, if training is simulated."""

    def __init__(self, plan, store, **_):
        self.plan, self.store = plan, store

    def run(self):
        for cohort in self.plan.cohorts:
            if any(spec.id in self.fails for spec in cohort.runs):
                for spec in cohort.runs:
                    self.store.run(spec.id).update(status="failed", reason="asked to")
                continue
            InProcess.trained.append((cohort.id, cohort.steps))
            self.train(cohort)

    def train(self, cohort):
        Worker(self.store, cohort.id, cohort.steps, "cpu", 1).train()


class Pretended(InProcess):
    """Simulates training: a run's return at any step is known."""

    @staticmethod
    def returned(spec, steps):
        return 1e6 * spec.config.actor_lr + steps + spec.seed

    def train(self, cohort):
        directory = CohortDirectory(self.store.cohort(cohort.id))
        for spec in cohort.runs:
            run = self.store.run(spec.id)
            steps = 100 if spec.id in self.diverge else cohort.steps
            for step in range(run.status()["steps"] + 100 * bool(run.status()["steps"]), steps + 1, 100):
                row = {"step": step, "return_mean": self.returned(spec, step), "return_std": 0.0}
                row |= {"length_mean": 1.0, "episodes": 1, "wall_seconds": 1.0}
                scored_by = ALGORITHMS[spec.algorithm].scored_by
                other = {"return_mean": -row["return_mean"], "policy": "sample" if scored_by == "mean" else "mean"}
                run.append("evaluations", [row | {"policy": scored_by}, row | other])
            more = {"steps": steps, "wall_seconds": steps / 100, "cohort_size": len(cohort.runs), "cohort": cohort.id}
            run.end("diverged" if spec.id in self.diverge else "finished", **more)
        if directory.plan()["keep_replay"]:
            write_json(directory.path / "checkpoint-000000000100.json", {"files": {}})
        else:
            directory.drop_replay()


@pytest.fixture
def in_process(monkeypatch):
    """Use real training, inside this process."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(train, "Engine", InProcess)
    monkeypatch.setattr(train, "Display", lambda *_: None)
    for name in ("trained", "fails", "diverge"):
        monkeypatch.setattr(InProcess, name, [])
    return InProcess


@pytest.fixture
def pretended(in_process, monkeypatch):
    """Use simulated training and no figures."""
    monkeypatch.setattr(train, "Engine", Pretended)
    monkeypatch.setattr(tuning, "write_experiment_report", lambda folder: None)
    monkeypatch.setattr(report, "write_figures", lambda about, folder: [])
    return Pretended


@pytest.fixture
def carry_out(in_process, tmp_path):
    """A function that tunes a file's study in the test's folder."""

    def run(path: Path, results: str = "results", storage: str | None = None, trials: int | None = None) -> bool:
        return tuning.tune(
            load(path, trials),
            Store(tmp_path / results),
            Workers("cpu", 1),
            storage=storage,
            retrain=False,
            console=Console(quiet=True),
            command="sac-bench tune",
        )

    return run
