"""Imports load only what they need: reading results no torch, checking a file no simulator, planning no compiler."""

import subprocess
import sys

import pytest

SIMULATION = ("torch", "gymnasium", "mujoco", "envpool")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import sac_bench", ("pandas", "torch")),
        ("from sac_bench import load_results", SIMULATION),
        pytest.param("import sac_bench; sac_bench.run", ("optuna", "torch._dynamo"), marks=pytest.mark.thorough),
        pytest.param(
            "import sac_bench.execution.train", ("torch._dynamo", "torch._inductor"), marks=pytest.mark.thorough
        ),
        ("import sac_bench.spec.toml, sac_bench.spec.includes, sac_bench.spec.measures", SIMULATION),
    ],
)
def test_an_import_loads_only_the_modules_it_needs(statement, unwanted):
    program = f"{statement}; import sys; print([name for name in {unwanted!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "[]"
