"""A study of seconds, and workers inside the test's process."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from sac_bench.execution.worker import Worker
from sac_bench.store import Store
from sac_bench.tuning import training
from sac_bench.tuning.study import load
from sac_bench.tuning.tune import tune

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
    """Stands in for the engine: trains a plan's cohorts here, one after another."""

    trained: ClassVar[list[tuple[str, int]]] = []
    fails: ClassVar[list[str]] = []
    """Cohorts whose workers fail."""

    def __init__(self, plan, store, **_):
        self.plan, self.store = plan, store

    def run(self):
        for cohort in self.plan.cohorts:
            if any(spec.id in self.fails for spec in cohort.runs):
                for spec in cohort.runs:
                    self.store.run(spec.id).update(status="failed", reason="asked to")
                continue
            InProcess.trained.append((cohort.id, cohort.steps))
            Worker(self.store, cohort.id, cohort.steps, "cpu", 1).train()


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(training, "Engine", InProcess)
    monkeypatch.setattr(training, "Display", lambda *_: None)
    monkeypatch.setattr(InProcess, "trained", [])
    monkeypatch.setattr(InProcess, "fails", [])
    return InProcess


@pytest.fixture
def carry_out(in_process, tmp_path):
    """`tune` a file's study in results/ of the test's folder."""

    def run(path: Path, results: str = "results", storage: str | None = None, trials: int | None = None) -> bool:
        return tune(load(path, trials), Store(tmp_path / results), storage=storage, device="cpu", workers=1, imports=[],
                    retrain=False, console=Console(quiet=True), command="sac-bench tune")  # fmt: skip

    return run
