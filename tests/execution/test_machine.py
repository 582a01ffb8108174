"""Precision of products, memory, and the folder of compiled code."""

import math
import subprocess
import sys

import pytest
import torch

from sac_bench.errors import InputError
from sac_bench.execution import machine
from sac_bench.training.replay import Replay


@pytest.fixture(autouse=True)
def as_before():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_products_labelled_float32_have_the_error_of_float32():
    machine.fastest_float32_products("cpu")
    assert machine.float32_product_error() < 1e-6


def test_products_that_are_not_float32_are_not_labelled_float32(monkeypatch):
    # A CPU with AMX uses bfloat16 internally with "medium".
    def rounded(a, b):
        if a.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium":
            return torch.matmul(a.bfloat16().float(), b.bfloat16().float())
        return torch.matmul(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    torch.set_float32_matmul_precision("medium")
    assert machine.float32_product_error() > 1e-4
    machine.fastest_float32_products("cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    assert machine.float32_product_error() < 1e-6


def test_tf32_is_used_on_cuda_only_and_only_by_its_own_runs():
    torch.set_float32_matmul_precision("highest")
    for precision, device in (("float32", "cuda"), ("bfloat16", "cuda"), ("float64", "cpu")):
        machine.use_precision(precision, device)
        assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(InputError, match="tf32 exists only on CUDA"):
        machine.use_precision("tf32", "cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    machine.use_precision("tf32", "cuda")
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/", {}, math.inf),
        ("0::/", {"memory.max": "max"}, math.inf),
        ("0::/job/step", {"job/step/memory.max": "max", "job/memory.max": "3000", "memory.max": "5000"}, 3000),
        ("0::/job/step", {"job/step/memory.max": "2000", "job/memory.max": "3000"}, 2000),
        ("4:memory:/job\n0::/", {"memory/job/memory.limit_in_bytes": "700"}, 700),
        ("4:memory:/job/step", {"memory/memory.limit_in_bytes": "600", "memory.limit_in_bytes": "1"}, 600),
        ("5:pids:/job", {"memory/job/memory.limit_in_bytes": "700", "job/memory.max": "1"}, math.inf),
        (None, {}, math.inf),
    ],
)
def test_the_memory_limit_of_a_job_is_that_of_its_control_groups(groups, files, limit, tmp_path, monkeypatch):
    if groups is not None:
        (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(f"{text}\n")
    found = machine.memory_limit(tmp_path / "groups", tmp_path / "mounted")
    assert found == limit
    monkeypatch.setattr(machine, "memory_limit", lambda: found)
    assert machine.available_memory("cpu") <= limit


GROWTH = """
import numpy as np, psutil, torch._dynamo
from sac_bench.envs.pool import Step
from sac_bench.training.replay import Replay
memory = lambda: psutil.Process().memory_info().rss / 2**20
before = memory()
replay = Replay(1, 1, 348, 17, 1_000_000)
made = memory()
observation, action = np.zeros((1, 348), np.float32), np.zeros((1, 17), np.float32)
no = np.zeros(1, bool)
replay.start(observation)
for _ in range(20_000):
    replay.add(action, Step(observation, observation, np.zeros(1, np.float32), no, no))
print(made - before, memory() - made)
"""


@pytest.mark.thorough
def test_memory_of_a_replay_grows_as_it_is_filled():
    """A million Humanoid-v5 transitions take 1.37 GiB; 20,000 of them take 28 MiB."""
    out = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True).stdout
    made, filled = map(float, out.split())
    assert made < 20
    assert 25 < filled < 60


def test_a_million_humanoid_transitions_require_at_most_the_documented_memory():
    replay = Replay(1, 1, 348, 17, 1_000_000)
    assert sum(part.nbytes for part in replay.memory().values()) <= 1.6 * 2**30


def test_compiled_code_is_private_to_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "sac-bench" / "compiled").mkdir(parents=True, mode=0o755)
    assert machine.cache_folder().stat().st_mode & 0o777 == 0o700
