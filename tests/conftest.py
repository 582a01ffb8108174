"""Shared fixtures: small configs, and runs of the real command in a separate folder."""

from __future__ import annotations

import gc
import os
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from sac_bench.algorithms import ALGORITHMS
from sac_bench.execution.machine import fastest_float32_products
from tests import forked

torch.set_num_threads(1)
gc.disable()  # until everything is imported: collecting garbage in between takes a fifth of the time of collection

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Try few random cases in `make test`, and more where thorough tests run, too."""
    settings.load_profile("quick" if "not thorough" in config.option.markexpr else "thorough")


def pytest_collection_finish() -> None:
    """Leave imported modules out of every later garbage collection."""
    gc.freeze()
    gc.enable()


TINY = {
    "layers": [8],
    "batch_size": 4,
    "learning_starts": 100,
    "eval_every": 200,
    "eval_episodes": 2,
    "eval_sampled_every": 1,
    "replay_capacity": 10_000,
}


def tiny(algorithm: str = "sac", **overrides: Any) -> Any:
    """A config that trains in seconds, with the options of `TINY` that the algorithm has."""
    config = ALGORITHMS[algorithm].config
    return config.model_validate({k: v for k, v in TINY.items() if k in config.model_fields} | overrides)


@pytest.fixture
def as_workers() -> Iterator[None]:
    """Products as worker processes make them (execution/machine.py)."""
    before = torch.get_float32_matmul_precision()
    fastest_float32_products("cpu")
    yield
    torch.set_float32_matmul_precision(before)


@contextmanager
def figures_left_out() -> Iterator[None]:
    """Write reports without figures, which take most of the time."""
    from sac_bench.report import experiment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "write_figures", lambda *_: defaultdict(list))
        yield


@pytest.fixture
def without_figures() -> Iterator[None]:
    """For tests of a report's words."""
    with figures_left_out():
        yield


Command = Callable[..., "subprocess.CompletedProcess[str]"]


def sac_bench_environment(eager: bool = True) -> dict[str, str]:
    """The environment of a real command; eager, because compiling takes a minute without a warm cache."""
    environment = dict(os.environ) | {"COLUMNS": "200"}
    if eager:
        environment["TORCH_COMPILE_DISABLE"] = "1"
    return environment


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `sac-bench ...` in an empty folder, by default without drawing, and returns its exit code and output."""

    def run(*arguments: str | Path, figures: bool = False) -> subprocess.CompletedProcess[str]:
        program = forked.COMMAND if figures else forked.WITHOUT_FIGURES
        return forked.python(program, [*map(str, arguments)], cwd=tmp_path, env=sac_bench_environment(), timeout=240)

    return run


EXPERIMENT = """
name = "tiny"
question = "Does it run?"
envs = ["InvertedPendulum-v5"]
seeds = 2
steps = 400
reference = "sac"

[base]
layers = [8]
batch_size = 4
learning_starts = 100
eval_every = 200
eval_episodes = 2
utd = 0.25

[variants.sac]

[variants.v-network]
value_network = true

[sweep]
tau = [0.005, 1.0]
"""


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT)
    return path


def small(
    name: str, env: str = "InvertedPendulum-v5", seeds: int = 2, steps: int = 200, utd: float = 0.1, question: str = ""
) -> str:
    """An experiment that takes seconds, as TOML; it ends with [base]."""
    return f"""
name = "{name}"
question = "{question}"
envs = ["{env}"]
seeds = {seeds}
steps = {steps}

[base]
layers = [8]
batch_size = 4
learning_starts = 100
eval_every = 100
eval_episodes = 1
eval_sampled_every = 1
utd = {utd}
"""
